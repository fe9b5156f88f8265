"""What the commands that run a model on data share: options, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from approxifer_torchserve.cli.output import fail

MODEL, RUN = "Model and data", "The run"
Weights = Annotated[Path | None, typer.Option(help="For module:Class.", rich_help_panel=MODEL)]
RoleWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="[ROLE=]FILE",
        help="A file for module:Class. ROLE=FILE: a code's own, such as parity=p.safetensors; "
        "TorchScript, or safetensors for the model's architecture. May be repeated.",
        rich_help_panel=MODEL,
    ),
]
Mean = Annotated[str, typer.Option(help="Of pixels in 0..1, by commas.", rich_help_panel=MODEL)]
Std = Annotated[str, typer.Option(help="Of pixels in 0..1, by commas.", rich_help_panel=MODEL)]
Size = Annotated[
    int | None,
    typer.Option(help="Height and width of a folder's images.", min=1, rich_help_panel=MODEL),
]

Device = Annotated[str, typer.Option(help="Such as cpu or cuda.", rich_help_panel=RUN)]
Seed = Annotated[int, typer.Option(help="Of all that is drawn.", rich_help_panel=RUN)]


@contextmanager
def told_errors(what: str) -> Iterator[None]:
    """Turns what a user can mend into a message and exit code 1.

    Args:
        what: What needs the packages of the extra ``lightning``, for the message if one is missing.
    """
    try:
        yield
    except ImportError as error:
        raise fail(
            f"{error}; {what} needs more packages: pip install 'approxifer-torchserve[lightning]'"
        ) from error
    except (OSError, TypeError, ValueError) as error:
        raise fail(str(error)) from error


def numbers(kind: Any, option: str, text: str) -> list[Any]:
    """Reads numbers separated by commas; what is none is a usage error that names the option."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"expected numbers separated by commas, got {text!r}", param_hint=option
        ) from error


def split_roles(given: list[str] | None) -> tuple[Path | None, dict[str, Path]]:
    """Reads --weights.

    Args:
        given: Each ``FILE`` or ``base=FILE``, for the model itself, or ``ROLE=FILE``.

    Returns:
        The model's own file, or None; and the others by role.
    """
    files: dict[str, Path] = {}
    for text in given or ():
        role, equals, path = text.partition("=")
        # A path may have an equals sign too; roles are plain names.
        if not (equals and role.isidentifier()):
            role, path = "base", text
        if role in files or not path:
            raise typer.BadParameter(
                f"expected one file for each of the model and the roles, got {text!r}",
                param_hint="--weights",
            )
        files[role] = Path(path)
    return files.pop("base", None), files


def scales(mean: str, std: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Reads --mean and --std."""
    return tuple(numbers(float, "--mean", mean)), tuple(numbers(float, "--std", std))
