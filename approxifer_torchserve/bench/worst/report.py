"""Bad days as a reader sees them: both twins' figures, their ratio, and the promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.harness.plot import tails
from approxifer_torchserve.bench.harness.report import Check, Report, Table
from approxifer_torchserve.bench.worst.figures import Figures, Slice, figures, right
from approxifer_torchserve.bench.worst.scenarios import HANGING, Scenario, Size, scenarios

# What stands in the table: a figure, its heading, its format, whether a ratio says something.
COLUMNS = (
    ("requests", "requests", ".0f", False), ("goodput", "goodput", ".2f", True),
    ("p50_ms", "p50 ms", ".0f", True), ("p99_ms", "p99 ms", ".0f", True),
    ("p999_ms", "p99.9 ms", ".0f", True), ("failed_pct", "failed %", ".1f", False),
    ("refused_pct", "refused %", ".1f", False), ("refusal_ms", "in ms", ".0f", False),
    ("extra_pct", "extra %", ".1f", False), ("held", "held", ".1f", False),
    ("clean_s", "clean s", ".2f", False),
)  # fmt: skip
TERMS = (
    ("goodput", "Right answers within the deadline, if there is one, over what the workers can do "
     "at most (workers / service time)."),
    ("p50, p99, p99.9 ms", "Of right answers, from when their requests were due."),
    ("refused %, in ms", "Requests answered 503 with Retry-After, and after how many milliseconds "
     "99 % of these answers were there. Plain TorchServe's 503 has none: it counts as failed."),
    ("failed %", "Requests neither answered right nor refused so."),
    ("extra %", "Jobs beside the requests themselves, of right answers."),
    ("held", "Workers that each hanging request was given to; it never ends by itself."),
    ("clean s", "Seconds after an overload until all that is due in a quarter of a second is "
     "answered within three service times."),
)  # fmt: skip


def report(out: Path, size: Size, slices: Sequence[Slice]) -> Report:
    """Draws worst.png and says what was found.

    Args:
        out: Folder for the plot.
        size: What was asked for.
        slices: What came; scenarios that one of the twins has not run are left out.
    """
    found: dict[str, dict[str, Figures]] = {}
    answered: dict[str, list[Record]] = {}
    known = scenarios(size)
    for name, scenario in known.items():
        turns = {
            side: [one for one in slices if (one.scenario, one.server) == (name, side)]
            for side in ("coded", "plain")
        }
        if all(turns.values()):
            found[name] = {
                side: Figures.median([measured(scenario, size, one) for one in each])
                for side, each in turns.items()
            }
            answered[name] = [
                r for each in turns.values() for one in each for r in one.records if right(r)
            ]
    if answered:
        tails(out / "worst.png", answered)
    rows = [row for name, twins in found.items() for row in _rows(known[name], size, twins)]
    lead = (
        f"{size.workers} workers on each of two servers, batch size 1; a forward takes "
        f"{size.service_ms:g} ms asleep; Poisson requests. Slices of {size.slice_s:g} s alternate "
        f"between the coded model and its plain twin, {size.turns} turns, except for first calls; "
        "figures are medians over turns. Under overload the first deadline of a slice does not "
        "count. The third row of each is coded over plain."
    )
    facts = {
        "size": asdict(size),
        "scenarios": {
            name: {"label": known[name].label, **{side: f.facts() for side, f in twins.items()}}
            for name, twins in found.items()
        },
    }
    table = Table(
        "bad days", ("scenario", "served by", *(one[1] for one in COLUMNS)), tuple(rows), names=2
    )
    terms = (*((name, known[name].label) for name in found), *TERMS)
    checks = [
        Check(f"{name}: {promise.what}", *promise.check(twins["coded"], twins["plain"]))
        for name, twins in found.items()
        for promise in known[name].promises
    ]
    pictures = ("worst.png",) if answered else ()
    return Report("Bad days", lead, facts, (table,), tuple(checks), pictures, terms)


def measured(scenario: Scenario, size: Size, one: Slice) -> Figures:
    """Returns a slice's figures.

    An overload counts from when its queue is full, a deadline after it began, to its end; all else
    counts whole.
    """
    phase = scenario.phase(size)
    overload = scenario.load[0][0] > 1
    skip = min(size.deadline_ms / 1e3, phase.slice_s / 2) if overload else 0.0
    bounded = scenario.model == "deadline"
    return figures(
        one,
        window=(skip, phase.slice_s),
        deadline_s=size.deadline_ms / 1e3 if bounded else math.inf,
        service_s=size.service_ms / 1e3,
        hanging=HANGING if scenario.fault == "hang" else 0,
        calm_s=phase.slice_s if phase.then else math.nan,
    )


def _rows(scenario: Scenario, size: Size, twins: dict[str, Figures]) -> list[tuple[str, ...]]:
    capacity = scenario.capacity(size)
    rows = []
    for side, one in twins.items():
        values = {**asdict(one), "goodput": one.goodput / capacity}
        cells = (_cell(values[name], form) for name, _, form, _ in COLUMNS)
        rows.append((scenario.name, side, *cells))
    coded, plain = twins["coded"], twins["plain"]
    ratios = (_cell(coded.over(plain, name), ".2f") if of else "" for name, _, _, of in COLUMNS)
    return [*rows, (scenario.name, "ratio", *ratios)]


def _cell(value: float, form: str) -> str:
    if math.isnan(value):
        return ""
    return "never" if math.isinf(value) else format(value, form)
