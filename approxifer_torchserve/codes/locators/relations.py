"""What three answers say of each other: two queries' and their mixture's.

Taken for Gaussian, each answer has an error given the two others: as a whole, along its components
and in each element, where one wrong number stands out that all components would share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from approxifer_torchserve.codes.locators.traits import Traits, squash

SHRINKAGE = 1e-3
"""Share of the diagonal in the covariance of three answers."""


@dataclass(frozen=True, eq=False)
class Relations:
    """The errors of three answers, each given the two others.

    Attributes:
        partial: ``[3d, 3d]``; maps whitened answers to each component's error given all others.
        given: ``[3, 3d, d]``; to each answer's whitened error given the two others.
        element: ``[3d, 3 features]``; to each element's error given all others, in its standard
            deviations; ``[3d, 0]`` where components stand for more elements.
    """

    partial: Tensor
    given: Tensor
    element: Tensor

    @classmethod
    def fit(cls, triples: Tensor, queries: Traits, mixtures: Traits) -> Relations:
        """Fit on clean answers.

        Args:
            triples: ``[n, 3, d]``, whitened by ``queries`` and ``mixtures``.
            queries: Traits of the first two answers.
            mixtures: Traits of the third.

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
        """Describe three answers.

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
    """Compute the logarithm of each answer's largest error, ``[..., 3n]`` to ``[..., 3]``."""
    size = error.reshape(*error.shape[:-1], 3, -1).abs().amax(dim=-1)
    return size.clamp_min(1e-3).log().clamp(-5, 15)
