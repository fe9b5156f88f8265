"""``approxifer status``: what the plugin knows of models, workers and groups."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from approxifer_torchserve.cli.output import (
    DEFAULT_INFERENCE,
    Json,
    KeyFile,
    Token,
    console,
    print_json,
    told_failures,
)

if TYPE_CHECKING:
    from approxifer_torchserve.serving.server.tokens import TokenAuth

TITLE = ("model", "version", "mode")


def run(
    model: Annotated[str | None, typer.Argument(help="One model (default: all).")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
    inference: Annotated[
        str,
        typer.Option(
            help="Base URL of the inference API.",
            envvar="APPROXIFER_INFERENCE",
            rich_help_panel="Server",
        ),
    ] = DEFAULT_INFERENCE,
    token: Token = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Show the coded models of a running server: workers, their ledger, counters.

      approxifer status

      approxifer status resnet --watch

    With --json, what GET /coded on the inference port answers.
    """
    if watch and as_json:
        raise typer.BadParameter("--watch and --json exclude each other", param_hint="--watch")
    from approxifer_torchserve.serving.server.tokens import TokenAuth

    with told_failures():
        auth = TokenAuth(token, key_file, "inference")
        state = fetch(inference, model, auth)
        if as_json:
            print_json(state)
            return
        if not watch:
            console.print(render(state))
            return
        try:
            with Live(render(state), console=console, auto_refresh=False) as live:
                while True:
                    time.sleep(interval)
                    live.update(render(fetch(inference, model, auth)), refresh=True)
        except KeyboardInterrupt:
            return


def fetch(inference: str, model: str | None, auth: TokenAuth) -> Any:
    """Asks the plugin for its state.

    Args:
        inference: Base URL of the inference API.
        model: One model, or None for all.
        auth: Gives the inference token, where the server asks for one.

    Raises:
        ClusterError: No server, no plugin in it, or no such coded model.
    """
    import httpx

    from approxifer_torchserve.serving.server.cluster import ClusterError
    from approxifer_torchserve.serving.server.tokens import is_refusal

    path = "/coded" if model is None else f"/coded/{quote(model, safe='')}"
    try:
        reply = httpx.get(inference + path, auth=auth, timeout=10.0)
    except httpx.HTTPError as error:
        raise ClusterError(
            f"no answer from {inference}: {error}; is a server running there? "
            "(approxifer serve, or --inference URL)"
        ) from error
    # 503 with a state: the model has too few workers now, which is what one came to see.
    if not reply.is_success and not (reply.status_code == 503 and '"models"' in reply.text):
        hint = "no such coded model, or the server runs without the plugin"
        if is_refusal(reply):
            hint = (
                "give the server's key_file.json with --key-file; if its key has expired, have a "
                "new one written: GET /token?type=inference on the management port"
            )
        raise ClusterError(
            f"GET {path}: {reply.status_code}: {reply.text.strip()[:300]} ({hint})",
            reply.status_code,
        )
    return reply.json()


def render(state: Any) -> RenderableType:
    """Draws a state: objects by name as tables, other objects as lines, whatever keys they have."""
    models = state.get("models") if isinstance(state, Mapping) else state
    if not isinstance(models, list):
        models = [state]
    if not models:
        return Text("no coded model is registered")
    return Group(*(_model(entry) for entry in models))


def _model(entry: Any) -> RenderableType:
    if not isinstance(entry, Mapping):
        return Text(str(entry))
    plain = {key: value for key, value in entry.items() if not isinstance(value, (Mapping, list))}
    title = " ".join(str(plain.pop(key)) for key in TITLE if key in plain)
    grid = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    grid.add_row("now", _line(plain))
    tables: list[RenderableType] = []
    for key, value in entry.items():
        rows = _rows(value)
        if rows:
            tables.append(_table(key, rows))
        elif isinstance(value, (Mapping, list)):
            grid.add_row(key, _line(value) if isinstance(value, Mapping) else _cell(value))
    return Group(Text(title, style="bold"), grid, *tables)


def _rows(value: Any) -> list[Mapping[str, Any]]:
    """Returns a table's rows where a value is a list of objects, or objects by name; else none."""
    if isinstance(value, Mapping) and value and all(isinstance(v, Mapping) for v in value.values()):
        return [{"": name, **inner} for name, inner in value.items()]
    if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        return value
    return []


def _table(title: str, rows: list[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        numbers = all(isinstance(row.get(column), (int, float)) for row in rows)
        table.add_column(column, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    return table


def _line(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_cell(inner)}" for key, inner in value.items())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return f"({_line(value)})"
    if isinstance(value, list):
        return ", ".join(_cell(inner) for inner in value)
    return str(value)
