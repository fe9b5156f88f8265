"""What fitted locators look at: an answer by itself, three beside each other, how far off one is.

Numbers are squashed, never cut: a gross error looks gross, and small ones keep their size.

Two gross answers can hide each other from a locator that compares answers, or make an honest one
look wrong. So a fitted locator first takes out what is several times as far from the mean answer as
any answer was that it was fitted on, and compares the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from approxifer_torchserve.codes.locators.base import check_tensor

MAX_COMPONENTS = 32
"""Answers with more elements are reduced to this many principal components."""
MAX_MAGNITUDE = 1e9
"""Answers are clamped to this magnitude; larger ones look no worse."""
MAX_SAMPLE = 20_000
"""Answers that are enough to find a quantile."""
TINY = 0.01
"""Elements smaller than all but this share of clean ones are rare: an exponent bit may be lost."""
SHRINKAGE = 1e-3
"""Share of the diagonal in the covariance of three answers."""
FACTOR = 3.0
"""Times the farthest answer of the fit. Any factor from 1.5 to 4 did as well on an MNIST CNN and
a CIFAR-10 ResNet-20: other honest answers stayed below 1.1, gross ones are far above."""
BEYOND = 1e4
"""Added to the scores of gross answers, so that they are suspected before all others."""


def squash(values: Tensor) -> Tensor:
    """Keeps up to 3, then grow like a logarithm, so that gross errors do not saturate a network."""
    size = values.abs()
    return torch.where(size < 3, values, values.sign() * (3 + (size.clamp_min(3) / 3).log()))


@dataclass(frozen=True, eq=False)
class Traits:
    """What can be said of one answer by itself, against clean answers of its kind.

    Attributes:
        mean: ``[features]``, of clean answers.
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

    def __post_init__(self) -> None:
        check_tensor("mean", self.mean, (None,))
        features = len(self.mean)
        check_tensor("scale", self.scale, ())
        check_tensor("basis", self.basis, (features, None))
        check_tensor("whiten", self.whiten, (self.basis.shape[1],))
        check_tensor("partial", self.partial, (features, features))
        check_tensor("least", self.least, (features,))

    @classmethod
    def fit(cls, answers: Tensor) -> Traits:
        """Fits on clean answers, ``[n, features]``."""
        mean = answers.mean(dim=0)
        moved = (answers - mean).double()
        scale = moved.square().mean().sqrt().clamp_min(1e-6)
        # When components must be left out, no head may be lost for being small.
        unit = torch.ones_like(mean, dtype=torch.float64)
        if len(mean) > MAX_COMPONENTS:
            unit = moved.square().mean(dim=0).sqrt().clamp_min(1e-4 * scale)
        moved = moved / unit
        covariance = moved.T @ moved / len(moved)
        variances, vectors = torch.linalg.eigh(covariance)
        variances = variances.clamp_min(variances[-1] * 1e-7).clamp_min(1e-12)
        precision = (vectors / variances) @ vectors.T
        kept = slice(-MAX_COMPONENTS, None)
        some = answers[:: -(-len(answers) // MAX_SAMPLE)]
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
        return self.basis.shape[0] <= MAX_COMPONENTS

    @property
    def width(self) -> int:
        """How many numbers describe an answer."""
        features, components = self.basis.shape
        return 2 * components + (features if self.elementwise else 0) + 4

    def whitened(self, answers: Tensor) -> Tensor:
        """Brings answers to ``[..., components]`` without correlation."""
        return (answers - self.mean) @ self.basis / self.whiten

    def __call__(self, answers: Tensor) -> Tensor:
        """Describes answers, ``[..., features]`` to ``[..., width]``."""
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


@dataclass(frozen=True, eq=False)
class Relations:
    """The errors of three answers, two queries' and their mixture's, each given the two others.

    Taken for Gaussian, each answer has an error as a whole, along its components and in each
    element, where one wrong number stands out that all components would share.

    Attributes:
        partial: ``[3d, 3d]``; maps whitened answers to each component's error given all others.
        given: ``[3, 3d, d]``; to each answer's whitened error given the two others.
        element: ``[3d, 3 features]``; to each element's error given all others, in its standard
            deviations; ``[3d, 0]`` where components stand for more elements.
    """

    partial: Tensor
    given: Tensor
    element: Tensor

    def __post_init__(self) -> None:
        check_tensor("partial", self.partial, (None, None))
        size = len(self.partial)
        check_tensor("partial", self.partial, (size, size))
        check_tensor("given", self.given, (3, size, size // 3))
        check_tensor("element", self.element, (size, None))

    @classmethod
    def fit(cls, triples: Tensor, queries: Traits, mixtures: Traits) -> Relations:
        """Fits on clean answers.

        Args:
            triples: ``[n, 3, d]``, whitened by ``queries`` and ``mixtures``.
            queries: Traits of the first two answers.
            mixtures: Traits of the third answer.

        Returns:
            The relations.
        """
        size = triples.shape[2]
        flat = triples.flatten(1).double()
        covariance = flat.T @ flat / len(flat)
        covariance.diagonal().add_(SHRINKAGE)
        precision = torch.linalg.inv(covariance)
        given, element = [], [precision[:, :0]]
        for block, traits in enumerate((queries, queries, mixtures)):
            part = slice(block * size, (block + 1) * size)
            values, vectors = torch.linalg.eigh(precision[part, part])
            given.append(precision[:, part] @ vectors / values.sqrt())
            if traits.elementwise:
                out = (traits.basis / traits.whiten).double()
                power = ((out @ precision[part, part]) * out).sum(dim=1)
                element.append(precision[:, part] @ out.T / power.sqrt())
        partial = precision / precision.diagonal().sqrt()
        return cls(
            partial=partial.float().contiguous(),
            given=torch.stack(given).float(),
            element=torch.cat(element, dim=1).float(),
        )

    @property
    def width(self) -> int:
        """How many numbers describe three answers."""
        elements = self.element.shape[1]
        return 2 * self.partial.shape[0] + 6 + (elements + 3 if elements else 0)

    def __call__(self, whitened: Tensor) -> Tensor:
        """Describes three answers.

        Args:
            whitened: ``[..., 3, d]``.

        Returns:
            ``[..., width]``.
        """
        flat = whitened.flatten(-2)
        partial = flat @ self.partial
        given = torch.stack([flat @ matrix for matrix in self.given], dim=-2)
        error = (given.square().mean(dim=-1) + 1e-6).log() / 2
        parts = [squash(partial), squash(given.flatten(-2)), error.clamp(-5, 15), _largest(partial)]
        if self.element.shape[1]:
            element = flat @ self.element
            parts += [squash(element), _largest(element)]
        return torch.cat(parts, dim=-1)


def _largest(error: Tensor) -> Tensor:
    """Computes the logarithm of each answer's largest error, ``[..., 3n]`` to ``[..., 3]``."""
    size = error.reshape(*error.shape[:-1], 3, -1).abs().amax(dim=-1)
    return size.clamp_min(1e-3).log().clamp(-5, 15)


def distance(moved: Tensor) -> Tensor:
    """Computes how far answers are from the mean.

    Args:
        moved: Deviations from the mean, float ``[..., features]``.

    Returns:
        Root mean square, ``[...]``.
    """
    return moved.square().mean(dim=-1).sqrt()


def gross(distances: Tensor, available: Tensor, limit: float) -> Tensor:
    """Tells which answers are gross.

    Args:
        distances: ``[batch, N+1]``, from ``distance``.
        available: bool ``[batch, N+1]``, true where an answer came.
        limit: ``FACTOR`` times the largest distance of the fit; inf where none was fitted.

    Returns:
        bool ``[batch, N+1]``; none of a group in which half of the answers or more are so far off,
        since then its queries are odd and not its workers.
    """
    far = available & (distances > limit)
    return far & (2 * far.sum(dim=1) < available.sum(dim=1))[:, None]


def with_gross(scores: Tensor, distances: Tensor, wild: Tensor) -> Tensor:
    """Puts gross answers above all others, the farthest first.

    Args:
        scores: ``[batch, N+1]``, of the other answers.
        distances: ``[batch, N+1]``, from ``distance``.
        wild: bool ``[batch, N+1]``, from ``gross``.

    Returns:
        ``[batch, N+1]``.
    """
    return torch.where(wild, BEYOND + distances.log().to(scores.dtype), scores)
