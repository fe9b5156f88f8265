"""The locator for a code that nobody calibrated: what the other answers say of each.

Answers of neighbouring coded queries are alike, so a linear smoother H predicts each from the
others; r_i / (1 - h_ii) is the error of that prediction with answer i left out, and r_i over the
root of 1 - h_ii that error in its own standard deviations (for noise alike in all answers). The
second finds one gross error for certain, whatever the nodes: |h_ij| is at most the root of
(1 - h_ii)(1 - h_jj). A worker is suspected when its residual is many times the group's median.
That finds gross faults; what "many" must be depends on the model: calibrated locators know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from approxifer_torchserve.codes.base import check_number
from approxifer_torchserve.codes.locators.base import Locator, check_numbers
from approxifer_torchserve.codes.pytree import by_pattern
from approxifer_torchserve.codes.spline import spline_weights

Smoother = Literal["spline", "least_squares"]
SMOOTHING = 1e-4
RIDGE = 0.1
RATIO = 6.0
"""Times the group's median error, where no calibration says better."""


@dataclass(frozen=True, eq=False, repr=False)
class ResidualLocator(Locator):
    """Suspects answers far from what a linear smoother of the others expects.

    Attributes:
        smoother: ``spline`` (answers lie on a smooth curve over the workers' nodes) or
            ``least_squares`` (answers are combined as the encoder combined the queries).
        rows: Of the spline: one position per worker, ``((x_0,), ..)``; else the encoding matrix.
        power: Of 1 - h_ii below r_i: 0.5, or 1 for the error with answer i left out.
        thresholds: Natural logarithm of (error / median error).
    """

    smoother: Smoother
    rows: tuple[tuple[float, ...], ...]
    power: float = 0.5
    thresholds: tuple[float, ...] = field(default=(math.log(RATIO),), kw_only=True)

    kind: ClassVar[str] = "residual"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoother not in get_args(Smoother):
            raise ValueError(f"smoother must be one of {get_args(Smoother)}, got {self.smoother!r}")
        check_number("power", self.power, 0)
        if not isinstance(self.rows, tuple) or not self.rows:
            raise TypeError(f"rows must be a tuple of rows, got {self.rows!r}")
        for row in self.rows:
            check_numbers("rows", row)
        sizes = {len(row) for row in self.rows}
        if len(sizes) > 1 or (self.smoother == "spline" and sizes != {1}):
            raise ValueError(
                f"rows must be of one length, of 1 for the spline, got lengths {sorted(sizes)}"
            )

    @property
    def num_workers(self) -> int:
        """N+1 of the code."""
        return len(self.rows)

    def scores(self, answers: Tensor, available: Tensor) -> Tensor:
        """Compares each answer's residual with the group's median.

        Args:
            answers: float ``[batch, N+1, features]``.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            float64 ``[batch, N+1]``: log of error over median error.
        """
        scores = torch.full(available.shape, -torch.inf, dtype=torch.float64)
        for came, rows in by_pattern(available):
            if len(came) < 3:
                continue
            residuals = _residuals(self.smoother, self.rows, tuple(came), self.power)
            values = answers[rows][:, came].double()
            # Each element counts by its spread in the group, robustly: a liar must not widen it.
            centre = values.median(dim=1, keepdim=True).values
            spread = (values - centre).abs().median(dim=1, keepdim=True).values
            # Not by less than a tenth of the usual: of sparse answers most elements never vary.
            least = 0.1 * spread.mean(dim=2, keepdim=True) + 1e-12
            error = (residuals @ ((values - centre) / spread.maximum(least))).square()
            size = error.mean(dim=2).clamp_min(1e-24).log() / 2
            scores[torch.tensor(rows)[:, None], came] = (
                size - size.median(dim=1, keepdim=True).values
            )
        return scores


@lru_cache(maxsize=1024)
def _residuals(
    smoother: Smoother, rows: tuple[tuple[float, ...], ...], came: tuple[int, ...], power: float
) -> Tensor:
    """Returns the matrix from the answers that came to their scaled residuals, ``[m, m]``."""
    with torch.inference_mode(False), torch.no_grad():
        matrix = torch.tensor([rows[i] for i in came], dtype=torch.float64)
        identity = torch.eye(len(came), dtype=torch.float64)
        if smoother == "spline":
            hat = spline_weights(matrix[:, 0], matrix[:, 0], SMOOTHING)
        else:
            gram = matrix @ matrix.T
            hat = gram @ torch.linalg.inv(gram + RIDGE * identity)
        return (identity - hat) / (1 - hat.diagonal()).clamp_min(1e-6).pow(power)[:, None]
