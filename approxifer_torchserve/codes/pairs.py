"""Pairs: the queries themselves, and mixtures of two; made for finding workers that lie.

This project's own. A mixture of two queries is still much like each of them, so its answer can be
checked against the two answers, and each query is looked at several times. Mixtures of all K
queries, as in ApproxIFER, resemble none of them. For a model that is linear, decoding is exact.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.locators.base import Locator
from approxifer_torchserve.codes.locators.locating import MixingCode
from approxifer_torchserve.codes.locators.residual import ResidualLocator
from approxifer_torchserve.codes.plan import Mode, Plan
from approxifer_torchserve.codes.pytree import by_pattern
from approxifer_torchserve.codes.registry import Option, register_code

SHARE = 0.6
"""A compromise: 0.5 looks at both queries alike, 0.7 mostly at the first. On CIFAR-10 with K=8, E=1
the liar is named most often at 0.6; at 0.7 plausible lies are suspected a little more often."""
FLOOR = 0.05
"""Lost queries whose equations are weaker than this count as not recoverable."""


@register_code(
    "pairs",
    summary="Queries and mixtures of two of them, 2(K+E)+S workers; exact unless late; locates.",
    paper="none",
    options=(
        Option("share", "a number in [0.5, 1)", SHARE, "Weight of a mixture's first query."),
        Option("locator", "a Locator", None, "Finds wrong answers; default: residuals."),
    ),
)
@dataclass(frozen=True)
class Pairs(MixingCode):
    """Coded queries 0..K-1 are the queries; each further one mixes two of them.

    The K+2E+S mixtures are the edges of a nearly regular graph on the queries: a ring first, then
    edges between those with the fewest, far apart. A query's own answer and one for each of its
    edges look at it. A lost query is solved for from the mixtures that hold it, by least squares.
    """

    share: float = SHARE

    name: ClassVar[str] = "pairs"
    mode: ClassVar[Mode] = "systematic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 2:
            raise ValueError(
                f"queries must be at least 2 to be mixed, got {self.queries}: "
                f"use name='replication' for one query"
            )

    @property
    def num_workers(self) -> int:
        """N+1 = 2(K+E)+S."""
        return 2 * (self.queries + self.byzantine) + self.stragglers

    @property
    def sources(self) -> tuple[int | None, ...]:
        """For each coded query, the query that it equals, or None."""
        return (*range(self.queries), *(None,) * (self.num_workers - self.queries))

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The two queries of each mixture, the one with weight ``share`` first."""
        return pair_edges(self.queries, self.num_workers - self.queries)

    def plan(self) -> Plan:
        """Returns a plan; its quorum is None where S+E losses can hit a query and its mixtures."""
        looks = 1 + min(sum(j in edge for edge in self.edges) for j in range(self.queries))
        certain = looks > self.stragglers + self.byzantine
        return Plan(
            queries=self.queries,
            num_workers=self.num_workers,
            mode=self.mode,
            systematic=self.sources,
            quorum=self.num_workers - self.stragglers if certain else None,
            note=f"each query is looked at by {looks} workers or more; its own answer is enough",
        )

    def default_locator(self) -> Locator:
        """Returns a ``ResidualLocator`` over the encoding matrix."""
        return _default_locator(self.with_locator(None))

    def _encoding_matrix(self) -> Tensor:
        matrix = torch.zeros(self.num_workers, self.queries, dtype=torch.float64, device="cpu")
        matrix[: self.queries] = torch.eye(self.queries, dtype=torch.float64)
        for row, (first, second) in enumerate(self.edges, start=self.queries):
            matrix[row, first] = self.share
            matrix[row, second] = 1 - self.share
        return matrix

    def _decoding_matrix(self, available: Tensor) -> Tensor:
        return self._solve(available)[0]

    def _recoverable(self, available: Tensor) -> Tensor:
        recoverable = available[..., : self.queries].clone().reshape(-1, self.queries)
        for came, rows in by_pattern(available.reshape(-1, self.num_workers)):
            pattern = torch.zeros(self.num_workers, dtype=torch.bool, device="cpu")
            pattern[came] = True
            recoverable[rows] = self._solve(pattern)[1]
        return recoverable.reshape(*available.shape[:-1], self.queries)

    def _solve(self, available: Tensor) -> tuple[Tensor, Tensor]:
        """Computes D, and bool ``[K]`` which queries it recovers."""
        encoder, k = self._encoding_matrix(), self.queries
        decoder = torch.zeros(k, self.num_workers, dtype=torch.float64, device="cpu")
        came = available[:k].nonzero().flatten()
        decoder[came, came] = 1.0
        recovered = available[:k].clone()
        lost = (~available[:k]).nonzero().flatten()
        rows = (available & (encoder[:, lost] != 0).any(dim=1)).nonzero().flatten()
        if len(lost) and len(rows):
            mixtures = encoder[rows]
            inverse = torch.linalg.pinv(mixtures[:, lost], rtol=FLOOR)
            decoder[lost[:, None], rows] = inverse
            decoder[lost[:, None], came] = -inverse @ mixtures[:, came]
            determined = (inverse @ mixtures[:, lost]).diagonal()
            recovered[lost] = determined > 1 - 1e-9
        return decoder, recovered


@lru_cache(maxsize=64)
def _default_locator(code: Pairs) -> Locator:
    rows = tuple(tuple(row) for row in code.encoding_matrix().tolist())
    return ResidualLocator("least_squares", rows)


@lru_cache(maxsize=64)
def pair_edges(queries: int, count: int) -> tuple[tuple[int, int], ...]:
    """Chooses the pairs of queries to mix.

    Args:
        queries: K, at least 2.
        count: How many pairs to choose.

    Returns:
        ``count`` pairs (first, second): a ring, then in turn the pair used least, of the queries
        in the fewest pairs, farthest apart in the graph so far; of two queries the one that was
        first less often comes first.
    """
    chosen: list[tuple[int, int]] = []
    if queries > 2:
        chosen = [(j, (j + 1) % queries) for j in range(min(queries, count))]
    while len(chosen) < count:
        degree = [sum(j in edge for edge in chosen) for j in range(queries)]
        used = [frozenset(edge) for edge in chosen]
        steps = _distances(queries, chosen)
        a, b = min(
            itertools.combinations(range(queries), 2),
            key=lambda p: (
                used.count(frozenset(p)),
                max(degree[p[0]], degree[p[1]]),
                degree[p[0]] + degree[p[1]],
                -steps[p[0]][p[1]],
                p,
            ),
        )
        first = [sum(edge[0] == j for edge in chosen) for j in (a, b)]
        chosen.append((a, b) if first[0] <= first[1] else (b, a))
    return tuple(chosen)


def _distances(queries: int, edges: list[tuple[int, int]]) -> list[list[int]]:
    """Counts the edges between each two queries (Floyd and Warshall); ``queries`` if apart."""
    steps = [[0 if a == b else queries for b in range(queries)] for a in range(queries)]
    for a, b in edges:
        steps[a][b] = steps[b][a] = 1
    for via, a, b in itertools.product(range(queries), repeat=3):
        steps[a][b] = min(steps[a][b], steps[a][via] + steps[via][b])
    return steps
