"""``approxifer quarantine`` and ``approxifer readmit``: keep a worker from clients, by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from approxifer_torchserve.cli.output import (
    DEFAULT_MANAGEMENT,
    Json,
    KeyFile,
    Management,
    Token,
    connected,
    console,
    print_json,
)

Model = Annotated[str, typer.Argument(help="The model's name.")]
Worker = Annotated[str, typer.Argument(help="The worker's id, as `approxifer status` shows it.")]


def quarantine(
    model: Model,
    worker: Worker,
    management: Management = DEFAULT_MANAGEMENT,
    token: Token = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Give a worker no client work until it is readmitted; it is restarted and probed.

    approxifer quarantine resnet 9003
    """
    with connected(management, token, key_file) as cluster:
        _report(cluster.quarantine(model, worker), model, worker, as_json)


def readmit(
    model: Model,
    worker: Worker,
    management: Management = DEFAULT_MANAGEMENT,
    token: Token = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Give a quarantined worker client work again.

    approxifer readmit resnet 9003
    """
    with connected(management, token, key_file) as cluster:
        _report(cluster.readmit(model, worker), model, worker, as_json)


def _report(message: str, model: str, worker: str, as_json: bool) -> None:
    if as_json:
        print_json({"model": model, "worker": worker, "message": message})
    else:
        console.print(f"{model}: {message}")
