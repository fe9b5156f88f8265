"""The cells as Markdown tables; where there are several sets, a cell holds one figure for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Cell = dict[str, Any]
FIGURES = {
    "named": "Share of groups in which the E most suspicious workers are the E liars",
    "located": "Share of groups in which those suspected are the liars, E unknown",
    "accuracy": "Accuracy after locating (in brackets: with the liars known)",
}


def tables(cells: Sequence[Cell]) -> str:
    """Lays out all cells.

    Args:
        cells: From the command's ``report.json``.

    Returns:
        Markdown: for each K and E a table per figure with a column per method, and a summary of
        the last method over all K and E.
    """
    shapes: dict[tuple[int, int], list[Cell]] = {}
    for cell in cells:
        shapes.setdefault((cell["queries"], cell["byzantine"]), []).append(cell)
    parts = []
    for (queries, byzantine), some in shapes.items():
        sets = " / ".join(_unique(cell["set"] for cell in some))
        workers = some[0]["num_workers"]
        parts.append(
            f"### K={queries}, E={byzantine}, {workers} workers ({sets}), "
            f"measured on the {some[0]['measured_on']} half\n"
        )
        for figure, explanation in FIGURES.items():
            parts.append(f"{explanation}:\n\n{_table(figure, some)}")
    last = [cell for cell in cells if cell["method"] == cells[-1]["method"]]
    parts.append(f"### {cells[-1]['title']}\n\n{_summary(last)}")
    return "\n".join(parts)


def _unique(names: Any) -> list[str]:
    return list(dict.fromkeys(names))


def _figure(figure: str, fault: dict[str, float]) -> str:
    text = f"{fault[figure]:.3f}"
    return f"{text} ({fault['oracle']:.3f})" if figure == "accuracy" else text


def _table(figure: str, cells: Sequence[Cell]) -> str:
    columns: dict[str, list[Cell]] = {}
    for cell in cells:
        columns.setdefault(cell["title"], []).append(cell)

    def row(title: str, value: Callable[[Cell], str]) -> str:
        return _row(title, *(" / ".join(map(value, some)) for some in columns.values()))

    lines = [_row("fault", *columns), "|---" * (len(columns) + 1) + "|"]
    for fault in cells[0]["faults"]:
        lines.append(row(fault, lambda cell, f=fault: _figure(figure, cell["faults"][f])))
    if figure == "located":
        lines.append(row("clean groups suspected", lambda c: f"{c['false_suspicions']:.3f}"))
    if figure == "accuracy":
        lines.append(
            row(
                "clean groups (nothing suspected)",
                lambda c: f"{c['clean_accuracy']:.3f} ({c['healthy_accuracy']:.3f})",
            )
        )
    return "\n".join(lines) + "\n"


def _summary(cells: Sequence[Cell]) -> str:
    faults = ("sign flip", "permuted", "stuck", "misrouted", "exponent bit")
    gross = ("gaussian 100", "gaussian 10", "exponent bit >= 2^4, up", "NaN", "huge")
    lines = [
        _row("set", "K", "E", "N+1", "clean suspected", *faults, "gross, worst", "below oracle"),
        "|---" * (len(faults) + 7) + "|",
    ]
    for cell in cells:
        found = cell["faults"]
        behind = {name: one["oracle"] - one["accuracy"] for name, one in found.items()}
        worst = max(behind, key=lambda name: behind[name])
        lines.append(
            _row(
                cell["set"],
                cell["queries"],
                cell["byzantine"],
                cell["num_workers"],
                f"{cell['false_suspicions']:.3f}",
                *(f"{found[name]['named']:.3f}, {found[name]['located']:.3f}" for name in faults),
                f"{min(found[name]['located'] for name in gross):.3f}",
                f"{behind[worst]:.3f} ({worst})",
            )
        )
    return "\n".join(lines) + "\n"


def _row(*values: object) -> str:
    return "| " + " | ".join(map(str, values)) + " |"
