"""What the latency bench asks for, and what one slice of it gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.harness.schedule import Phase

SLOW_S = 1.0
RARE = 0.02
CODED = "coded"


@dataclass(frozen=True)
class Size:
    """What is served and how it is asked.

    Attributes:
        queries: K.
        service_ms: What a forward takes, asleep, as on a GPU.
        utilisation: Of plain TorchServe's K workers, a fraction.
        slice_s: Seconds of a slice.
        turns: Slices per phase and competitor.
        seed: Of the load.
        warm_s: Seconds of saturating load on each before the first slice.
    """

    queries: int = 3
    service_ms: float = 10.0
    utilisation: float = 0.3
    slice_s: float = 8.0
    turns: int = 10
    seed: int = 0
    warm_s: float = 3.0

    def rate(self, phase: str) -> float:
        """Return requests per second that keep K workers as busy in every phase.

        Two in a hundred jobs that sleep a second take more of a worker than all others together.
        """
        mean_s = self.service_ms / 1e3 + (RARE * SLOW_S if phase == "rare" else 0)
        return self.utilisation * self.queries / mean_s


@dataclass(frozen=True)
class Slice:
    """One slice of one competitor.

    Attributes:
        phase: Its name.
        server: The competitor's name.
        turn: Which alternation.
        extra: Jobs beyond one a request.
        records: What became of its requests.
    """

    phase: str
    server: str
    turn: int
    extra: int
    records: tuple[Record, ...]

    @property
    def key(self) -> tuple[str, int, str]:
        """What tells it from the others."""
        return self.phase, self.turn, self.server

    def written(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Slice:
        """Make it of what `written` returned."""
        return cls(**{**found, "records": tuple(Record(**one) for one in found["records"])})


def phases(size: Size) -> tuple[Phase, ...]:
    """Return the phases in their order."""
    labels = {
        "healthy": "All workers well.",
        "slow": f"One worker sleeps {SLOW_S:g} s at every job.",
        "rare": f"Any job sleeps {SLOW_S:g} s with {RARE:.0%}.",
    }
    return tuple(
        Phase(name, label, size.rate(name), size.slice_s, size.turns)
        for name, label in labels.items()
    )
