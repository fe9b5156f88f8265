"""ParM: sums of queries, answered by parity models that learnt to give sums of predictions.

Source: J. Kosaian, K. V. Rashmi, S. Venkataraman, "Parity Models: Erasure-Coded Resilience for
Prediction Serving Systems", SOSP 2019, arXiv 1905.00863.

The paper's: one parity, the sum of the queries; decoding by subtraction; a parity model trained to
give the sum of the predictions; and, for several losses, several parity models that learnt
different combinations (its example for K=2: X1 + X2 and X1 + 2 X2, which is what stands here).
This project's: which combinations are taken for every K and S, (i+1)^j; that all parities that came
are used, by least squares; and that decoding reads all answers of a group as one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.linear import LinearCode
from approxifer_torchserve.codes.plan import Mode
from approxifer_torchserve.codes.registry import register_code


@register_code(
    "parm",
    summary="Sums of K queries, answered by S trained parity models; exact unless late.",
    paper="Kosaian, Rashmi and Venkataraman, ParM, SOSP 2019, arXiv 1905.00863",
)
@dataclass(frozen=True)
class ParM(LinearCode):
    """Coded queries 0..K-1 are the queries; parity j is sum_i (i+1)^j X_i, with weights of its own.

    Parity j's weights are trained to answer sum_i (i+1)^j f(X_i), where f is the base model. A lost
    query's prediction is solved for from the parities that came; one that came is copied. Without
    such weights the code is of little use: it is not a code for the base model.

    L lost queries can be solved for from any L parities. Their equations are L rows and L columns
    of (i+1)^j: a generalised Vandermonde matrix, of different positive numbers i+1 and different
    exponents j >= 0. Its determinant is not 0, since a polynomial with L terms has at most L-1
    positive roots (Descartes). From fewer than L parities none of the L can be had.

    With more parities than losses their equations, each divided by its row's norm, are solved by
    least squares: a parity model is off in proportion to what it has to add up.
    """

    name: ClassVar[str] = "parm"
    mode: ClassVar[Mode] = "systematic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 2:
            raise ValueError(
                f"queries must be at least 2 to be added up, got {self.queries}: "
                f"use name='replication' for one query"
            )
        self._require_stragglers()

    @property
    def num_workers(self) -> int:
        """N+1 = K+S."""
        return self.queries + self.stragglers

    @property
    def sources(self) -> tuple[int | None, ...]:
        """For each coded query, the query that it equals; parities are none."""
        return (*range(self.queries), *(None,) * self.stragglers)

    @property
    def models(self) -> tuple[str, ...]:
        """``base`` for the queries, then ``parity``; with S > 1, ``parity0``, ``parity1``, …."""
        if self.stragglers == 1:
            return (*("base",) * self.queries, "parity")
        parities = (f"parity{j}" for j in range(self.stragglers))
        return (*("base",) * self.queries, *parities)

    def _encoding_matrix(self) -> Tensor:
        numbers = torch.arange(1, self.queries + 1, dtype=torch.float64, device="cpu")
        exponents = torch.arange(self.stragglers, dtype=torch.float64, device="cpu")
        return torch.cat(
            [
                torch.eye(self.queries, dtype=torch.float64, device="cpu"),
                numbers[None] ** exponents[:, None],
            ]
        )

    def _recoverable(self, available: Tensor) -> Tensor:
        own, parities = available[..., : self.queries], available[..., self.queries :]
        lost = self.queries - own.sum(dim=-1, keepdim=True)
        return own | (parities.sum(dim=-1, keepdim=True) >= lost)

    def _decoding_matrix(self, available: Tensor) -> Tensor:
        k = self.queries
        decoder = torch.zeros(k, self.num_workers, dtype=torch.float64, device="cpu")
        came = available[:k].nonzero().flatten()
        decoder[came, came] = 1.0
        lost = (~available[:k]).nonzero().flatten()
        if len(lost) == 0:
            return decoder
        rows = available[k:].nonzero().flatten() + k
        sums = self._encoding_matrix()[rows]
        norms = sums.norm(dim=1, keepdim=True)
        # rtol: no singular value is left out, however small; none is 0, see the class.
        inverse = torch.linalg.pinv(sums[:, lost] / norms, rtol=0.0) / norms.T
        decoder[lost[:, None], rows] = inverse
        decoder[lost[:, None], came] = -inverse @ sums[:, came]
        return decoder
