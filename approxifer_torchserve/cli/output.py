"""What every command does alike: JSON or a table, errors on stderr, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from approxifer_torchserve.serving.server.cluster import Cluster

# highlight=False: numbers in colours of their own make tables harder to read.
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

Out = Annotated[Path, typer.Option(help="Folder for the report.", file_okay=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Management = Annotated[
    str,
    typer.Option(
        help="Base URL of the Management API.",
        envvar="APPROXIFER_MANAGEMENT",
        rich_help_panel="Server",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(help="Token, where the server asks for one.", rich_help_panel="Server"),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        help="Take the token from this key_file.json of the server's folder.",
        envvar="APPROXIFER_KEY_FILE",
        rich_help_panel="Server",
    ),
]
DEFAULT_MANAGEMENT = "http://127.0.0.1:8081"
DEFAULT_INFERENCE = "http://127.0.0.1:8080"


def print_json(value: Any) -> None:
    """Prints a value as JSON, plain also on a terminal."""
    typer.echo(json.dumps(value, indent=2, default=str))


def fail(message: str) -> typer.Exit:
    """Prints why a command failed and returns what to raise for exit code 1."""
    errors.print(Text.assemble(("error:", "bold red"), f" {message}"))
    return typer.Exit(1)


@contextmanager
def told_failures() -> Iterator[None]:
    """Turns the errors that a user can act on into one message and exit code 1.

    What is left (a bug) keeps its traceback.
    """
    from approxifer_torchserve.serving.jar import JavaNotFoundError
    from approxifer_torchserve.serving.server.cluster import ClusterError
    from approxifer_torchserve.serving.server.launcher import LaunchError

    try:
        yield
    except (ClusterError, JavaNotFoundError, LaunchError, OSError, ValueError) as error:
        raise fail(str(error)) from error


@contextmanager
def connected(management: str, token: str | None, key_file: Path | None) -> Iterator[Cluster]:
    """Connects to a Management API; what fails there is told as by `told_failures`.

    Args:
        management: Its base URL.
        token: The management token, where the server asks for one.
        key_file: Where the token comes from otherwise.
    """
    from approxifer_torchserve.serving.server.cluster import Cluster

    with told_failures(), Cluster(management, token, key_file=key_file) as cluster:
        yield cluster
