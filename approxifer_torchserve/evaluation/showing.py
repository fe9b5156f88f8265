"""What was measured: as plain values, as a table for a terminal, as a figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from approxifer_torchserve.evaluation.evaluator import Evaluator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Measured = dict[str, Any]
"""One result as plain values that JSON takes, see ``as_measured``."""
COLUMNS = (
    "code", "S", "workers", "healthy", "A_o", "A_d", "worst", "lacks", "agrees", "A_d agrees",
)  # fmt: skip


def as_measured(evaluator: Evaluator, stage: str, *, seen: int, left: int, groups: int) -> Measured:
    """Puts an evaluator's result into plain values.

    Args:
        evaluator: What measured; processes are synchronised here.
        stage: ``val``, ``test`` or another word for the title.
        seen: Queries that there were, in all processes.
        left: Queries that were drawn and are short of a group.
        groups: Groups that were measured, in all processes.

    Returns:
        A mapping: the base model's accuracy for each head, and for each case its settings, the key
        under which serving finds it, and each head's ``Scores``.
    """
    found, rates = evaluator.compute(), evaluator.compute_locators()
    return {
        "stage": stage,
        "queries": evaluator.forwards.queries,
        "heads": dict(evaluator.heads),
        "base": {head: scores.as_dict()["base"] for head, scores in found[0].items()},
        "seen": seen,
        "left": left,
        "groups": groups,
        "cases": [
            {
                "code": case.spec.label,
                "name": case.spec.name,
                "mode": case.code.mode,
                "settings": {**case.settings},
                "report_key": case.report_key,
                "s": case.lost,
                "e": case.byzantine,
                "workers": case.workers,
                "scores": {head: scores.as_dict() for head, scores in heads.items()},
                "locator": rate and {k: None if math.isnan(v) else v for k, v in rate.items()},
            }
            for case, heads, rate in zip(evaluator.cases, found, rates, strict=True)
        ],
    }


def draw_table(measured: Measured) -> Table:
    """Draws a result for a terminal.

    Args:
        measured: What ``as_measured`` returned.

    Returns:
        A table, one line for each code, S and head.
    """
    # Narrow enough for a log file, which is 80 characters wide.
    table = Table(
        title=title(measured),
        title_justify="left",
        caption=caption(measured),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column(COLUMNS[0], overflow="fold")
    for name in COLUMNS[1:-1]:
        table.add_column(name, justify="right")
    for cells in rows(measured):
        table.add_row(*cells[:-1])
    return table


def rows(measured: Measured) -> list[tuple[str, ...]]:
    """Returns the table's lines as text, one for each code, S and head, see ``COLUMNS``."""
    heads = len(measured["heads"]) > 1
    return [
        (
            f"{shown_name(case)} {head}" if heads else shown_name(case),
            str(case["s"]),
            str(case["workers"]),
            number(scores["healthy"]),
            number(scores["overall"]),
            number(scores["lost_only"]) + ("*" if scores["lost_are_all"] else ""),
            number(scores["worst"]),
            ",".join(map(str, scores["worst_pattern"])),
            number(scores["agreement"]),
            number(scores["agreement_lost"]),
        )
        for case in measured["cases"]
        for head, scores in case["scores"].items()
    ]


def shown_name(case: Measured) -> str:
    """Calls ``uncoded`` what it stands for in a table."""
    return "no code" if case["mode"] == "uncoded" else str(case["code"])


def title(measured: Measured) -> str:
    """Says what was measured."""
    base = ", ".join(
        f"{'' if len(measured['base']) == 1 else head + ' '}{number(value)}"
        for head, value in measured["base"].items()
    )
    return f"{measured['stage']}: K = {measured['queries']}, the model without a code {base}"


def caption(measured: Measured) -> str:
    """Says what the columns mean and what was left out."""
    words = [
        f"{measured['groups']} groups of {measured['queries']} out of {measured['seen']} queries.",
        "A_o: all queries. A_d: queries whose own answer was lost. worst: A_o of the worst "
        "pattern, which lacks the answers named.",
    ]
    if measured["left"]:
        words.insert(1, f"{measured['left']} drawn queries were short of a group, so left out.")
    if any(s["lost_are_all"] for case in measured["cases"] for s in case["scores"].values()):
        words.append("*: every query is coded, so A_d is over all of them.")
    if "regression" in measured["heads"].values():
        words.append("Regression: relative errors, lower is better.")
    return " ".join(words)


def number(value: float | None) -> str:
    """Prints a fraction, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def draw_figure(measured: Measured) -> Figure:
    """Draws A_o and A_d against S, one colour for each code.

    Args:
        measured: See ``as_measured``; of several heads the first is drawn.

    Returns:
        A figure without a canvas of pyplot's, so that nothing has to be closed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axis = figure.subplots()
    head, task = next(iter(measured["heads"].items()))
    codes = list(dict.fromkeys(case["code"] for case in measured["cases"]))
    for place, code in enumerate(codes):
        cases = [case for case in measured["cases"] if case["code"] == code]
        losses = [case["s"] for case in cases]
        shown = shown_name(cases[0])
        # Where A_d is over all queries, it is A_o.
        alike = all(case["scores"][head]["lost_are_all"] for case in cases)
        for key, style in (("overall", "o-"), ("lost_only", "s--")):
            if key == "lost_only" and alike:
                continue
            values = [case["scores"][head][key] for case in cases]
            values = [float("nan") if value is None else value for value in values]
            name = f"{shown}, {'A_o' if key == 'overall' else 'A_d'}"
            colour = "dimgrey" if cases[0]["mode"] == "uncoded" else f"C{place % 10}"
            axis.plot(losses, values, style, color=colour, label=name, markersize=4)
    axis.axhline(measured["base"][head], color="black", linewidth=0.8, label="no worker lost")
    axis.set_xlabel("lost answers of a group, S")
    axis.set_ylabel("relative error" if task == "regression" else "accuracy")
    axis.set_xticks(sorted({case["s"] for case in measured["cases"]}))
    axis.set_title(f"{measured['stage']}, K = {measured['queries']}")
    axis.grid(alpha=0.25)
    figure.legend(fontsize="small", loc="outside right upper")
    return figure
