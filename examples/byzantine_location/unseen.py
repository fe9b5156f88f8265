"""What a locator does with a kind of lie that it was not trained with.

For each kind one locator is trained without it; its figures make one column, so that each row is
of a locator that never saw that row's kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

LEFT_OUT: dict[tuple[str, ...], tuple[str, ...]] = {
    ("gaussian 100", "gaussian 10"): ("gaussian",),
    ("sign flip",): ("sign_flip",),
    ("permuted",): ("permuted",),
    ("stuck",): ("stuck",),
    ("misrouted",): ("misrouted",),
    ("exponent bit", "exponent bit >= 2^4, up"): ("exponent", "exponent_low"),
    ("NaN", "huge"): ("huge",),
}
"""Rows of the table, and the kinds that their locator's training leaves out."""


def column(
    measured: Callable[[tuple[str, ...], tuple[str, ...]], dict[str, Any]],
) -> dict[str, object]:
    """Measures each kind with a locator that was trained without it.

    Args:
        measured: Called with rows and the kinds left out; returns what ``measure`` returns.

    Returns:
        The same, all rows together; what concerns clean groups is the mean over the locators.
    """
    parts = [measured(rows, kinds) for rows, kinds in LEFT_OUT.items()]
    found = {row: figures for part in parts for row, figures in part["faults"].items()}
    return {
        "groups": parts[0]["groups"],
        "false_suspicions": _mean([part["false_suspicions"] for part in parts]),
        "clean_accuracy": _mean([part["clean_accuracy"] for part in parts]),
        "healthy_accuracy": parts[0]["healthy_accuracy"],
        "faults": found,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
