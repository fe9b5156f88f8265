"""``approxifer deploy``: register an archive and wait for its workers."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from approxifer_torchserve.cli.output import (
    DEFAULT_MANAGEMENT,
    Json,
    KeyFile,
    Management,
    Token,
    connected,
    console,
    errors,
    print_json,
)


def run(
    archive: Annotated[
        str, typer.Argument(help="Archive: its name in the server's model store, or a URL.")
    ],
    name: Annotated[str | None, typer.Option(help="Model name (default: the archive's).")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Workers (default: minWorkers of the archive; with --model-store, as many as its "
            "code wants).",
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="The archive's version, where several are registered.")
    ] = None,
    model_store: Annotated[
        Path | None,
        typer.Option(help="Copy the archive file into this store first.", file_okay=False),
    ] = None,
    make_default: Annotated[
        bool, typer.Option("--default", help="Make --version the default version.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for the workers.")] = 180.0,
    management: Management = DEFAULT_MANAGEMENT,
    token: Token = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Register an archive with a running server; doing it twice does no harm.

      approxifer deploy resnet.mar --workers 9

      approxifer deploy build/resnet.mar --model-store store

      approxifer deploy resnet-v2.mar --version 2.0 --default

    It is the same as

      curl -X POST "http://127.0.0.1:8081/models?url=resnet.mar&initial_workers=9"

    but waits without stalling the server's clients, as synchronous=true would.
    """
    if make_default and version is None:
        raise typer.BadParameter("--default needs --version", param_hint="--version")
    with connected(management, token, key_file) as cluster:
        url = archive
        if model_store is not None:
            model_store.mkdir(parents=True, exist_ok=True)
            url = Path(archive).name
            if Path(archive).resolve() != (model_store / url).resolve():
                _copy(Path(archive), model_store / url)
            workers = workers or _workers_of(model_store / url)
        elif "://" not in archive and Path(archive).name != archive:
            raise ValueError(
                f"TorchServe takes names in its model store, not paths: got {archive!r}; "
                "add --model-store FOLDER to copy the file there first"
            )
        with Progress(
            TextColumn("workers ready"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=errors,
            transient=True,
        ) as bar:
            task = bar.add_task("workers", total=workers or 1)
            model = cluster.register(
                url,
                name=name,
                workers=workers,
                version=version,
                timeout=timeout,
                progress=lambda ready, wanted: bar.update(task, completed=ready, total=wanted),
            )
        if make_default and version is not None:
            cluster.set_default(model.model_name, version)
    if as_json:
        print_json(model.model_dump())
        return
    console.print(f"{model.model_name} {model.model_version}: {model.ready} workers ready")
    if not model.workers:
        console.print("its archive sets no minWorkers, so none was started: give --workers N")


def _copy(archive: Path, target: Path) -> None:
    """Copies an archive into a store in one move, so that no server reads half of it."""
    with tempfile.TemporaryDirectory(prefix=".approxifer-", dir=target.parent) as beside:
        shutil.copyfile(archive, Path(beside) / target.name)
        os.replace(Path(beside) / target.name, target)


def _workers_of(archive: Path) -> int | None:
    """Returns how many workers a coded archive's code wants; None for other archives."""
    from approxifer_torchserve.serving.plan import Plan

    plan = Plan.of_archive(archive)
    return plan.worker.workers if plan is not None and plan.enabled else None
