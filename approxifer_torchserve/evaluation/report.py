"""report.json, report.html and plots of an evaluation."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from approxifer_torchserve.evaluation.advice import advise
from approxifer_torchserve.evaluation.showing import (
    COLUMNS,
    Measured,
    caption,
    draw_figure,
    rows,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("approxifer-torchserve", "torch", "torchmetrics")


def build_report(measured: Measured, **about: Any) -> dict[str, Any]:
    """Puts a result into the form that files and serving read.

    Args:
        measured: See ``showing.as_measured``.
        **about: What else to say, such as the model's and the data's names.

    Returns:
        A mapping for JSON. ``base_accuracy`` and ``codes`` are what serving's
        ``min_degraded_accuracy`` reads (``approxifer archive --report``); they are left out for
        relative errors. Of several heads the one counts that suffers most in proportion; its
        figures are scaled so that ``A_d / base_accuracy`` is its own.
    """
    report: dict[str, Any] = {
        "command": ["approxifer", *sys.argv[1:]],
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.system(), "cpus": os.cpu_count()},
        **about,
        "advice": advise(measured),
        "measured": measured,
    }
    return {**serving_part(measured), **report}


def serving_part(measured: Measured) -> dict[str, Any]:
    """Gives what serving reads of a result.

    Args:
        measured: See ``showing.as_measured``.

    Returns:
        ``base_accuracy`` and ``codes``; empty for relative errors, which serving cannot judge.
    """
    if "regression" in measured["heads"].values():
        return {}
    base = measured["base"]
    least = min(base.values())
    codes = {}
    for case in measured["cases"]:
        each = case["scores"]
        if case["mode"] == "uncoded" or any(s["lost_only"] is None for s in each.values()):
            continue
        # The head that suffers most, in proportion to what the model itself can do there.
        head = min(each, key=lambda name: each[name]["lost_only"] / max(base[name], 1e-9))
        # Serving holds every A_d against one base accuracy: bring this head's to that scale.
        scale = 1.0 if base[head] == least else least / base[head]
        names = {"A_d": "lost_only", "A_o": "overall", "healthy": "healthy", "worst": "worst"}
        codes[case["report_key"]] = {
            **{key: min(1.0, each[head][name] * scale) for key, name in names.items()},
            "head": head,
            "workers": case["workers"],
        }
    return {"base_accuracy": least, "codes": codes}


def write_report(out: Path, report: Mapping[str, Any]) -> None:
    """Writes report.json, report.html, accuracy.png and positions.png.

    Args:
        out: The folder; made where it is not there.
        report: What ``build_report`` returned.
    """
    from jinja2 import Environment

    out.mkdir(parents=True, exist_ok=True)
    measured = report["measured"]
    (out / "report.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    pictures = {}
    for name, figure in (
        ("accuracy", draw_figure(measured)),
        ("positions", draw_positions(measured)),
    ):
        figure.savefig(out / f"{name}.png", dpi=120)
        pictures[name] = base64.b64encode((out / f"{name}.png").read_bytes()).decode()
    source = files("approxifer_torchserve.evaluation").joinpath("report.html.j2").read_text()
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    (out / "report.html").write_text(
        page.render(
            report=report,
            columns=COLUMNS,
            rows=rows(measured),
            caption=caption(measured),
            pictures=pictures,
        )
    )


def draw_positions(measured: Measured) -> Figure:
    """Draws A_d for each lost position, one line for each code and S.

    Args:
        measured: See ``showing.as_measured``; of several heads the first is drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axis = figure.subplots()
    head = next(iter(measured["heads"]))
    cases = [case for case in measured["cases"] if case["mode"] in ("systematic", "coded")]
    codes = list(dict.fromkeys(case["code"] for case in cases))
    losses = sorted({case["s"] for case in cases})
    for case in cases:
        values = [
            float("nan") if value is None else value for value in case["scores"][head]["positions"]
        ]
        style = ("-", "--", ":", "-.")[losses.index(case["s"]) % 4]
        colour = f"C{codes.index(case['code']) % 10}"
        label = f"{case['code']}, S={case['s']}"
        axis.plot(range(len(values)), values, style, marker="o", color=colour, label=label, ms=3)
    axis.set_xlabel("coded query that was lost")
    axis.set_ylabel("A_d")
    axis.set_title(f"which loss costs what, K = {measured['queries']}")
    axis.grid(alpha=0.25)
    if cases:
        figure.legend(fontsize="x-small", loc="outside right upper")
    return figure


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
