"""The cells as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FIGURES = (
    ("named", "Share of groups in which the E most suspicious workers are the E liars"),
    ("located", "Share of groups in which those convicted are the liars, E unknown"),
    ("accuracy", "Accuracy after locating / with the liars known"),
)


def tables(cells: Sequence[dict[str, Any]]) -> str:
    """Lay out all cells.

    Args:
        cells: From ``Bench.cell``.

    Returns:
        Markdown: for each figure and each set, K and E a table with a column per method.
    """
    shapes: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for cell in cells:
        key = (cell["set"], cell["queries"], cell["byzantine"])
        shapes.setdefault(key, []).append(cell)
    parts = []
    for (name, queries, byzantine), columns in shapes.items():
        workers = columns[0]["num_workers"]
        parts.append(f"### {name}, K={queries}, E={byzantine}, {workers} workers\n")
        for figure, explanation in FIGURES:
            parts.append(f"{explanation}:\n")
            parts.append(_table(figure, columns))
    return "\n".join(parts)


def _table(figure: str, columns: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| fault | " + " | ".join(column["title"] for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for fault in columns[0]["faults"]:
        values = []
        for column in columns:
            found = column["faults"][fault]
            text = f"{found[figure]:.3f}"
            values.append(f"{text} / {found['oracle']:.3f}" if figure == "accuracy" else text)
        lines.append(f"| {fault} | " + " | ".join(values) + " |")
    if figure == "located":
        shares = [f"{column['false_convictions']:.3f}" for column in columns]
        lines.append("| *clean groups convicted* | " + " | ".join(shares) + " |")
    if figure == "accuracy":
        shares = [
            f"{column['clean_accuracy']:.3f} / {column['healthy_accuracy']:.3f}"
            for column in columns
        ]
        lines.append("| *clean groups* | " + " | ".join(shares) + " |")
    return "\n".join(lines) + "\n"
