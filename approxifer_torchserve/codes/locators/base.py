"""Finding workers that lie: the interface of locators, and codes that carry one.

A locator gives each answer of a group a score: how much better "this worker is wrong" explains the
answers than "none is". It convicts the highest while it is above a threshold, takes that answer
away and looks again, so it need not know how many lie, and "none" is an answer.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.linear import LinearCode
from approxifer_torchserve.codes.pytree import Flat, PyTree

FEATURES = 4096
"""Of longer answers this many elements, evenly spread, are looked at."""


class Locator(ABC):
    """Scores of answers and the thresholds above which a worker is convicted.

    Locators are values: equal and of one hash when their class, settings and tensors are equal.
    They compute on the CPU.

    Attributes:
        thresholds: A score above ``thresholds[m]`` convicts when m of the group's answers are
            missing (late, or convicted before); the last entry also stands for more.
    """

    kind: ClassVar[str]
    """The name in files and options."""
    thresholds: tuple[float, ...]

    @abstractmethod
    def scores(self, answers: Tensor, available: Tensor) -> Tensor:
        """Compute how suspicious each answer is.

        Args:
            answers: float ``[batch, N+1, features]``, finite where available.
            available: bool ``[batch, N+1]``.

        Returns:
            float ``[batch, N+1]``, comparable within a group and with the thresholds; -inf where
            not available.
        """

    def settings(self) -> dict[str, object]:
        """Say what makes this locator, besides its tensors.

        Returns:
            What JSON can hold.
        """
        return {"thresholds": list(self.thresholds)}

    def tensors(self) -> dict[str, Tensor]:
        """Say what was fitted.

        Returns:
            Tensors by name; empty for a locator that needs no calibration.
        """
        return {}

    @classmethod
    @abstractmethod
    def restore(cls, settings: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Locator:
        """Rebuild a locator from ``settings`` and ``tensors``."""

    def fits(self, code: LinearCode) -> str | None:
        """Tell whether the locator can serve a code.

        Args:
            code: Any linear code.

        Returns:
            None, or a sentence that says what does not fit.
        """
        return None

    def convict(self, answers: Tensor, available: Tensor, budget: Tensor) -> Tensor:
        """Find wrong answers, one at a time, each time without those found before.

        Args:
            answers: As for ``scores``.
            available: bool ``[batch, N+1]``.
            budget: int64 ``[batch]``, the most to convict.

        Returns:
            bool ``[batch, N+1]``.
        """
        wrong = torch.zeros_like(available)
        limits = torch.tensor(self.thresholds, dtype=torch.float64)
        open_rows = (budget > 0).nonzero().flatten()
        while len(open_rows):
            left = available[open_rows] & ~wrong[open_rows]
            scores = self.scores(answers[open_rows], left).double()
            missing = (~left).sum(dim=1).clamp(max=len(limits) - 1)
            top, worker = scores.max(dim=1)
            guilty = top > limits[missing]
            open_rows, worker = open_rows[guilty], worker[guilty]
            wrong[open_rows, worker] = True
            open_rows = open_rows[wrong[open_rows].sum(dim=1) < budget[open_rows]]
        return wrong

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of class, settings and tensors; equal locators have equal ones."""
        digest = hashlib.sha256(self.kind.encode())
        digest.update(json.dumps(self.settings(), sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Locator) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fingerprint[:12]})"


