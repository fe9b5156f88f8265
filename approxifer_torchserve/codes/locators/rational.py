"""The locator of the ApproxIFER paper: a rational function through the answers.

Source: Soleymani et al., AAAI 2022, arXiv 2109.09868, Algorithms 1 and 2. For one class, P and Q of
degree K+E-1 with P(beta_i) = y_i Q(beta_i) for every answer that came vanish together where y_i is
wrong, provided that the right answers are values of a rational function with degrees below K.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.base import check_count
from approxifer_torchserve.codes.linear import LinearCode
from approxifer_torchserve.codes.locators.base import Locator, check_numbers

MAX_CLASSES = 64
"""Of answers with more elements this many, evenly spread, vote."""


@dataclass(frozen=True, eq=False, repr=False)
class RationalLocator(Locator):
    """Names exactly E workers, those that most classes name, whether any is wrong or not.

    Chebyshev polynomials stand for the paper's monomials, and the homogeneous system is solved by a
    singular value decomposition with rows brought to one scale; with monomials and a fixed constant
    coefficient, K+E beyond about 10 exhausts double precision.

    Attributes:
        nodes: Positions of the workers' nodes.
        queries: K, how many queries form a group.
        byzantine: E, how many answers may be wrong.
    """

    nodes: tuple[float, ...]
    queries: int
    byzantine: int
    thresholds: tuple[float, ...] = field(default=(-math.inf,), kw_only=True)

    kind: ClassVar[str] = "rational"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers("nodes", self.nodes)
        check_count("queries", self.queries, 1)
        check_count("byzantine", self.byzantine, 0)

    def magnitudes(self, answers: Tensor, available: Tensor) -> Tensor:
        """Computes |Q| at the workers' nodes.

        Args:
            answers: float ``[batch, N+1, classes]``.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            float64 ``[batch, classes, N+1]``, smallest where a class finds an answer wrong; inf
            where not available.
        """
        size = self.queries + self.byzantine
        nodes = torch.tensor(self.nodes, dtype=torch.float64)
        basis = torch.cos(torch.arange(size) * torch.arccos(nodes.clamp(-1, 1))[:, None])
        values = answers.double().transpose(1, 2)
        came = available[:, None, :]
        typical = torch.where(came, values.abs(), torch.nan).nanmedian(dim=2, keepdim=True)[0]
        values = values / typical.clamp_min(1e-30)
        # A huge answer must not drown the other equations.
        weight = came / torch.sqrt(1 + values**2)
        left = weight[..., None] * basis
        right = (weight * values)[..., None] * basis
        system = torch.cat([left, -right], dim=-1)
        vectors = torch.linalg.svd(system, full_matrices=True).Vh
        q = vectors[..., -1, size:] @ basis.T
        return torch.where(came, q.abs(), torch.inf)

    def scores(self, answers: Tensor, available: Tensor) -> Tensor:
        """Counts the classes that name each worker among the E with the smallest |Q|.

        Args:
            answers: float ``[batch, N+1, features]``.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            float64 ``[batch, N+1]``; ties are broken by the mean rank of |Q|.
        """
        step = -(-answers.shape[2] // MAX_CLASSES) or 1
        magnitudes = self.magnitudes(answers[..., ::step], available)
        ranks = magnitudes.argsort(dim=-1).argsort(dim=-1)
        votes = (ranks < self.byzantine).sum(dim=1).double()
        tie = ranks.double().mean(dim=1) / ranks.shape[-1]
        return torch.where(available, votes - tie, -torch.inf)

    def locate(self, answers: Tensor, available: Tensor, budget: Tensor) -> Tensor:
        """Names as many workers as the budget says, at once.

        Args:
            answers: float ``[batch, N+1, features]``.
            available: bool ``[batch, N+1]``, true where an answer came.
            budget: int64 ``[batch]``, how many to name.

        Returns:
            bool ``[batch, N+1]``, true at the workers named.
        """
        scores = self.scores(answers, available)
        ranks = scores.argsort(dim=1, descending=True).argsort(dim=1)
        return (ranks < budget[:, None]) & available

    def fits(self, code: LinearCode) -> str | None:
        """Tells whether the locator has the code's K, E and number of workers.

        Args:
            code: The code that is to have the locator.

        Returns:
            None, or what does not fit.
        """
        own = (self.queries, self.byzantine, len(self.nodes))
        theirs = (code.queries, code.byzantine, code.num_workers)
        return None if own == theirs else f"(K, E, N+1) is {own}, the code's {theirs}"
