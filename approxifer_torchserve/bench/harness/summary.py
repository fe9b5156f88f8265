"""From records to figures: a summary per phase and server, and ratios of two servers."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from approxifer_torchserve.bench.harness.load import RECONSTRUCTED, Record
from approxifer_torchserve.bench.harness.schedule import Phase, by_server


@dataclass(frozen=True)
class Summary:
    """The figures of one server in one phase; times in milliseconds, accuracies as fractions.

    ``accuracy`` counts failed requests as wrong: a client without an answer has no right one.
    ``p50_turns_ms`` and ``p99_turns_ms`` hold each turn's own.
    """

    server: str
    requests: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    exact: int
    hedged: int
    reconstructed: int
    plain: int
    failed: int
    accuracy: float
    accuracy_reconstructed: float | None
    p50_turns_ms: tuple[float, ...]
    failures: tuple[str, ...]
    p99_turns_ms: tuple[float, ...] = ()


def quantile(values: Sequence[float], q: float) -> float:
    """Returns the smallest value that at least the share ``q`` of all values do not exceed."""
    if not values:
        return float("nan")
    return float(np.quantile(values, q, method="inverted_cdf"))


def summarise(server: str, records: Sequence[Record]) -> Summary:
    """Works out a server's figures in one phase.

    Failed requests count in the latencies too: their clients waited as long.
    """
    latencies = [1e3 * record.latency_s for record in records]
    outcomes = [record.outcome for record in records]
    right = [record.predicted == record.label for record in records]
    decoded = [ok for ok, outcome in zip(right, outcomes, strict=True) if outcome == RECONSTRUCTED]
    by_turn: dict[int, list[float]] = {}
    for record in records:
        by_turn.setdefault(record.turn, []).append(1e3 * record.latency_s)
    turns = [times for _, times in sorted(by_turn.items())]
    failures = {f"{r.status} {r.detail}" for r in records if r.outcome == "failed"}
    return Summary(
        server=server,
        requests=len(records),
        p50_ms=quantile(latencies, 0.5),
        p99_ms=quantile(latencies, 0.99),
        max_ms=max(latencies, default=float("nan")),
        exact=outcomes.count("exact"),
        hedged=outcomes.count("hedged"),
        reconstructed=outcomes.count(RECONSTRUCTED),
        plain=outcomes.count("plain"),
        failed=outcomes.count("failed"),
        accuracy=statistics.fmean(right) if right else float("nan"),
        accuracy_reconstructed=statistics.fmean(decoded) if decoded else None,
        p50_turns_ms=tuple(quantile(times, 0.5) for times in turns),
        p99_turns_ms=tuple(quantile(times, 0.99) for times in turns),
        failures=tuple(sorted(failures))[:5],
    )


@dataclass(frozen=True)
class PhaseResult:
    """A phase and its servers' figures."""

    phase: Phase
    summaries: tuple[Summary, ...]

    @classmethod
    def of(cls, phase: Phase, records: Sequence[Record]) -> PhaseResult:
        """Summarises a phase's records, server by server."""
        return cls(phase, tuple(summarise(s, group) for s, group in by_server(records).items()))

    def facts(self) -> dict[str, Any]:
        """Returns its figures for report.json."""
        return {**asdict(self.phase), "servers": [asdict(one) for one in self.summaries]}

    def ratio(self) -> Ratio | None:
        """Returns the coded medians over the plain ones; None where one of them did not run."""
        turns = {summary.server: summary.p50_turns_ms for summary in self.summaries}
        if not {"coded", "plain"} <= set(turns):
            return None
        return Ratio.of(turns["coded"], turns["plain"])


@dataclass(frozen=True)
class Ratio:
    """One server's figure over another's, in each turn, and what the turns say together.

    Attributes:
        turns: The ratio of each turn.
        median: Their median.
        lowest: The lowest of them.
        highest: The highest of them.
    """

    turns: tuple[float, ...]
    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, mine: Sequence[float], other: Sequence[float]) -> Ratio:
        """Compares figures of two servers turn by turn."""
        turns = tuple(a / max(1e-9, b) for a, b in zip(mine, other, strict=True))
        return cls(turns, statistics.median(turns), min(turns), max(turns))

    def cells(self) -> tuple[str, str, str]:
        """Returns median, lowest and highest for a table."""
        return f"{self.median:.3f}", f"{self.lowest:.2f}", f"{self.highest:.2f}"


def write_requests(path: Path, records: Sequence[Record]) -> None:
    """Writes a .csv file with a line per request."""
    names = [field.name for field in fields(Record)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(record, name) for name in names] for record in records)