def answer_matrix(leaves: tuple[Tensor, ...]) -> Tensor:
    """Bring all heads of an answer together.

    Args:
        leaves: Each ``[batch, N+1, features]``.

    Returns:
        float32 (float64 if a leaf is) ``[batch, N+1, all features]`` on the CPU, at most
        ``FEATURES`` of each leaf, evenly spread.
    """
    wide = any(leaf.dtype == torch.float64 for leaf in leaves)
    parts = []
    for leaf in leaves:
        step = -(-leaf.shape[2] // FEATURES) or 1
        part = leaf.detach()[..., ::step]
        parts.append(part.to(device="cpu", dtype=torch.float64 if wide else torch.float32))
    return torch.cat(parts, dim=2)


def by_pattern(available: Tensor) -> list[tuple[list[int], list[int]]]:
    """Put groups together in which the same answers came.

    Args:
        available: bool ``[batch, N+1]``.

    Returns:
        Pairs of the answers that came and the groups, both ascending.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for row, flags in enumerate(available.tolist()):
        came = tuple(worker for worker, flag in enumerate(flags) if flag)
        found.setdefault(came, []).append(row)
    return [(list(came), rows) for came, rows in found.items()]


_Located = TypeVar("_Located", bound="LocatingCode")


@dataclass(frozen=True)
class LocatingCode(LinearCode):
    """A linear code with a locator.

    Attributes:
        locator: Finds wrong answers; None for the code's default, which needs no calibration.
    """

    locator: Locator | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            TypeError: One is of another type.
            ValueError: One is out of range, or the locator is for another code.
        """
        super().__post_init__()
        if self.locator is None:
            return
        if not isinstance(self.locator, Locator):
            raise TypeError(f"locator must be a Locator or None, got {self.locator!r}")
        reason = self.locator.fits(self)
        if reason is not None:
            raise ValueError(f"locator {self.locator!r} is for another code: {reason}")

    def with_locator(self: _Located, locator: Locator | None) -> _Located:
        """Give the code another locator.

        Args:
            locator: The locator; None for the default.

        Returns:
            A new code.

        Raises:
            TypeError: Not a locator.
            ValueError: It was made for another code.
        """
        return replace(self, locator=locator)

    @abstractmethod
    def default_locator(self) -> Locator:
        """Make the locator for a code that was not calibrated."""

    def doubt(self, predictions: PyTree, available: Tensor, *, batch_dims: int = 0) -> Tensor:
        """Tell which answers do not fit the others, whatever ``byzantine`` is.

        Detection, not location: nothing is taken away and looked at again. If any answer is named,
        one of the group is probably wrong, but with a single spare answer not always that one.

        Args:
            predictions: Leaves ``[*batch, N+1, *p]``.
            available: bool ``[*batch, N+1]`` or ``[N+1]``.
            batch_dims: Number of axes before the N+1 axis.

        Returns:
            bool ``[*batch, N+1]`` on the device of ``available``: NaN, Inf, and scores above the
            locator's threshold; without a locator, answers far outside the others.

        Raises:
            TypeError: A leaf or ``available`` is not a tensor of a fitting dtype.
            ValueError: A shape does not fit.
        """
        # Here, because locators are built on this module.
        from approxifer_torchserve.codes.locators.outlier import OutlierLocator

        flat, mask = self._check(predictions, available, batch_dims)
        broken = mask & ~_finite(flat.leaves)
        kept = mask & ~broken
        locator = OutlierLocator() if self.locator is None else self.locator
        limits = torch.tensor(locator.thresholds, dtype=torch.float64)
        missing = (~kept).sum(dim=1, keepdim=True).clamp(max=len(limits) - 1)
        with torch.no_grad():
            answers = torch.where(kept[..., None], answer_matrix(flat.leaves), 0.0)
            wrong = broken | (kept & (locator.scores(answers, kept).double() > limits[missing]))
        return wrong.reshape(*flat.batch_shape, self.num_workers).to(available.device)

    def _locate(self, predictions: Flat, available: Tensor) -> Tensor:
        answers = answer_matrix(predictions.leaves)
        wrong = available & ~_finite(predictions.leaves)
        with torch.no_grad():
            clean = torch.where((available & ~wrong)[..., None], answers, 0.0)
            for locator in self._locators():
                budget = (self.byzantine - wrong.sum(dim=1)).clamp(min=0)
                wrong = wrong | locator.convict(clean, available & ~wrong, budget)
        return wrong

    def _locators(self) -> tuple[Locator, ...]:
        """Say who convicts, in this order."""
        if self.locator is not None:
            return (self.locator,)
        from approxifer_torchserve.codes.locators.outlier import OutlierLocator

        # With few answers, or many missing, no residual is six times another: first who is far out.
        return OutlierLocator(), self.default_locator()


def _finite(leaves: tuple[Tensor, ...]) -> Tensor:
    """Tell which answers are finite in every element, bool ``[batch, N+1]`` on the CPU."""
    flags = [leaf.isfinite().all(dim=2).cpu() for leaf in leaves]
    return torch.stack(flags).all(dim=0)
