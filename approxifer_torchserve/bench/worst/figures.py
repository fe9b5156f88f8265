"""From the records of one slice to the figures that promises are about."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.harness.summary import quantile

BIN_S = 0.25
# After an overload: hardly anybody waits for a worker at half of capacity.
CLEAN_SERVICES = 3.0


@dataclass(frozen=True)
class Slice:
    """One slice of one server.

    Attributes:
        scenario: The scenario's name.
        server: "coded" or "plain".
        turn: Number of the alternation.
        extra: Jobs beside the requests themselves.
        late: Jobs that the plugin found late.
        held: Workers that a hanging request was given to, all of those requests together.
        records: What became of its requests; those that hang are not among them.
    """

    scenario: str
    server: str
    turn: int
    extra: int
    late: int
    held: int
    records: tuple[Record, ...]

    @property
    def key(self) -> tuple[str, int, str]:
        """What tells it from the others."""
        return self.scenario, self.turn, self.server


@dataclass(frozen=True)
class Figures:
    """A server's figures; NaN where there is none, infinite for what never came.

    Attributes:
        requests: How many there were.
        goodput: Right answers within the deadline, per second.
        p50_ms: Median latency of right answers.
        p99_ms: Their 99th percentile.
        p999_ms: Their 99.9th percentile.
        refused_pct: Requests answered 503 with ``Retry-After``, in percent.
        refusal_ms: 99th percentile of these answers' latencies; 0 where nobody was refused.
        failed_pct: Requests neither answered right nor refused so, in percent.
        extra_pct: Jobs beside the requests themselves, in percent of right answers.
        late_pct: Jobs that the plugin found late, likewise.
        held: Workers that each hanging request was given to, the mean.
        clean_s: Seconds from the end of an overload until all are answered soon.
    """

    requests: float
    goodput: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    refused_pct: float
    refusal_ms: float
    failed_pct: float
    extra_pct: float
    late_pct: float
    held: float
    clean_s: float

    @property
    def lost_pct(self) -> float:
        """Requests without a right answer, in percent."""
        return self.refused_pct + self.failed_pct

    def over(self, other: Figures, name: str) -> float:
        """Returns a figure over the other's; 1 where both are 0."""
        mine, theirs = getattr(self, name), getattr(other, name)
        if theirs == 0:
            return 1.0 if mine == 0 else math.inf
        return float(mine / theirs)

    def facts(self) -> dict[str, Any]:
        """Returns them for report.json, which knows no NaN."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}

    @classmethod
    def median(cls, turns: Sequence[Figures]) -> Figures:
        """Returns the median of each figure over turns."""
        values = ([getattr(one, field.name) for one in turns] for field in fields(cls))
        return cls(*(statistics.median(each) for each in values))


def figures(
    one: Slice,
    *,
    window: tuple[float, float],
    deadline_s: float,
    service_s: float,
    hanging: int = 0,
    calm_s: float = math.nan,
) -> Figures:
    """Works out a slice's figures.

    Args:
        one: The slice.
        window: From when to when in the slice it counts, in seconds.
        deadline_s: An answer that comes later is no goodput; infinite for none.
        service_s: What a forward takes.
        hanging: How many requests hung beside those that count.
        calm_s: When an overload ended, in seconds; NaN where there was none.
    """
    start, end = window
    due = [r for r in one.records if start <= r.due_s < end]
    good = [r for r in due if right(r)]
    timely = [r for r in one.records if right(r) and r.latency_s <= deadline_s]
    done = sum(start <= r.due_s + r.latency_s < end for r in timely)
    refused = [1e3 * r.latency_s for r in due if r.status == 503 and r.retry_after]
    times = [1e3 * r.latency_s for r in good]
    answers = sum(map(right, one.records)) or math.nan
    return Figures(
        requests=len(due),
        goodput=done / (end - start),
        p50_ms=quantile(times, 0.5),
        p99_ms=quantile(times, 0.99),
        p999_ms=quantile(times, 0.999),
        refused_pct=100 * len(refused) / max(1, len(due)),
        refusal_ms=quantile(refused, 0.99) if refused else 0.0,
        failed_pct=100 * (len(due) - len(good) - len(refused)) / max(1, len(due)),
        extra_pct=100 * one.extra / answers,
        late_pct=100 * one.late / answers,
        held=one.held / hanging if hanging else math.nan,
        clean_s=clean_after(one.records, calm_s, CLEAN_SERVICES * service_s),
    )


def right(record: Record) -> bool:
    """Tells whether a request got its right answer."""
    return record.status == 200 and record.predicted == record.label


def clean_after(records: Sequence[Record], calm_s: float, bound_s: float) -> float:
    """Returns seconds until a quarter of a second in which all due then were answered soon.

    Args:
        records: All requests of a slice.
        calm_s: From when on they are looked at; NaN gives NaN.
        bound_s: Seconds that count as soon.
    """
    if math.isnan(calm_s):
        return math.nan
    bins: dict[int, bool] = {}
    for record in records:
        if record.due_s >= calm_s:
            number = int((record.due_s - calm_s) / BIN_S)
            soon = right(record) and record.latency_s <= bound_s
            bins[number] = bins.get(number, True) and soon
    return min((BIN_S * number for number, soon in bins.items() if soon), default=math.inf)
