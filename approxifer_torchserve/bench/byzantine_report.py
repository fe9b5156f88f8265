"""Lies as a reader sees them: what got through, how soon the liar was found, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from approxifer_torchserve.bench.byzantine_cells import ALIKE, CLEAN, HEALTHY, Cell, Size
from approxifer_torchserve.bench.sheet import Check, Sheet, Table


def found(cell: Cell) -> str:
    """Return in how many seconds the last liar was quarantined, or how many never were."""
    never = sum(one is None for one in cell.found_s)
    if never:
        return "never" if never == cell.liars else f"{never} of {cell.liars} never"
    return f"{max(one for one in cell.found_s if one is not None):.1f}"


def lies_alike(cell: Cell) -> bool:
    """Tell whether two workers said the same wrong thing, which outvotes an honest one."""
    return cell.liars > 1 and cell.kind in ALIKE


def checks(cells: Sequence[Cell]) -> list[Check]:
    """Return what is promised, and whether it came true."""
    told = [cell for cell in cells if not lies_alike(cell)]
    hurt = [cell for cell in told if cell.convicted or cell.quarantined]
    pair = [cell for cell in told if cell.policy == "pair" and cell.kind not in (CLEAN, HEALTHY)]
    alone = [cell for cell in cells if cell.liars == 0]
    through = sum(cell.wrong for cell in pair)
    result = [
        Check(
            "honest workers convicted",
            not hurt,
            str([(cell.key, cell.convicted, cell.quarantined) for cell in hurt] or "none"),
        ),
        Check(
            "nobody lied",
            not any(cell.wrong or cell.refused for cell in alone),
            f"{sum(c.wrong for c in alone)} wrong, {sum(c.refused for c in alone)} refused "
            f"of {sum(c.requests for c in alone)}",
        ),
    ]
    if pair:
        says = f"{through} of {sum(cell.answered for cell in pair)} answers of pairs"
        result.append(Check("wrong answers after a check", through == 0, says))
    baseline = [
        cell for cell in cells if cell.policy == "none" and cell.liars and cell.kind != "nan"
    ]
    if baseline:
        # Without lies that get through there would be nothing to keep from clients.
        told_nothing = [cell.kind for cell in baseline if cell.wrong == 0]
        result.append(Check("without tolerance lies get through", not told_nothing, "in each kind"))
    late = max((cell.late_sending_s for cell in cells), default=0.0)
    says = f"a request left at most {1e3 * late:.0f} ms after it was due"
    result.append(Check("the client kept up", late < 1.0, says))
    return result


def lies_table(cells: Sequence[Cell], liars: int) -> Table:
    """Return a row per kind: for each policy what got through, and when the liar was found."""
    names = tuple(dict.fromkeys(cell.policy for cell in cells))
    kinds = dict.fromkeys(cell.kind for cell in cells if cell.liars == liars)
    by_key = {cell.key: cell for cell in cells}
    columns = ["lie"]
    for name in names:
        columns += [f"{name} %"] + (["s"] if name != "none" else [])
    rows = []
    for kind in kinds:
        row = [kind]
        for name in names:
            cell = by_key.get((name, kind, liars))
            row.append("" if cell is None else f"{100 * cell.wrong_share:.1f}")
            if name != "none":
                row.append("" if cell is None else found(cell))
        rows.append(tuple(row))
    title = "one worker lies" if liars == 1 else f"{liars} workers lie"
    return Table(title, tuple(columns), tuple(rows))


def cost_table(cells: Sequence[Cell]) -> Table:
    """Return a row per policy: extra jobs, refusals, honest workers hurt."""
    rows = []
    for name in dict.fromkeys(cell.policy for cell in cells):
        own = [cell for cell in cells if cell.policy == name]

        def extra(some: Sequence[Cell]) -> str:
            return f"{mean(cell.extra for cell in some):.2f}" if some else ""

        rows.append(
            (
                name,
                extra([cell for cell in own if cell.kind == HEALTHY]),
                extra([cell for cell in own if cell.kind == CLEAN]),
                extra([cell for cell in own if cell.liars == 1]),
                extra([cell for cell in own if cell.liars == 2]),
                str(sum(cell.refused for cell in own)),
                str(sum(cell.requests for cell in own)),
                str(sum(len(cell.convicted) for cell in own if not lies_alike(cell))),
                str(sum(len(cell.convicted) for cell in own if lies_alike(cell))),
            )
        )
    columns = (
        "policy", "healthy", "digits differ", "1 liar", "2 liars",
        "refused", "requests", "convicted", "outvoted",
    )  # fmt: skip
    return Table("extra jobs per request, and who was hurt", columns, tuple(rows))


def write_report(out: Path, cells: Sequence[Cell], size: Size, load_average: float) -> Sheet:
    """Write report.json and report.html.

    Args:
        out: Folder to write to.
        cells: What was measured.
        size: And how.
        load_average: Of the machine before.
    """
    clean = sum(cell.requests for cell in cells if cell.kind == CLEAN)
    lead = (
        f"A real server, {size.workers} workers, {size.rate:g} Poisson requests/s, "
        f"{size.cell_s:g} s per cell, probes every {size.probe_every_s:g} s. A liar is a process "
        "that answers wrong from the cell's start; quarantine restarts it, which heals it. "
        '"%": of the answers in the cell, how many were not the model\'s own. "s": seconds '
        "until (the last of) the liars got no client work. Clean run: nobody lies, last digits "
        f"differ, {clean} requests in {size.clean_s:g} s. Convicted: honest workers that were "
        "confirmed wrong; outvoted: the same by two that lied alike."
    )
    tables = tuple(lies_table(cells, liars) for liars in size.liars)
    facts = {"size": asdict(size), "cells": [asdict(cell) for cell in cells]}
    sheet = Sheet(
        "Workers that lie", lead, facts, (*tables, cost_table(cells)), tuple(checks(cells)),
        load_average,
    )  # fmt: skip
    sheet.write(out)
    return sheet
