"""What a scheduler has to know of a code, without any of its mathematics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["systematic", "coded", "replicated", "uncoded"]


@dataclass(frozen=True)
class Plan:
    """The shape of a code: which answers are whose, and how many are enough.

    Attributes:
        queries: K, the number of queries that form a group.
        num_workers: N+1, the number of coded queries of a group.
        mode: ``systematic`` (coded queries 0..K-1 are the queries, the rest only help), ``coded``
            (every query of a group is encoded), ``replicated`` (each query goes to ``copies``
            workers) or ``uncoded`` (each query goes to one worker).
        systematic: For each coded query, the query that it equals, or None.
        quorum: Any this many answers of a group recover every query of it, before up to
            ``byzantine`` of them are left out as wrong; None where no number does.
        copies: How often each query is sent as it is; 1 unless the mode is ``replicated``.
        note: For a reader: what is enough where ``quorum`` is None or says less than is true.
    """

    queries: int
    num_workers: int
    mode: Mode
    systematic: tuple[int | None, ...]
    quorum: int | None
    copies: int = 1
    note: str = ""

    def __post_init__(self) -> None:
        """Refuses a plan that contradicts itself.

        Raises:
            ValueError: A field does not fit the others.
        """
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {get_args(Mode)}, got {self.mode!r}")
        if len(self.systematic) != self.num_workers:
            raise ValueError(
                f"systematic must have num_workers = {self.num_workers} entries, "
                f"got {len(self.systematic)}"
            )
        for query in self.systematic:
            if query is not None and not 0 <= query < self.queries:
                raise ValueError(
                    f"systematic must hold None or queries 0..{self.queries - 1}, got {query}"
                )
        if self.quorum is not None and not 1 <= self.quorum <= self.num_workers:
            raise ValueError(f"quorum must be None or in 1..{self.num_workers}, got {self.quorum}")
        if self.copies < 1:
            raise ValueError(f"copies must be at least 1, got {self.copies}")
