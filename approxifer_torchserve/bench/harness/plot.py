"""What the plots of all benches share: no display, colours, and the tails of latencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.harness.schedule import by_server

matplotlib.use("Agg")
from matplotlib import pyplot as plt

__all__ = ["COLOURS", "plt", "save", "tails"]
# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = {
    "orange": "#e69f00", "green": "#009e73", "sky": "#56b4e9", "yellow": "#f0e442",
    "blue": "#0072b2", "red": "#d55e00", "pink": "#cc79a7",
}  # fmt: skip


def save(figure: Any, path: Path) -> None:
    """Writes a figure as a .png file and forgets it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def tails(path: Path, phases: Mapping[str, Sequence[Record]]) -> None:
    """Draws, per phase, which share of requests took longer than a time (both axes logarithmic).

    Args:
        path: A .png file to write.
        phases: All requests, by the name of their phase.
    """
    across = min(4, len(phases))
    down = -(-len(phases) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(4.5 * across, 4 * down), sharex=True, sharey=True, squeeze=False,
        constrained_layout=True,
    )  # fmt: skip
    servers = dict.fromkeys(one.server for records in phases.values() for one in records)
    others = [name for name in servers if name != "coded"]
    free = [COLOURS[name] for name in ("red", "orange", "green", "pink")]
    colours = {"coded": COLOURS["blue"], **dict(zip(others, free, strict=False))}
    for axis in axes.flat[len(phases) :]:
        axis.set_visible(False)
    for axis, (phase, records) in zip(axes.flat, phases.items(), strict=False):
        for server, group in by_server(records).items():
            times = sorted(1e3 * record.latency_s for record in group)
            longer = [1 - done / len(times) for done in range(len(times))]
            axis.step(times, longer, where="post", label=server, color=colours.get(server))
        axis.set(xscale="log", yscale="log", xlabel="latency, ms", title=phase)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(which="both", alpha=0.25)
        axis.legend()
    for axis in axes[:, 0]:
        axis.set_ylabel("share of requests that took longer")
    save(figure, path)
