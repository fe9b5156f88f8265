"""Latency as a reader sees it: each competitor's median and tail by turns, and what it costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib

from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.harness.report import Summary, summarise
from approxifer_torchserve.bench.harness.schedule import by_server
from approxifer_torchserve.bench.harness.sheet import Check, Sheet, Table
from approxifer_torchserve.bench.latency.slices import CODED, SLOW_S, Size, Slice

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = ("#d55e00", "#e69f00", "#009e73", "#cc79a7", "#0072b2")
COLUMNS = (
    "phase", "served by", "requests", "p50 ms", "turns", "p99 ms", "turns", "max ms",
    "over 0.5 s", "extra", "failed", "right",
)  # fmt: skip


def write_report(out: Path, size: Size, slices: Sequence[Slice], load_average: float) -> Sheet:
    """Write report.json, latency.png and report.html.

    Args:
        out: Folder to write to.
        size: What was asked for.
        slices: What came.
        load_average: Of the machine before.
    """
    found: dict[str, list[Record]] = {}
    extra: dict[tuple[str, str], int] = {}
    for one in slices:
        found.setdefault(one.phase, []).extend(one.records)
        key = one.phase, one.server
        extra[key] = extra.get(key, 0) + one.extra
    summaries = {
        phase: [summarise(name, group) for name, group in by_server(records).items()]
        for phase, records in found.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    _plot(out / "latency.png", found)
    rows = tuple(
        row(phase, summary, found[phase], extra[phase, summary.server])
        for phase, all_ in summaries.items()
        for summary in all_
    )
    facts = {
        "size": {**asdict(size), "rates": {phase: size.rate(phase) for phase in summaries}},
        "phases": {
            phase: [
                {**asdict(one), "extra_jobs_per_request": extra[phase, one.server] / one.requests}
                for one in all_
            ]
            for phase, all_ in summaries.items()
        },
    }
    lead = (
        f"K = {size.queries}, S = 1, batch size 1; a forward takes {size.service_ms:g} ms asleep; "
        f"Poisson requests, {size.utilisation:.0%} of what {size.queries} workers can do in that "
        f"phase, in {size.turns} slices of {size.slice_s:g} s that alternate. A latency counts "
        "from the moment its request was due. p50 and p99 are medians over turns, with the lowest "
        "and highest turn beside them. A client that hedges has no plugin: it sends again after "
        "what the coded model takes for late then, without a bound on extra work. Extra: jobs "
        "beyond one a request, per request."
    )
    sheet = Sheet(
        "Latency against the alternatives", lead, facts, (Table("latency", COLUMNS, rows),),
        checks(summaries), load_average, ("latency.png",),
    )  # fmt: skip
    sheet.write(out)
    return sheet


def row(phase: str, one: Summary, records: Sequence[Record], extra: int) -> tuple[str, ...]:
    """Return a competitor's line of the table for one phase."""
    long = sum(r.latency_s > 0.5 for r in records if r.server == one.server)
    return (
        phase, one.server, str(one.requests), *_spread(one.p50_turns_ms, 1),
        *_spread(one.p99_turns_ms, 0), f"{one.max_ms:.0f}", str(long),
        f"{extra / one.requests:.3f}", str(one.failed), f"{one.accuracy:.3f}",
    )  # fmt: skip


def _spread(turns: Sequence[float], digits: int) -> tuple[str, str]:
    middle, low, high = statistics.median(turns), min(turns), max(turns)
    return f"{middle:.{digits}f}", f"{low:.{digits}f}–{high:.{digits}f}"


def checks(summaries: Mapping[str, Sequence[Summary]]) -> tuple[Check, ...]:
    """Return what is promised of the coded model, and whether it came true."""
    checks = []
    for phase, all_ in summaries.items():
        coded = next(one for one in all_ if one.server == CODED)
        checks.append(
            Check(
                f"{phase}: answers", coded.failed == 0 and coded.accuracy == 1,
                f"{coded.failed} failed, {coded.accuracy:.3f} right {list(coded.failures) or ''}",
            )
        )  # fmt: skip
        if phase != "healthy":
            checks.append(
                Check(
                    f"{phase}: longest wait", coded.max_ms < 1e3 * SLOW_S, f"{coded.max_ms:.0f} ms"
                )
            )
    return tuple(checks)


def _plot(path: Path, found: Mapping[str, Sequence[Record]]) -> None:
    figure, axes = plt.subplots(
        1, len(found), figsize=(4.5 * len(found), 4), sharey=True, squeeze=False,
        constrained_layout=True,
    )  # fmt: skip
    for axis, (phase, records) in zip(axes[0], found.items(), strict=True):
        groups = sorted(by_server(records).items())
        for colour, (name, group) in zip(COLOURS, groups, strict=False):
            times = sorted(1e3 * record.latency_s for record in group)
            longer = [1 - done / len(times) for done in range(len(times))]
            axis.step(times, longer, where="post", label=name, color=colour)
        axis.set(xscale="log", yscale="log", xlabel="latency, ms", title=phase)
        axis.grid(which="both", alpha=0.25)
    axes[0][0].set_ylabel("share of requests that took longer")
    axes[0][-1].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
