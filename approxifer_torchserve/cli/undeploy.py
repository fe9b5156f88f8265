"""``approxifer undeploy``: take a model off a running server."""

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


def run(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    version: Annotated[
        str | None, typer.Option(help="One version (default: the default version).")
    ] = None,
    management: Management = DEFAULT_MANAGEMENT,
    token: Token = None,
    key_file: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Remove a model; removing one that is not there does no harm.

    approxifer undeploy resnet

    approxifer undeploy resnet --version 1.0
    """
    with connected(management, token, key_file) as cluster:
        removed = cluster.unregister(name, version)
    if as_json:
        print_json({"model": name, "version": version, "removed": removed})
        return
    console.print(f"{name}: {'removed' if removed else 'was not registered'}")
