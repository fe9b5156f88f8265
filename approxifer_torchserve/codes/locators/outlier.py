"""Whether answers fit together, for a code that nobody calibrated and that has few spare answers.

With one parity the residuals of a smoother are of one sign pattern, whoever lies: a residual
locator cannot then tell a lie from a model that is not linear (with K = 2 and one parity its
scores never vary). What is left is how far an answer is from the group's median. That shows
numbers of another size and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.locators.base import Locator
from approxifer_torchserve.codes.pytree import by_pattern

RATIO = 20.0
"""Times the median distance. Of clean groups of an MNIST CNN and a CIFAR-10 ResNet-20 (K = 2, 4, 8,
one parity) at most 0.5 % hold an answer that far away."""
NOISE = 1e-4
"""Distances below this share of the answers' size are rounding: equal queries are no suspects."""


@dataclass(frozen=True, eq=False, repr=False)
class OutlierLocator(Locator):
    """Suspects answers many times as far from the group's median as its answers usually are.

    Attributes:
        thresholds: Natural logarithm of (distance / median distance).
    """

    thresholds: tuple[float, ...] = field(default=(math.log(RATIO),), kw_only=True)

    kind: ClassVar[str] = "outlier"

    def scores(self, answers: Tensor, available: Tensor) -> Tensor:
        """Compares each answer's distance from the group's median with the others'.

        Args:
            answers: float ``[batch, N+1, features]``.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            float64 ``[batch, N+1]``: log of distance over median distance; -inf where not
            available and where fewer than three answers are.
        """
        scores = torch.full(available.shape, -torch.inf, dtype=torch.float64)
        for came, rows in by_pattern(available):
            if len(came) < 3:
                continue
            values = answers[rows][:, came].double()
            centre = values.median(dim=1, keepdim=True).values
            moved = values - centre
            spread = moved.abs().median(dim=1, keepdim=True).values
            # An element that hardly varies must not outweigh the others by varying once.
            spread = spread.maximum(spread.mean(dim=2, keepdim=True))
            noise = NOISE * centre.abs().mean(dim=2, keepdim=True) + 1e-12
            size = (moved / spread.maximum(noise)).square().mean(dim=2).clamp_min(1e-24).log() / 2
            typical = size.median(dim=1, keepdim=True).values
            # At least one unit: where all are within the noise, none is far away.
            scores[torch.tensor(rows)[:, None], came] = size - typical.clamp_min(math.log(0.5))
        return scores
