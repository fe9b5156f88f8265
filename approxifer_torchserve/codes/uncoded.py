"""No code: each query is answered by one worker or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from approxifer_torchserve.codes.base import Code
from approxifer_torchserve.codes.plan import Mode
from approxifer_torchserve.codes.registry import register_code


@register_code(
    "uncoded",
    summary="K workers for K queries; tolerates nothing, the plain row to compare with.",
    paper="none",
)
@dataclass(frozen=True)
class Uncoded(Code):
    """K coded queries, the queries themselves; any missing answer makes ``decode`` raise."""

    name: ClassVar[str] = "uncoded"
    mode: ClassVar[Mode] = "uncoded"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stragglers:
            raise ValueError(
                f"stragglers must be 0 for code 'uncoded', which tolerates nothing, got "
                f"{self.stragglers}: set it to 0 or choose another name"
            )

    @property
    def num_workers(self) -> int:
        """K."""
        return self.queries

    @property
    def sources(self) -> tuple[int | None, ...]:
        """For each coded query, the query that it is."""
        return tuple(range(self.queries))

    def _encode(self, queries: Tensor) -> Tensor:
        return queries

    def _recoverable(self, available: Tensor) -> Tensor:
        return available.clone()

    def _decode(self, predictions: Tensor, pattern: tuple[int, ...]) -> Tensor:
        return predictions
