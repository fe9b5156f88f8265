"""A calibrated locator for any code: each answer predicted linearly from all others.

All answers of a group, one long vector, are taken for Gaussian with a covariance S fitted on clean
groups. With P the inverse of S over the answers that came and d their deviation from the mean, the
error of answer i given all others is P_ii^-1 (P d)_i, with covariance P_ii^-1; its whitened length
is the score. One inverse serves all i and, with a part of S, every pattern of missing answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.locators.base import Locator, check_numbers, check_tensor
from approxifer_torchserve.codes.locators.features import (
    FACTOR,
    distance,
    gross,
    squash,
    with_gross,
)
from approxifer_torchserve.codes.pytree import by_pattern

MAX_COMPONENTS = 24
"""Longer answers are reduced to this many directions: half of them those in which answers vary the
most, which others predict, and half the least, in which an error stands out."""
SHRINKAGE = 0.02
"""Share of the diagonal in the covariance, so that few groups cannot make it singular."""


@dataclass(frozen=True, eq=False, repr=False)
class GaussianLocator(Locator):
    """Suspects answers unlikely given the others, in units learnt from clean groups.

    Attributes:
        mean: float64 ``[N+1, features]``.
        project: float64 ``[N+1, features, components]``, whitens each worker's own answer.
        covariance: float64 ``[(N+1) components, (N+1) components]``.
        limit: Answers farther from the mean than this are gross.
    """

    mean: Tensor
    project: Tensor
    covariance: Tensor
    limit: float

    kind: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tensor("mean", self.mean, (None, None))
        workers, features = self.mean.shape
        check_tensor("project", self.project, (workers, features, None))
        size = workers * self.project.shape[2]
        check_tensor("covariance", self.covariance, (size, size))
        check_numbers("limit", (self.limit,))

    @classmethod
    def fit(cls, answers: Tensor) -> GaussianLocator:
        """Fits on clean groups; the thresholds are infinite until calibrated.

        Args:
            answers: float ``[groups, N+1, features]``.

        Returns:
            The locator.
        """
        values = answers.double()
        groups, workers, features = values.shape
        mean = values.mean(dim=0)
        moved = values - mean
        limit = FACTOR * distance(moved).max().item()
        size = min(features, MAX_COMPONENTS)
        scale = moved.square().mean(dim=0).sqrt().mean().clamp_min(1e-12)
        # When components must be left out, no head may be lost for being small.
        unit = torch.ones(features, dtype=torch.float64)
        if features > MAX_COMPONENTS:
            unit = moved.square().mean(dim=(0, 1)).sqrt().clamp_min(1e-4 * scale)
            moved, scale = moved / unit, torch.ones((), dtype=torch.float64)
        # Long answers have elements that varied in no group of the fit and will in another.
        minimum = 1e-6 if features <= MAX_COMPONENTS else 1e-3
        # Whitening keeps directions in which answers hardly vary (logits may sum to 0): an error
        # there is the easiest to see.
        variances, vectors = torch.linalg.eigh(
            torch.einsum("gwf,gwh->wfh", moved, moved) / groups
            + minimum * scale**2 * torch.eye(features, dtype=torch.float64)
        )
        kept = torch.cat([torch.arange(size // 2), torch.arange(size // 2 - size, 0) + features])
        project = (vectors / variances.sqrt()[:, None, :])[..., kept]
        whitened = squash(torch.einsum("gwf,wfc->gwc", moved, project)).flatten(1)
        project = project / unit[:, None]
        covariance = whitened.T @ whitened / groups
        shrink = SHRINKAGE + workers * size / (10 * groups)
        covariance = covariance / (1 + shrink)
        covariance.diagonal().add_(shrink / (1 + shrink))
        return cls(mean, project, covariance, limit)

    @property
    def num_workers(self) -> int:
        """N+1 of the code."""
        return self.mean.shape[0]

    def scores(self, answers: Tensor, available: Tensor) -> Tensor:
        """Computes each answer's whitened error given the others.

        Args:
            answers: float ``[batch, N+1, features]``.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            float64 ``[batch, N+1]``: log root mean square error. Were one answer wrong by any
            amount and all else Gaussian, this is its likelihood ratio, so the highest is right.
            Gross answers are above all others, and those are scored without them.
        """
        workers, size = self.mean.shape[0], self.project.shape[2]
        # Squashed, so that an element that almost never varies makes no suspect by varying once.
        moved = answers.double() - self.mean
        distances = distance(moved)
        wild = gross(distances, available, self.limit)
        whitened = squash(torch.einsum("gwf,wfc->gwc", moved, self.project))
        blocks = self.covariance.reshape(workers, size, workers, size)
        scores = torch.full(available.shape, -torch.inf, dtype=torch.float64)
        for came, rows in by_pattern(available & ~wild):
            part = blocks[came][:, :, came].reshape(len(came) * size, len(came) * size)
            precision = torch.linalg.inv(part)
            pulled = (whitened[rows][:, came].flatten(1) @ precision).unflatten(1, (-1, size))
            own = precision.reshape(len(came), size, len(came), size)
            own = own[torch.arange(len(came)), :, torch.arange(len(came))]
            error = torch.einsum("gwc,wcd,gwd->gw", pulled, torch.linalg.inv(own), pulled)
            scores[torch.tensor(rows)[:, None], came] = (error / size).clamp_min(1e-12).log() / 2
        return with_gross(scores, distances, wild)
