"""The grid as a picture: accuracy over the base model's against K, one panel for each S."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from approxifer_torchserve.examples.reproduce_approxifer.experiments import AUTHORS, LOSSES, SIZES
from approxifer_torchserve.examples.reproduce_approxifer.figures import PUBLISHED
from approxifer_torchserve.examples.reproduce_approxifer.tables import base, scores

LINES = (
    ("classic, A_o", AUTHORS, "overall", "C0o-"),
    ("classic, healthy", AUTHORS, "healthy", "C0o:"),
    ("systematic, A_o", "approxifer", "overall", "C1s-"),
    ("systematic, A_d", "approxifer", "lost_only", "C1s--"),
    ("no code, A_o", "uncoded", "overall", "k^-"),
)


def draw(name: str, results: Mapping[str, Any], path: Path) -> None:
    """Draws one data set's grid.

    Args:
        name: The data set's name, for the title.
        results: Experiment's name to what was measured.
        path: A .png file to write.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axis, lost in zip(figure.subplots(1, len(LOSSES), sharey=True), LOSSES, strict=True):
        for label, code, key, style in LINES:
            values = [
                scores(results[f"k{size}"], code, lost)[key] / base(results[f"k{size}"])
                for size in SIZES
            ]
            axis.plot(SIZES, values, style, label=label, markersize=4)
        if lost in PUBLISHED[name]:
            accuracy, other = PUBLISHED[name][lost]
            axis.plot([8], [accuracy / other], "r*", label="published, classic", markersize=9)
        axis.set(xlabel="queries of a group, K", title=f"{name}, S = {lost}", xticks=SIZES)
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylabel("accuracy over the base model's")
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
