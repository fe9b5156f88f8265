"""What a learnt locator sees of answers: traits of one, relations of three.

Numbers are squashed, never cut: a gross error looks gross, and small ones keep their size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COMPONENTS = 32
"""Answers with more elements are reduced to this many principal components."""
LARGEST = 1e9
"""Answers are clamped to this magnitude; larger ones look no worse."""
SHRINKAGE = 1e-3
"""Share of the diagonal in the covariance of three answers."""


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
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor
    whiten: Tensor
    partial: Tensor

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
        return cls(
            mean=mean,
            scale=scale.float(),
            basis=(vectors[:, kept] / unit[:, None]).float().contiguous(),
            whiten=variances[kept].sqrt().float().contiguous(),
            partial=(precision / precision.diagonal().sqrt() / unit[:, None]).float().contiguous(),
        )

    @property
    def width(self) -> int:
        """How many numbers describe an answer."""
        features, components = self.basis.shape
        return 2 * components + (features if features <= COMPONENTS else 0) + 3

    def whitened(self, answers: Tensor) -> Tensor:
        """Bring answers to ``[..., components]`` without correlation."""
        return (answers - self.mean) @ self.basis / self.whiten

    def __call__(self, answers: Tensor) -> Tensor:
        """Describe answers, ``[..., features]`` to ``[..., width]``."""
        moved = answers - self.mean
        small = moved.shape[-1] <= COMPONENTS
        along = moved @ self.basis
        whitened = along / self.whiten
        partial = moved @ self.partial
        spread = (whitened.square().mean(dim=-1, keepdim=True) + 1e-6).log() / 2
        worst = (partial.abs().amax(dim=-1, keepdim=True) + 1e-3).log() / 2
        energy = torch.logsumexp(answers, -1, keepdim=True) - answers.mean(-1, keepdim=True)
        parts = [squash((moved if small else along) / self.scale), squash(whitened)]
        parts += [squash(partial)] if small else []
        parts += [spread.clamp(-5, 15), worst.clamp(-5, 15), squash(energy / self.scale)]
        return torch.cat(parts, dim=-1)


@dataclass(frozen=True, eq=False)
class Relations:
    """What three answers say of each other: two queries' and their mixture's, taken for Gaussian.

    Attributes:
        partial: ``[3d, 3d]``; maps whitened answers to each element's error given all others.
        given: ``[3, 3d, d]``; to each answer's whitened error given the two others.
    """

    partial: Tensor
    given: Tensor

    @classmethod
    def fit(cls, triples: Tensor) -> Relations:
        """Fit on clean, whitened answers, ``[n, 3, d]``."""
        size = triples.shape[2]
        flat = triples.flatten(1).double()
        covariance = flat.T @ flat / len(flat)
        covariance.diagonal().add_(SHRINKAGE)
        precision = torch.linalg.inv(covariance)
        given = []
        for block in range(3):
            own = slice(block * size, (block + 1) * size)
            values, vectors = torch.linalg.eigh(precision[own, own])
            given.append(precision[:, own] @ vectors / values.sqrt())
        partial = precision / precision.diagonal().sqrt()
        return cls(partial.float().contiguous(), torch.stack(given).float())

    @property
    def width(self) -> int:
        """How many numbers describe three answers."""
        return 2 * self.partial.shape[0] + 6

    def __call__(self, first: Tensor, second: Tensor, mixture: Tensor) -> Tensor:
        """Describe whitened answers, each ``[..., d]``, to ``[..., width]``."""
        flat = torch.cat([first, second, mixture], dim=-1)
        partial = flat @ self.partial
        given = torch.stack([flat @ matrix for matrix in self.given], dim=-2)
        error = (given.square().mean(dim=-1) + 1e-6).log() / 2
        worst = partial.reshape(*partial.shape[:-1], 3, -1).abs().amax(dim=-1).clamp_min(1e-3).log()
        return torch.cat(
            [squash(partial), squash(given.flatten(-2)), error.clamp(-5, 15), worst.clamp(-5, 15)],
            dim=-1,
        )
