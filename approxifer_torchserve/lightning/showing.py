"""A measured table for a terminal, and a figure for the loggers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Measured = dict[str, Any]
"""One data loader's result, as ``DegradedAccuracy.table`` holds it."""


def draw_table(measured: Measured) -> Table:
    """Draw one data loader's result for a terminal.

    Args:
        measured: See ``DegradedAccuracy.table``.

    Returns:
        A table, one line for each code, S and head.
    """
    # Narrow enough for a log file, which is 80 characters wide.
    table = Table(
        title=title(measured), title_justify="left", caption=caption(measured), box=SIMPLE_HEAD
    )
    table.add_column("code", overflow="fold")
    for name in ("S", "workers", "healthy", "A_o", "A_d", "worst", "lacks", "agrees"):
        table.add_column(name, justify="right")
    heads = len(measured["heads"]) > 1
    for case in measured["cases"]:
        for head, scores in case["scores"].items():
            table.add_row(
                f"{case['code']} {head}" if heads else case["code"],
                str(case["s"]),
                str(case["workers"]),
                number(scores["healthy"]),
                number(scores["overall"]),
                number(scores["lost_only"]) + ("*" if scores["lost_are_all"] else ""),
                number(scores["worst"]),
                ",".join(map(str, scores["worst_pattern"])),
                number(scores["agreement"]),
            )
    return table


def title(measured: Measured) -> str:
    """Say what was measured."""
    base = ", ".join(
        f"{'' if len(measured['base']) == 1 else head + ' '}{number(value)}"
        for head, value in measured["base"].items()
    )
    return f"{measured['stage']}: K = {measured['queries']}, the model without a code {base}"


def caption(measured: Measured) -> str:
    """Say what the columns mean and what was left out."""
    words = [
        f"{measured['groups']} groups of {measured['queries']} out of {measured['seen']} queries; "
        f"{measured['left']} drawn queries were short of a group and are left out.",
        "A_o: all queries. A_d: queries whose own answer was lost. worst: A_o of the worst "
        "pattern, which lacks the answers named.",
    ]
    if any(s["lost_are_all"] for case in measured["cases"] for s in case["scores"].values()):
        words.append("*: every query is coded, so A_d is over all of them.")
    if "regression" in measured["heads"].values():
        words.append("Regression: relative errors, lower is better.")
    return " ".join(words)


def number(value: float | None) -> str:
    """Print a fraction, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def draw_figure(measured: Measured) -> Figure:
    """Draw A_o and A_d against S, one colour for each code.

    Args:
        measured: See ``DegradedAccuracy.table``; of several heads the first is drawn.

    Returns:
        A figure without a canvas of pyplot's, so that nothing has to be closed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    head, task = next(iter(measured["heads"].items()))
    codes = list(dict.fromkeys(case["code"] for case in measured["cases"]))
    for place, code in enumerate(codes):
        cases = [case for case in measured["cases"] if case["code"] == code]
        losses = [case["s"] for case in cases]
        for key, style in (("overall", "o-"), ("lost_only", "s--")):
            values = [case["scores"][head][key] for case in cases]
            values = [float("nan") if value is None else value for value in values]
            name = f"{code}, {'A_o' if key == 'overall' else 'A_d'}"
            axis.plot(losses, values, style, color=f"C{place % 10}", label=name, markersize=4)
    axis.axhline(measured["base"][head], color="black", linewidth=0.8, label="no worker lost")
    axis.set_xlabel("lost answers of a group, S")
    axis.set_ylabel("relative error" if task == "regression" else "accuracy")
    axis.set_xticks(sorted({case["s"] for case in measured["cases"]}))
    axis.set_title(f"{measured['stage']}, K = {measured['queries']}")
    axis.grid(alpha=0.25)
    axis.legend(fontsize="small")
    return figure


def log_figure(loggers: Sequence[Any], name: str, measured: Measured, step: int) -> None:
    """Give the figure to every logger that takes images, in the way it takes them.

    Args:
        loggers: The trainer's.
        name: The image's key.
        measured: What to draw.
        step: The global step.
    """
    if not loggers:
        return
    figure = draw_figure(measured)
    for logger in loggers:
        add_figure = getattr(getattr(logger, "experiment", None), "add_figure", None)
        if callable(add_figure):  # TensorBoard
            add_figure(name, figure, global_step=step, close=False)
        elif callable(getattr(logger, "log_image", None)):  # Weights & Biases, Comet
            logger.log_image(key=name, images=[figure], step=step)
        elif getattr(logger, "log_dir", None):  # CSV, and others with a folder
            folder = Path(logger.log_dir)
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / f"{name.replace('/', '_')}.png", dpi=120)
