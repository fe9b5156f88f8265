"""What a learnt locator sees of one answer by itself.

Numbers are squashed, never cut: a gross error looks gross, and small ones keep their size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COMPONENTS = 32
"""Answers with more elements are reduced to this many principal components."""
LARGEST = 1e9
"""Answers are clamped to this magnitude; larger ones look no worse."""
SAMPLE = 20_000
"""Answers that are enough to find a quantile."""
TINY = 0.01
"""Elements smaller than all but this share of clean ones are rare: an exponent bit may be lost."""


def squash(values: Tensor) -> Tensor:
    """Keep up to 3, then grow like a logarithm, so that gross errors do not saturate a network."""
    size = values.abs()
    return torch.where(size < 3, values, values.sign() * (3 + (size.clamp_min(3) / 3).log()))


@dataclass(frozen=True, eq=False)
class Traits:
    """What can be said of one answer by itself, against clean answers of its kind.

    Attributes:
        mean: ``[features]``.
        scale: ``[]``, root mean square deviation over all elements.
        basis: ``[features, components]``, principal directions.
        whiten: ``[components]``, standard deviation along each.
        partial: ``[features, features]``; maps a deviation to each element's error given the other
            elements, in its standard deviations.
        least: ``[features]``, the magnitude that a share ``TINY`` of clean elements is below.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor
    whiten: Tensor
    partial: Tensor
    least: Tensor

    @classmethod
    def fit(cls, answers: Tensor) -> Traits:
        """Fit on clean answers, ``[n, features]``."""
        mean = answers.mean(dim=0)
        moved = (answers - mean).double()
        scale = moved.square().mean().sqrt().clamp_min(1e-6)
        # When components must be left out, no head may be lost for being small.
        unit = torch.ones_like(mean, dtype=torch.float64)
        if len(mean) > COMPONENTS:
            unit = moved.square().mean(dim=0).sqrt().clamp_min(1e-4 * scale)
        moved = moved / unit
        covariance = moved.T @ moved / len(moved)
        variances, vectors = torch.linalg.eigh(covariance)
        variances = variances.clamp_min(variances[-1] * 1e-7).clamp_min(1e-12)
        precision = (vectors / variances) @ vectors.T
        kept = slice(-COMPONENTS, None)
        some = answers[:: -(-len(answers) // SAMPLE)]
        return cls(
            mean=mean,
            scale=scale.float(),
            basis=(vectors[:, kept] / unit[:, None]).float().contiguous(),
            whiten=variances[kept].sqrt().float().contiguous(),
            partial=(precision / precision.diagonal().sqrt() / unit[:, None]).float().contiguous(),
            least=some.abs().kthvalue(math.ceil(TINY * len(some)), dim=0).values,
        )

    @property
    def elementwise(self) -> bool:
        """Whether the answers are short enough to look at each element."""
        return self.basis.shape[0] <= COMPONENTS

    @property
    def width(self) -> int:
        """How many numbers describe an answer."""
        features, components = self.basis.shape
        return 2 * components + (features if self.elementwise else 0) + 4

    def whitened(self, answers: Tensor) -> Tensor:
        """Bring answers to ``[..., components]`` without correlation."""
        return (answers - self.mean) @ self.basis / self.whiten

    def __call__(self, answers: Tensor) -> Tensor:
        """Describe answers, ``[..., features]`` to ``[..., width]``."""
        moved = answers - self.mean
        along = moved @ self.basis
        whitened = along / self.whiten
        partial = moved @ self.partial
        spread = (whitened.square().mean(dim=-1, keepdim=True) + 1e-6).log() / 2
        worst = (partial.abs().amax(dim=-1, keepdim=True) + 1e-3).log() / 2
        # An element so small hardly ever comes of honest work, unless this model's zeros are many.
        rare = (self.least / answers.abs().clamp_min(1e-30)).amax(dim=-1, keepdim=True)
        rare = rare.clamp_min(1).log() / 3
        energy = torch.logsumexp(answers, -1, keepdim=True) - answers.mean(-1, keepdim=True)
        parts = [squash((moved if self.elementwise else along) / self.scale), squash(whitened)]
        parts += [squash(partial)] if self.elementwise else []
        parts += [spread.clamp(-5, 15), worst.clamp(-5, 15), squash(energy / self.scale)]
        parts += [rare.clamp(max=5)]
        return torch.cat(parts, dim=-1)
