"""Lies as a reader sees them: what got through, how soon the liar was found, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from approxifer_torchserve.bench.byzantine.cells import (
    ALIKE,
    CLEAN,
    HEALTHY,
    RARE,
    Cell,
    Size,
    measured,
)
from approxifer_torchserve.bench.byzantine.policies import EXACT, WHAT, Layout
from approxifer_torchserve.bench.harness.plot import plt, save
from approxifer_torchserve.bench.harness.report import Check, Report, Table

PLOT = "wrong.png"


def found(cell: Cell) -> str:
    """Returns in how many seconds the last liar was quarantined, or how many never were."""
    never = sum(one is None for one in cell.found_s)
    if never:
        return "never" if never == cell.liars else f"{never} of {cell.liars} never"
    return f"{max(one for one in cell.found_s if one is not None):.1f}"


def lies_alike(cell: Cell) -> bool:
    """Tells whether two workers said the same wrong thing, which outvotes an honest one.

    A vote asks for E + 1 equal answers, which E liars cannot give.
    """
    return cell.liars > 1 and cell.kind in ALIKE and cell.policy != "vote"


def checks(cells: Sequence[Cell]) -> list[Check]:
    """Returns what is promised, and whether it came true."""
    told = [cell for cell in cells if not lies_alike(cell)]
    hurt = [cell for cell in told if cell.confirmed or cell.quarantined]
    alone = [cell for cell in cells if cell.liars == 0]
    hurt_says = str([(cell.key, cell.confirmed, cell.quarantined) for cell in hurt] or "none")
    wrong, refused = sum(c.wrong for c in alone), sum(c.refused for c in alone)
    alone_says = f"{wrong} wrong, {refused} refused of {sum(c.requests for c in alone)}"
    result = [
        Check("honest workers confirmed wrong", not hurt, hurt_says),
        Check("nobody lied", not wrong + refused, alone_says),
    ]
    exact = [cell for cell in told if cell.policy in EXACT and cell.liars]
    if exact:
        through = sum(cell.wrong for cell in exact)
        says = f"{through} of {sum(cell.answered for cell in exact)} answers of pairs and votes"
        result.append(Check("wrong answers after a comparison", through == 0, says))
    baseline = [
        cell
        for cell in cells
        if cell.policy == "none" and cell.liars and cell.kind not in ("nan", RARE)
    ]
    if baseline:
        # Without lies that get through there would be nothing to keep from clients.
        silent = [cell.kind for cell in baseline if cell.wrong == 0]
        says = f"but {silent} did not" if silent else "in each kind"
        result.append(Check("without tolerance lies get through", not silent, says))
    late = max((cell.late_sending_s for cell in cells), default=0.0)
    says = f"a request left at most {1e3 * late:.0f} ms after it was due"
    result.append(Check("the client kept up", late < 1.0, says))
    return result


def _per_kind(title: str, cells: Sequence[Cell], say: Callable[[Cell], str]) -> Table:
    """Returns a row per kind of lie, a column per policy."""
    names, kinds = measured(cells)
    by_key = {(cell.policy, cell.kind): cell for cell in cells}
    rows = []
    for kind in kinds:
        own = [by_key.get((name, kind)) for name in names]
        rows.append(
            (
                "nobody lies" if kind == HEALTHY else kind,
                *("" if c is None else say(c) for c in own),
            )
        )
    return Table(title, ("lie", *names), tuple(rows))


def _decoded(cell: Cell) -> str:
    if not cell.reconstructed:
        return "0"
    share = 100 * cell.reconstructed / cell.answered
    return f"{share:.0f} / {100 * cell.wrong_class / cell.reconstructed:.1f}"


def cost_table(title: str, cells: Sequence[Cell]) -> Table:
    """Returns a row per policy: latency, extra jobs, refusals, honest workers hurt."""
    rows = []
    for name in measured(cells)[0]:
        own = [cell for cell in cells if cell.policy == name]
        healthy = [cell for cell in own if cell.kind == HEALTHY]
        lied = [cell for cell in own if cell.liars]

        def average(some: Sequence[Cell], say: Callable[[Cell], float], form: str) -> str:
            return format(mean(say(cell) for cell in some), form) if some else ""

        alike, others = ([c for c in own if lies_alike(c) == yes] for yes in (True, False))
        rows.append((
            name,
            average(healthy, lambda cell: cell.median_ms, ".0f"),
            average(healthy, lambda cell: cell.p99_ms, ".0f"),
            average(healthy, lambda cell: cell.forwards, ".2f"),
            average(healthy, lambda cell: cell.extra, ".2f"),
            average(lied, lambda cell: cell.forwards, ".2f"),
            average(lied, lambda cell: cell.extra, ".2f"),
            f"{sum(cell.refused for cell in own)} of {sum(cell.requests for cell in own)}",
            str(sum(cell.suspected for cell in own)),
            str(sum(len(cell.confirmed) for cell in others)),
            str(sum(len(cell.confirmed) for cell in alike)),
        ))  # fmt: skip
    columns = (
        "policy", "p50", "p99", "runs", "jobs", "runs'", "jobs'", "refused", "suspect", "confirm",
        "outvote",
    )  # fmt: skip
    return Table(title, columns, tuple(rows))


def tables(cells: Sequence[Cell], layout: Layout) -> list[Table]:
    """Returns what a layout gave: wrong answers, time until quarantine, decoded answers, cost."""
    own = [cell for cell in cells if cell.workers == layout.workers and cell.kind != CLEAN]
    lied = [cell for cell in own if cell.liars]
    decoding = {cell.policy for cell in own if cell.reconstructed}
    decoded = [cell for cell in own if cell.policy in decoding]
    made = [
        _per_kind(f"{layout.name}: % wrong", own, lambda cell: f"{100 * cell.wrong_share:.1f}"),
        _per_kind(f"{layout.name}: seconds until quarantine", lied, found),
        _per_kind(f"{layout.name}: % reconstructed / of these another class", decoded, _decoded),
        cost_table(f"{layout.name}: cost, and honest workers", own),
    ]
    return [table for table in made if table.rows]


def report(out: Path, cells: Sequence[Cell], size: Size) -> Report:
    """Draws the plot and says what was found.

    Args:
        out: Folder for the plot.
        cells: What was measured.
        size: How it was measured.
    """
    clean = [cell for cell in cells if cell.kind == CLEAN]
    lead = (
        f"A real server with a network for digits, {size.rate:g} Poisson requests/s, "
        f"{size.cell_s:g} s per cell, probes every {size.probe_every_s:g} s. The liars are the "
        "processes that were busiest before; they lie from the cell's start on, and the restart "
        "that quarantine brings heals them. "
        '"% wrong": of the answers in the cell, how many were not the model\'s own within '
        "tolerance, or were reconstructed and of another class. Seconds until (the last of) the "
        'liars got no client work. "p50", "p99": latency in ms where nobody lies. "runs": of the '
        'model, beyond one per request, per request, without probes; "jobs": the same of jobs of '
        'any kind; with a stroke: when attacked. "suspect": how often honest workers were '
        'suspected; "confirm": how many were confirmed wrong; "outvote": the same by two that '
        "lied alike."
    )
    for cell in clean:
        lead += (
            f" Clean run of {cell.policy}, {size.clean_s:g} s, every worker with last digits of "
            f"its own: {cell.requests} requests, {cell.jobs}, {cell.wrong} wrong, {cell.refused} "
            f"refused, confirmed {len(cell.confirmed)}, in quarantine {len(cell.quarantined)}."
        )
    made = [table for layout in size.layouts for table in tables(cells, layout)]
    facts = {"size": asdict(size), "cells": [asdict(cell) for cell in cells]}
    plot(out / PLOT, cells, size.layouts)
    terms = tuple((name, f"{WHAT[name]}.") for name in size.policies)
    return Report(
        "Workers that lie", lead, facts, tuple(made), tuple(checks(cells)), (PLOT,), terms
    )


def plot(path: Path, cells: Sequence[Cell], layouts: Sequence[Layout]) -> None:
    """Draws the share of wrong answers; what was not measured stays white.

    Args:
        path: A .png file to write.
        cells: What was measured.
        layouts: One picture each, side by side.
    """
    told = [cell for cell in cells if cell.kind != CLEAN]
    policies, kinds = measured(told)
    figure, axes = plt.subplots(
        1, len(layouts), figsize=(1 + 6 * len(layouts), 4.5), squeeze=False, sharey=True,
        constrained_layout=True,
    )  # fmt: skip
    for axis, layout in zip(axes[0], layouts, strict=True):
        shares = [[float("nan")] * len(policies) for _ in kinds]
        for cell in told:
            if cell.workers == layout.workers:
                row, column = kinds.index(cell.kind), policies.index(cell.policy)
                share = shares[row][column] = 100 * cell.wrong_share
                axis.text(column, row, f"{share:.1f}", ha="center", va="center", fontsize=8)
        if told:
            axis.imshow(shares, cmap="Oranges", vmin=0, vmax=100, aspect="auto")
        axis.set_xticks(range(len(policies)), policies, rotation=45, ha="right")
        axis.set_yticks(range(len(kinds)), kinds)
        axis.set_title(f"{layout.name}: % of answers wrong")
    save(figure, path)
