"""The figure of a result, for the loggers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from approxifer_torchserve.evaluation.showing import Measured, draw_figure


def log_figure(loggers: Sequence[Any], name: str, measured: Measured, step: int) -> None:
    """Gives the figure to every logger that takes images, in the way it takes them.

    Args:
        loggers: The trainer's loggers.
        name: The image's key.
        measured: What to draw, see ``evaluation.showing.as_measured``.
        step: The global step, in optimizer steps.
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
