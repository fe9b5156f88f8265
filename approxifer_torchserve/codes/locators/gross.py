"""Answers too large for any honest worker, told without asking the other answers.

Two gross answers can hide each other from a locator that compares answers, or make an honest one
look wrong. So a fitted locator first takes out what is several times as far from the mean answer as
any answer was that it was fitted on, and compares the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

FACTOR = 3.0
"""Times the farthest answer of the fit. Any factor from 1.5 to 4 did as well on an MNIST CNN and
a CIFAR-10 ResNet-20: other honest answers stayed below 1.1, gross ones are far above."""
BEYOND = 1e4
"""Added to the scores of gross answers, so that they are convicted before all others."""


def distance(moved: Tensor) -> Tensor:
    """Compute how far answers are from the mean.

    Args:
        moved: Deviations from the mean, float ``[..., features]``.

    Returns:
        Root mean square, ``[...]``.
    """
    return moved.square().mean(dim=-1).sqrt()


def gross(distances: Tensor, available: Tensor, limit: float) -> Tensor:
    """Tell which answers are gross.

    Args:
        distances: ``[batch, N+1]``, from ``distance``.
        available: bool ``[batch, N+1]``.
        limit: ``FACTOR`` times the largest distance of the fit; inf where none was fitted.

    Returns:
        bool ``[batch, N+1]``; none of a group in which half of the answers or more are so far off,
        since then its queries are odd and not its workers.
    """
    far = available & (distances > limit)
    return far & (2 * far.sum(dim=1) < available.sum(dim=1))[:, None]


def with_gross(scores: Tensor, distances: Tensor, wild: Tensor) -> Tensor:
    """Put gross answers above all others, the farthest first.

    Args:
        scores: ``[batch, N+1]``, of the other answers.
        distances: ``[batch, N+1]``.
        wild: bool ``[batch, N+1]``, from ``gross``.

    Returns:
        ``[batch, N+1]``.
    """
    return torch.where(wild, BEYOND + distances.log().to(scores.dtype), scores)
