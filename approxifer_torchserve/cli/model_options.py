"""Options of the commands that run a model on data: what the model is, what is done to pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

MODEL = "Model and data"
Weights = Annotated[Path | None, typer.Option(help="For module:Class.", rich_help_panel=MODEL)]
Mean = Annotated[str, typer.Option(help="Of pixels in 0..1, by commas.", rich_help_panel=MODEL)]
Std = Annotated[str, typer.Option(help="Of pixels in 0..1, by commas.", rich_help_panel=MODEL)]
Size = Annotated[
    int | None,
    typer.Option(help="Height and width of a folder's images.", min=1, rich_help_panel=MODEL),
]


def numbers(kind: Any, option: str, text: str) -> list[Any]:
    """Read numbers separated by commas; what is none is a usage error that names the option."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"expected numbers separated by commas, got {text!r}", param_hint=option
        ) from error


def scales(mean: str, std: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read --mean and --std."""
    return tuple(numbers(float, "--mean", mean)), tuple(numbers(float, "--std", std))
