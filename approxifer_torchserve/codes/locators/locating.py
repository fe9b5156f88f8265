"""Codes that carry a locator."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.base import check_number
from approxifer_torchserve.codes.linear import LinearCode
from approxifer_torchserve.codes.locators.base import Locator, answer_matrix
from approxifer_torchserve.codes.locators.outlier import OutlierLocator
from approxifer_torchserve.codes.pytree import Flat, PyTree

_Located = TypeVar("_Located", bound="LocatingCode")


@dataclass(frozen=True)
class LocatingCode(LinearCode):
    """A linear code with a locator.

    Attributes:
        locator: Finds wrong answers; None for the code's default, which needs no calibration.
    """

    locator: Locator | None = field(default=None, kw_only=True, repr=False)

    locates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.locator is None:
            return
        if not isinstance(self.locator, Locator):
            raise TypeError(f"locator must be a Locator or None, got {self.locator!r}")
        reason = self.locator.fits(self)
        if reason is not None:
            raise ValueError(f"locator {self.locator!r} is for another code: {reason}")

    def with_locator(self: _Located, locator: Locator | None) -> _Located:
        """Gives the code another locator.

        Args:
            locator: The locator; None for the default.

        Returns:
            A new code.

        Raises:
            TypeError: ``locator`` is no locator.
            ValueError: It was made for another code.
        """
        return replace(self, locator=locator)

    @abstractmethod
    def default_locator(self) -> Locator:
        """Returns the locator for a code that was not calibrated."""

    def screen(self, predictions: PyTree, available: Tensor, *, batch_dims: int = 0) -> Tensor:
        """Tells which answers do not fit the others, whatever ``byzantine`` is.

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
        flat, mask = self._check(predictions, available, batch_dims)
        broken = mask & ~_finite(flat.leaves)
        kept = mask & ~broken
        locator = OutlierLocator() if self.locator is None else self.locator
        with torch.no_grad():
            answers = torch.where(kept[..., None], answer_matrix(flat.leaves), 0.0)
            scores = locator.scores(answers, kept).double()
        wrong = broken | (kept & (scores > locator.limits(kept)[:, None]))
        return wrong.reshape(*flat.batch_shape, self.num_workers).to(available.device)

    def _locate(self, predictions: Flat, available: Tensor) -> Tensor:
        answers = answer_matrix(predictions.leaves)
        wrong = available & ~_finite(predictions.leaves)
        with torch.no_grad():
            clean = torch.where((available & ~wrong)[..., None], answers, 0.0)
            for locator in self._locators():
                budget = (self.byzantine - wrong.sum(dim=1)).clamp(min=0)
                wrong = wrong | locator.locate(clean, available & ~wrong, budget)
        return wrong

    def _locators(self) -> tuple[Locator, ...]:
        """Returns who looks for wrong answers, in this order."""
        if self.locator is not None:
            return (self.locator,)
        # With few answers, or many missing, no residual is six times another: first who is far out.
        return OutlierLocator(), self.default_locator()


@dataclass(frozen=True)
class MixingCode(LocatingCode):
    """A code of the queries and of mixtures of two of them: a graph, on which a network can learn.

    Coded queries 0..K-1 are the queries, each further one is an edge between two.

    Attributes:
        share: Weight of a mixture's first query, in [0.5, 1); the second has the rest.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("share", self.share, 0.5, below=1)

    @property
    @abstractmethod
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The two queries of each mixture, the one with weight ``share`` first."""


def _finite(leaves: tuple[Tensor, ...]) -> Tensor:
    """Tells which answers are finite in every element, bool ``[batch, N+1]`` on the CPU."""
    flags = [leaf.isfinite().all(dim=2).cpu() for leaf in leaves]
    return torch.stack(flags).all(dim=0)
