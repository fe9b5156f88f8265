"""The latency plot and the page that carries it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment

from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.harness.report import PhaseResult, row
from approxifer_torchserve.bench.harness.schedule import by_server

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Colours that people with any colour vision tell apart (Okabe and Ito).
COLOURS = {"coded": "#0072b2", "plain": "#d55e00"}
COLUMNS = (
    "phase", "server", "requests", "p50", "p99", "max", "exact", "hedged", "reconstructed",
    "failed", "accuracy", "accuracy of reconstructed",
)  # fmt: skip


def plot(path: Path, results: Sequence[PhaseResult], records: Sequence[Record]) -> None:
    """Draw, per phase, which share of requests took longer than a time (both axes logarithmic).

    Args:
        path: A .png file to write.
        results: The phases, in order.
        records: All requests.
    """
    figure, axes = plt.subplots(
        1,
        len(results),
        figsize=(4 * len(results), 3.8),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, result in zip(axes[0], results, strict=True):
        mine = [record for record in records if record.phase == result.phase.name]
        for server, group in by_server(mine).items():
            times = sorted(1e3 * record.latency_s for record in group)
            longer = [1 - done / len(times) for done in range(len(times))]
            axis.step(times, longer, where="post", label=server, color=COLOURS.get(server))
        axis.set(xscale="log", yscale="log", xlabel="latency, ms", title=result.phase.name)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(which="both", alpha=0.25)
        axis.legend()
    axes[0][0].set_ylabel("share of requests that took longer")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write_page(path: Path, report: dict[str, Any], results: Sequence[PhaseResult]) -> None:
    """Write report.html: one file, the plot inside.

    Args:
        path: Where to; ``latency.png`` must lie beside it.
        report: What report.json holds.
        results: The phases, in order.
    """
    source = files("approxifer_torchserve.bench.harness").joinpath("report.html.j2").read_text()
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )
    picture = base64.b64encode((path.parent / "latency.png").read_bytes()).decode()
    rows = [
        (number, row(result, summary))
        for number, result in enumerate(results)
        for summary in result.summaries
    ]
    path.write_text(
        template.render(report=report, columns=COLUMNS, rows=rows, results=results, picture=picture)
    )
