"""From records to figures: a summary per phase and server, a table, and report.json."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.harness.schedule import Phase, by_server

PACKAGES = ("approxifer-torchserve", "torch", "torchserve", "lightning", "httpx", "scikit-learn")


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
    """Return the smallest value that at least the share ``q`` of all values do not exceed."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    rank = max(0, min(len(ordered) - 1, -(-int(q * 1e6) * len(ordered) // 1_000_000) - 1))
    return ordered[rank]


def summarise(server: str, records: Sequence[Record]) -> Summary:
    """Work out a server's figures in one phase.

    Failed requests count in the latencies too: their clients waited as long.
    """
    latencies = [1e3 * record.latency_s for record in records]
    outcomes = [record.outcome for record in records]
    right = [record.predicted == record.label for record in records]
    decoded = [
        ok for ok, outcome in zip(right, outcomes, strict=True) if outcome == "reconstructed"
    ]
    by_turn: dict[int, list[float]] = {}
    for record in records:
        by_turn.setdefault(record.turn, []).append(1e3 * record.latency_s)
    turns = [times for _, times in sorted(by_turn.items())]
    return Summary(
        server=server,
        requests=len(records),
        p50_ms=quantile(latencies, 0.5),
        p99_ms=quantile(latencies, 0.99),
        max_ms=max(latencies, default=float("nan")),
        exact=outcomes.count("exact"),
        hedged=outcomes.count("hedged"),
        reconstructed=outcomes.count("reconstructed"),
        plain=outcomes.count("plain"),
        failed=outcomes.count("failed"),
        accuracy=statistics.fmean(right) if right else float("nan"),
        accuracy_reconstructed=statistics.fmean(decoded) if decoded else None,
        p50_turns_ms=tuple(quantile(times, 0.5) for times in turns),
        p99_turns_ms=tuple(quantile(times, 0.99) for times in turns),
        failures=tuple(
            sorted({f"{r.status} {r.detail}" for r in records if r.outcome == "failed"})
        )[:5],
    )


@dataclass(frozen=True)
class PhaseResult:
    """A phase and its servers' figures."""

    phase: Phase
    summaries: tuple[Summary, ...]

    @classmethod
    def of(cls, phase: Phase, records: Sequence[Record]) -> PhaseResult:
        """Summarise a phase's records, server by server."""
        return cls(phase, tuple(summarise(s, group) for s, group in by_server(records).items()))


@dataclass(frozen=True)
class MedianRatio:
    """Coded over plain: the ratio of medians of each turn, and the median of these."""

    turns: tuple[float, ...]
    median: float
    lowest: float
    highest: float


def median_ratio(result: PhaseResult) -> MedianRatio | None:
    """Compare the two servers turn by turn; None where one of them did not run."""
    found = {summary.server: summary for summary in result.summaries}
    if not {"coded", "plain"} <= set(found):
        return None
    pairs = zip(found["coded"].p50_turns_ms, found["plain"].p50_turns_ms, strict=True)
    turns = tuple(coded / plain for coded, plain in pairs)
    return MedianRatio(turns, statistics.median(turns), min(turns), max(turns))


def table(results: Sequence[PhaseResult]) -> Table:
    """Draw the figures for a terminal."""
    drawn = Table(
        title="latency in ms, counted from when a request was due",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("phase", "server"):
        drawn.add_column(name, no_wrap=True)
    for name in (
        "requests", "p50", "p99", "max", "exact", "hedged", "decoded", "failed", "accuracy",
        "of decoded",
    ):  # fmt: skip
        drawn.add_column(name, justify="right", no_wrap=True)
    for result in results:
        for summary in result.summaries:
            drawn.add_row(*row(result, summary))
        drawn.add_section()
    return drawn


def row(result: PhaseResult, summary: Summary) -> tuple[str, ...]:
    """Return one line of the table as text."""
    decoded = summary.accuracy_reconstructed
    coded = summary.server != "plain"
    return (
        result.phase.name,
        summary.server,
        str(summary.requests),
        f"{summary.p50_ms:.1f}",
        f"{summary.p99_ms:.1f}",
        f"{summary.max_ms:.0f}",
        str(summary.exact) if coded else "",
        str(summary.hedged) if coded else "",
        str(summary.reconstructed) if coded else "",
        str(summary.failed),
        f"{summary.accuracy:.3f}",
        "" if decoded is None else f"{decoded:.3f}",
    )


def surroundings() -> dict[str, Any]:
    """Return the command, versions and machine that a figure depends on."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "command": ["approxifer", *sys.argv[1:]],
        "versions": {"python": platform.python_version(), **versions},
        "machine": {"system": platform.system(), "cpus": os.cpu_count()},
    }


def as_json(results: Sequence[PhaseResult], **more: Any) -> dict[str, Any]:
    """Put every figure into one JSON value; ``more`` is added as it is."""
    return {
        **surroundings(),
        **more,
        "phases": [
            {**asdict(result.phase), "servers": [asdict(s) for s in result.summaries]}
            for result in results
        ],
    }


def write(out: Path, report: dict[str, Any], records: Sequence[Record]) -> None:
    """Write report.json and, request by request, requests.csv."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    names = [field.name for field in fields(Record)]
    with (out / "requests.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(record, name) for name in names] for record in records)
