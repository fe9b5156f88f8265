"""Bad days as a reader sees them: both twins' figures, their ratio, and the promises."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from approxifer_torchserve.bench.harness.plot import tails
from approxifer_torchserve.bench.harness.report import Check, Report, Table
from approxifer_torchserve.bench.worst.figures import FIGURES, Slice, figures, right
from approxifer_torchserve.bench.worst.scenarios import Size, over, scenarios

# The others of a pair are told by their sum, or by the promises.
IN_TABLE = [name for name in FIGURES if name not in ("lost %", "late %")]
RATIOS = ("goodput", "p50 ms", "p99 ms", "p99.9 ms")


def report(out: Path, size: Size, slices: Sequence[Slice]) -> Report:
    """Draws worst.png and says what was found.

    Args:
        out: Folder for the plot.
        size: What was asked for.
        slices: What came; scenarios that one of the twins has not run are left out.
    """
    facts, rows, checks, answered, known = {}, [], [], {}, scenarios(size)
    for name, scenario in known.items():
        turns = {
            side: [one for one in slices if (one.scenario, one.server) == (name, side)]
            for side in ("coded", "plain")
        }
        if not all(turns.values()):
            continue
        measured = {side: [figures(scenario, size, one) for one in turns[side]] for side in turns}
        coded, plain = (
            {key: statistics.median(one[key] for one in each) for key in FIGURES}
            for each in measured.values()
        )
        answered[name] = [
            record for each in turns.values() for one in each for record in one.records
            if right(record)
        ]  # fmt: skip
        ratio = {key: over(coded[key], plain[key]) for key in RATIOS}
        for side, values in (("coded", coded), ("plain", plain), ("ratio", ratio)):
            rows.append((name, side, *(_cell(values, key, side) for key in IN_TABLE)))
        for promise in scenario.promises:
            checks.append(Check(f"{name}: {promise.figure}", *promise.check(coded, plain)))
        facts[name] = {
            "label": scenario.label, "coded": _finite(coded), "plain": _finite(plain),
            "turns": {side: [_finite(one) for one in each] for side, each in measured.items()},
        }  # fmt: skip
    if answered:
        tails(out / "worst.png", answered)
    lead = (
        f"{size.workers} workers on each of two servers, batch size 1; a forward takes "
        f"{size.service_ms:g} ms asleep; Poisson requests. Slices of {size.slice_s:g} s and more "
        f"alternate between the coded model and its plain twin, {size.turns} turns, first calls "
        "one; figures are medians over turns. Under overload the time until queues are full does "
        "not count. The third row of each is coded over plain."
    )
    return Report(
        "Bad days", lead, {"size": asdict(size), "scenarios": facts},
        (Table("bad days", ("scenario", "served by", *IN_TABLE), tuple(rows), names=2),),
        tuple(checks), ("worst.png",) if answered else (),
        (
            *((name, scenario.label) for name, scenario in known.items() if name in facts),
            *((name, says) for name, (_, says) in FIGURES.items()),
        ),
    )  # fmt: skip


def _cell(values: dict[str, float], name: str, side: str) -> str:
    value = values.get(name, math.nan)
    if math.isnan(value):
        return ""
    return (
        "never"
        if math.isinf(value)
        else format(value, ".2f" if side == "ratio" else FIGURES[name][0])
    )


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """Returns figures as JSON can hold them."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
