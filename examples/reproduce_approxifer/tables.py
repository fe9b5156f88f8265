"""The results as Markdown, beside the figures to compare with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from approxifer_torchserve.examples.reproduce_approxifer.experiments import AUTHORS, LOSSES, SIZES
from approxifer_torchserve.examples.reproduce_approxifer.figures import INDEPENDENT, PUBLISHED

Results = Mapping[str, Mapping[str, Any]]
"""For one data set: experiment's name to what was measured."""


def scores(measured: Mapping[str, Any], code: str, lost: int) -> Mapping[str, Any]:
    """Finds one case's scores; NaN for what was not measured."""
    for case in measured["cases"]:
        if (case["code"], case["s"]) == (code, lost):
            found: Mapping[str, Any] = next(iter(case["scores"].values()))
            return found
    return defaultdict(lambda: math.nan)


def base(measured: Mapping[str, Any]) -> float:
    """The model's own accuracy on the same queries."""
    return float(next(iter(measured["base"].values())))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Writes a Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] + ["---:"] * (len(lines[0]) - 1))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def grid(results: Results) -> str:
    """A_o over base accuracy for every K, with A_d of the systematic code beside it."""
    rows = []
    for size in SIZES:
        measured = results[f"k{size}"]
        own = base(measured)
        row = [str(size)]
        for code, key in (
            (AUTHORS, "healthy"), (AUTHORS, "overall"), ("approxifer", "overall"),
            ("approxifer", "lost_only"), ("uncoded", "overall"),
        ):  # fmt: skip
            row.append(" / ".join(f"{scores(measured, code, s)[key] / own:.3f}" for s in LOSSES))
        rows.append(row)
    head = (
        "K", "classic, healthy", "classic A_o", "systematic A_o", "systematic A_d", "no code A_o",
    )  # fmt: skip
    return table(head, rows)


def comparison(name: str, results: Results) -> str:
    """Ratios to base accuracy at K = 8 beside the published and the independent ones."""
    rows = []
    for (data, code, order), (other, figures) in INDEPENDENT.items():
        if data != name:
            continue
        measured = results["k8" if order == "arrival" else order]
        for lost, figure in zip(LOSSES, figures, strict=True):
            mine = scores(measured, code, lost)["overall"] / base(measured)
            theirs = figure / other
            published = (
                PUBLISHED[name].get(lost) if code == AUTHORS and order == "arrival" else None
            )
            label = code if order == "arrival" else f"{code}, by {order}"
            rows.append(
                [
                    label, str(lost), f"{mine:.3f}", f"{theirs:.3f}", f"{mine - theirs:+.3f}",
                    f"{published[0] / published[1]:.3f}" if published else "",
                ]
            )  # fmt: skip
    head = ("code", "S", "here", "independent program", "difference", "published")
    return table(head, rows)


def options(results: Results) -> str:
    """What each option does at K = 8, in A_o over base accuracy."""
    rows = []
    for name, label in (
        ("k8", "as they come, logits"),
        ("similarity", "group ordered by similarity"),
        ("grouped", "similar queries grouped, ordered"),
        ("probabilities", "probabilities decoded"),
    ):
        measured = results[name]
        own = base(measured)
        for code, called in ((AUTHORS, "classic"), ("approxifer", "systematic")):
            ratios = [scores(measured, code, s)["overall"] / own for s in LOSSES]
            lost = [scores(measured, code, s)["lost_only"] / own for s in LOSSES]
            healthy = scores(measured, code, 1)["healthy"] / own
            rows.append(
                [
                    f"{called}: {label}", f"{healthy:.3f}", *(f"{v:.3f}" for v in ratios),
                    " / ".join(f"{v:.3f}" for v in lost),
                ]
            )  # fmt: skip
    return table(("", "healthy, S=1", "S=1", "S=2", "S=3", "A_d, S=1 / 2 / 3"), rows)


def splines(results: Results) -> str:
    """The search for the spline code's smoothing, in A_o over base accuracy, K = 8."""
    rows = []
    for name, measured in results.items():
        if not name.startswith("spline-"):
            continue
        own = base(measured)
        for code in dict.fromkeys(case["code"] for case in measured["cases"]):
            texts = dict(part.split("=") for part in code.split(":")[1:])
            ratios = [scores(measured, code, s)["overall"] / own for s in LOSSES]
            healthy = [scores(measured, code, s)["healthy"] / own for s in LOSSES]
            rows.append(
                [
                    f"{float(texts['smooth_encode']):g}", f"{float(texts['smooth_decode']):g}",
                    *(f"{v:.3f}" for v in ratios), " / ".join(f"{v:.3f}" for v in healthy),
                ]
            )  # fmt: skip
    head = ("smooth_encode", "smooth_decode", "S=1", "S=2", "S=3", "all answers in, S=1 / 2 / 3")
    return table(head, rows)
