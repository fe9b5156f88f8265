"""``approxifer status``: what the plugin knows of models, workers and groups."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from approxifer_torchserve.cli.output import (
    DEFAULT_INFERENCE,
    Json,
    Token,
    console,
    print_json,
    told_failures,
)


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
    as_json: Json = False,
) -> None:
    """Show the coded models of a running server: workers, their ledger, counters.

      approxifer status

      approxifer status resnet --watch

    With --json, what GET /coded on the inference port answers.
    """
    if watch and as_json:
        raise typer.BadParameter("--watch and --json exclude each other", param_hint="--watch")
    with told_failures():
        state = fetch(inference, model, token)
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
                    live.update(render(fetch(inference, model, token)), refresh=True)
        except KeyboardInterrupt:
            return


def fetch(inference: str, model: str | None, token: str | None) -> Any:
    """Ask the plugin for its state.

    Args:
        inference: Base URL of the inference API.
        model: One model, or None for all.
        token: Inference token, where the server asks for one.

    Raises:
        ClusterError: No server, no plugin in it, or no such coded model.
    """
    import httpx

    from approxifer_torchserve.serving.cluster import ClusterError

    path = "/coded" if model is None else f"/coded/{quote(model, safe='')}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        reply = httpx.get(inference + path, headers=headers, timeout=10.0)
    except httpx.HTTPError as error:
        raise ClusterError(
            f"no answer from {inference}: {error}; is a server running there? "
            "(approxifer serve, or --inference URL)"
        ) from error
    if not reply.is_success:
        hint = "no such coded model, or the server runs without the plugin"
        if "Token Auth" in reply.text:
            hint = "send the 'inference' key of key_file.json with --token"
        raise ClusterError(
            f"GET {path}: {reply.status_code}: {reply.text.strip()[:300]} ({hint})",
            reply.status_code,
        )
    return reply.json()


def render(state: Any) -> RenderableType:
    """Draw a state of any depth: lists of objects as tables, the rest as lines."""
    models = state.get("models") if isinstance(state, Mapping) else state
    if isinstance(models, Mapping):
        models = [{"model": name, **value} for name, value in models.items()]
    if not isinstance(models, Sequence) or isinstance(models, str):
        models = [state]
    if not models:
        return Text("no coded model is registered")
    return Group(*(_model(entry) for entry in models))


def _model(entry: Any) -> RenderableType:
    if not isinstance(entry, Mapping):
        return Text(str(entry))
    parts: list[RenderableType] = []
    plain = {key: value for key, value in entry.items() if not _is_table(value)}
    parts.append(Text("  ".join(f"{key} {_cell(value)}" for key, value in plain.items())))
    for key, value in entry.items():
        if _is_table(value):
            parts.append(_table(key, value))
    return Group(*parts, Text())


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _table(title: str, rows: list[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_cell(inner) for inner in value)
    return str(value)
