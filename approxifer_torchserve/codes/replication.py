"""Replication: every query to several workers, the first answer or the majority's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.base import Code, check_number
from approxifer_torchserve.codes.plan import Mode, Plan
from approxifer_torchserve.codes.pytree import Flat
from approxifer_torchserve.codes.registry import Option, register_code


@register_code(
    "replication",
    summary="S+1 copies of each query, S+2E+1 with majority vote; exact, K workers for each copy.",
    paper="none",
    options=(
        Option("rtol", "a number >= 0", 1e-3, "Vote: allowed difference over largest magnitude."),
        Option("atol", "a number >= 0", 1e-4, "Vote: allowed absolute difference."),
    ),
)
@dataclass(frozen=True)
class Replication(Code):
    """r copies of each query: r = S+1, or S+2E+1 with a majority vote.

    Copies are laid out one after the other: coded query i is query i mod K. ``decode`` takes each
    query's first copy; with ``byzantine`` > 0 the first that the vote trusts, for which E+1 copies
    must agree, and without a majority it raises ``NotRecoverableError``. Answers are copied, never
    computed with, so integers work too.

    Attributes:
        rtol: Two copies agree when no element differs by more than
            ``atol + rtol * largest magnitude in the leaf``; floating point answers of two workers
            are seldom equal to the bit. Integers must be equal.
        atol: See ``rtol``.
    """

    rtol: float = 1e-3
    atol: float = 1e-4

    name: ClassVar[str] = "replication"
    mode: ClassVar[Mode] = "replicated"
    locates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("rtol", "atol"):
            check_number(argument, getattr(self, argument), 0)

    @property
    def copies(self) -> int:
        """r, how many workers get each query."""
        return self.stragglers + 2 * self.byzantine + 1

    @property
    def num_workers(self) -> int:
        """N+1 = rK."""
        return self.copies * self.queries

    @property
    def sources(self) -> tuple[int | None, ...]:
        """For each coded query, the query that it is a copy of."""
        return tuple(range(self.queries)) * self.copies

    def plan(self) -> Plan:
        """Returns a plan with ``copies``; its quorum is the worst case."""
        needed = self.copies - self.stragglers
        return Plan(
            queries=self.queries,
            num_workers=self.num_workers,
            mode=self.mode,
            systematic=self.sources,
            quorum=self.num_workers - self.stragglers,
            copies=self.copies,
            note=f"any {needed} of a query's {self.copies} copies recover that query",
        )

    def _usable(self, predictions: Flat, available: Tensor) -> Tensor:
        """Leaves out what the vote does not trust."""
        return available & ~self._locate(predictions, available) if self.byzantine else available

    def _encode(self, queries: Tensor) -> Tensor:
        return queries.repeat(1, self.copies, 1)

    def _recoverable(self, available: Tensor) -> Tensor:
        copies = available.reshape(*available.shape[:-1], self.copies, self.queries)
        return copies.sum(dim=-2) > self.byzantine

    def _decode(self, predictions: Tensor, pattern: tuple[int, ...]) -> Tensor:
        first: dict[int, int] = {}
        for worker in pattern:
            first.setdefault(worker % self.queries, worker)
        chosen = [first[query] for query in range(self.queries)]
        return predictions.index_select(1, torch.tensor(chosen, device=predictions.device))

    def _locate(self, predictions: Flat, available: Tensor) -> Tensor:
        """Flags copies that disagree with the majority; all of a query's when there is none."""
        batch = available.shape[0]
        copies = available.reshape(batch, self.copies, self.queries)
        # [batch, r, r, K]: copies a and b of a query came, and agree in every leaf.
        agree = copies[:, :, None] & copies[:, None]
        for leaf in predictions.leaves:
            values = leaf.reshape(batch, self.copies, self.queries, leaf.shape[2])
            agree &= self._close(values).cpu()
        votes = agree.sum(dim=2)
        trusted = 2 * votes > copies.sum(dim=1, keepdim=True)
        return (copies & ~trusted).reshape(batch, self.num_workers)

    def _close(self, values: Tensor) -> Tensor:
        """Compares all pairs of copies, ``[batch, r, K, features]`` to bool ``[batch, r, r, K]``.

        NaN and Inf agree with nothing, not even with themselves.
        """
        left, right = values[:, :, None], values[:, None]
        if not values.is_floating_point() and not values.is_complex():
            return (left == right).all(dim=-1)
        size = torch.maximum(left.abs(), right.abs())
        wide = torch.float64 if size.dtype == torch.float64 else torch.float32
        near = (left - right).abs().to(wide)
        if near.shape[-1] == 0:
            return torch.ones(near.shape[:-1], dtype=torch.bool, device=near.device)
        limit = self.atol + self.rtol * size.to(wide).amax(dim=-1)
        return near.amax(dim=-1) <= limit
