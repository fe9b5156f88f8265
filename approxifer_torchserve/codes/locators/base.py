"""Finding workers that lie: the interface of locators.

A locator gives each answer of a group a score: how much better "this worker is wrong" explains the
answers than "none is". It suspects the highest while it is above a threshold, takes that answer
away and looks again, so it need not know how many lie, and "none" is an answer.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.linear import LinearCode

MAX_FEATURES = 4096
"""Of longer answers this many elements, evenly spread, are looked at."""
_Restored = TypeVar("_Restored", bound="Locator")


@dataclass(frozen=True, eq=False, repr=False)
class Locator(ABC):
    """Scores of answers, and the thresholds above which a worker is suspected.

    Locators are values: equal and of one hash when their class, settings and tensors are equal.
    They compute on the CPU. A subclass is a dataclass whose fields are tensors, or what JSON holds.

    Attributes:
        thresholds: An answer whose score is above ``thresholds[m]`` is suspected when m of the
            group's answers are missing (late, or suspected before); the last entry also stands for
            more. Infinite until calibrated.

    Raises:
        TypeError: A field is of another type.
        ValueError: A field is out of range, or does not fit the others.
    """

    kind: ClassVar[str]
    """The name in files and options."""
    thresholds: tuple[float, ...] = field(default=(math.inf,), kw_only=True)

    def __post_init__(self) -> None:
        check_numbers("thresholds", self.thresholds)

    @abstractmethod
    def scores(self, answers: Tensor, available: Tensor) -> Tensor:
        """Computes how suspicious each answer is.

        Args:
            answers: float ``[batch, N+1, features]``, finite where available.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            float ``[batch, N+1]``, comparable within a group and with the thresholds; -inf where
            not available.
        """

    def settings(self) -> dict[str, object]:
        """Returns what makes this locator besides its tensors; JSON can hold it."""
        return {name: value for name, value in self._parts() if not isinstance(value, Tensor)}

    def tensors(self) -> dict[str, Tensor]:
        """Returns what was fitted, by name; empty for a locator that needs no calibration."""
        return {name: value for name, value in self._parts() if isinstance(value, Tensor)}

    @classmethod
    def restore(
        cls: type[_Restored], settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> _Restored:
        """Rebuilds a locator.

        Args:
            settings: From ``settings``, as JSON gave it back: lists stand for tuples.
            tensors: From ``tensors``, each by its name.

        Returns:
            A locator equal to the one that they are from.

        Raises:
            TypeError: A part is of another type.
            ValueError: A part is missing, unknown, out of range or does not fit the others.
        """
        check_names({part.name for part in fields(cls)}, {*settings, *tensors})
        parts: dict[str, Any] = {**settings, **tensors}
        return cls(**{name: _as_tuples(part) for name, part in parts.items()})

    @property
    def num_workers(self) -> int | None:
        """N+1 of the codes that the locator is for; None for any."""
        return None

    def fits(self, code: LinearCode) -> str | None:
        """Tells whether the locator can serve a code.

        Args:
            code: The code that is to have the locator.

        Returns:
            None, or a sentence that says what does not fit.
        """
        own = self.num_workers
        if own in (None, code.num_workers):
            return None
        return f"N+1 is {own}, the code's {code.num_workers}"

    def locate(self, answers: Tensor, available: Tensor, budget: Tensor) -> Tensor:
        """Finds wrong answers, one at a time, each time without those found before.

        Args:
            answers: float ``[batch, N+1, features]``, as for ``scores``.
            available: bool ``[batch, N+1]``, true where an answer came.
            budget: int64 ``[batch]``, how many may be found at most.

        Returns:
            bool ``[batch, N+1]``, true at answers that are suspected.
        """
        wrong = torch.zeros_like(available)
        open_rows = (budget > 0).nonzero().flatten()
        while len(open_rows):
            left = available[open_rows] & ~wrong[open_rows]
            top, worker = self.scores(answers[open_rows], left).double().max(dim=1)
            guilty = top > self.limits(left)
            open_rows, worker = open_rows[guilty], worker[guilty]
            wrong[open_rows, worker] = True
            open_rows = open_rows[wrong[open_rows].sum(dim=1) < budget[open_rows]]
        return wrong

    def limits(self, available: Tensor) -> Tensor:
        """Returns the threshold of each group.

        Args:
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            float64 ``[batch]``.
        """
        limits = torch.tensor(self.thresholds, dtype=torch.float64)
        return limits[(~available).sum(dim=1).clamp(max=len(limits) - 1)]

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

    def _parts(self) -> list[tuple[str, Any]]:
        return [(part.name, getattr(self, part.name)) for part in fields(self)]


def answer_matrix(leaves: tuple[Tensor, ...]) -> Tensor:
    """Brings all heads of an answer together.

    Args:
        leaves: Each ``[batch, N+1, features]``.

    Returns:
        float32 (float64 if a leaf is) ``[batch, N+1, all features]`` on the CPU, at most
        ``MAX_FEATURES`` of each leaf, evenly spread.
    """
    wide = any(leaf.dtype == torch.float64 for leaf in leaves)
    parts = []
    for leaf in leaves:
        step = -(-leaf.shape[2] // MAX_FEATURES) or 1
        part = leaf.detach()[..., ::step]
        parts.append(part.to(device="cpu", dtype=torch.float64 if wide else torch.float32))
    return torch.cat(parts, dim=2)


def check_names(expected: set[str], came: set[str]) -> None:
    """Checks the names of what a locator is rebuilt from.

    Args:
        expected: The names that there must be.
        came: The names that there are.

    Raises:
        ValueError: They differ.
    """
    if expected != came:
        raise ValueError(f"parts must be {sorted(expected)}, got {sorted(came)}")


def check_numbers(argument: str, values: object) -> None:
    """Checks a tuple of numbers.

    Args:
        argument: Its name, for errors.
        values: What the caller gave.

    Raises:
        TypeError: Not a tuple of numbers (a bool is none).
        ValueError: It is empty or holds NaN.
    """
    numbers = (int, float)
    if not isinstance(values, tuple) or any(
        isinstance(value, bool) or not isinstance(value, numbers) for value in values
    ):
        raise TypeError(f"{argument} must be a tuple of numbers, got {values!r}")
    if not values or any(math.isnan(value) for value in values):
        raise ValueError(f"{argument} must be numbers, one or more and not NaN, got {values!r}")


def check_tensor(argument: str, value: object, shape: tuple[int | None, ...]) -> None:
    """Checks a tensor that was fitted.

    Args:
        argument: Its name, for errors.
        value: What the caller gave.
        shape: Its shape; None for an axis of any length.

    Raises:
        TypeError: Not a floating point tensor.
        ValueError: It is of another shape, or not finite.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{argument} must be a floating point tensor, got {value!r}")
    fine = value.dim() == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, value.shape, strict=True)
    )
    if not fine or not value.isfinite().all():
        raise ValueError(
            f"{argument} must be finite and of shape {shape}, got shape {tuple(value.shape)}"
        )


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
