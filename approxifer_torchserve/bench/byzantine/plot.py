"""What got through, as a picture: a square per policy and kind of lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from approxifer_torchserve.bench.byzantine.cells import CLEAN, Cell, measured
from approxifer_torchserve.bench.byzantine.policies import Layout

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def plot(path: Path, cells: Sequence[Cell], layouts: Sequence[Layout]) -> None:
    """Draw the share of wrong answers; what was not measured stays white.

    Args:
        path: A .png file to write.
        cells: What was measured.
        layouts: One picture each, side by side.
    """
    told = [cell for cell in cells if cell.kind != CLEAN]
    policies, kinds = measured(told)
    figure, axes = plt.subplots(
        1, len(layouts), figsize=(1 + 6 * len(layouts), 4.5), squeeze=False, sharey=True
    )
    for axis, layout in zip(axes[0], layouts, strict=True):
        shares = [[float("nan")] * len(policies) for _ in kinds]
        for cell in told:
            if cell.workers == layout.workers:
                row, column = kinds.index(cell.kind), policies.index(cell.policy)
                shares[row][column] = 100 * cell.wrong_share
                axis.text(
                    column, row, f"{100 * cell.wrong_share:.1f}",
                    ha="center", va="center", fontsize=8,
                )  # fmt: skip
        if told:
            axis.imshow(shares, cmap="Oranges", vmin=0, vmax=100, aspect="auto")
        axis.set_xticks(range(len(policies)), policies, rotation=45, ha="right")
        axis.set_yticks(range(len(kinds)), kinds)
        axis.set_title(f"{layout.name}: % of answers wrong")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
