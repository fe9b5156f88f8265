"""The program ``approxifer``: one file per command, put together here."""

from __future__ import annotations

from typing import Annotated

import typer

import approxifer_torchserve
from approxifer_torchserve.cli import (
    archive,
    bench,
    calibrate,
    codes,
    demo,
    deploy,
    doctor,
    evaluate,
    quarantine,
    serve,
    status,
    undeploy,
)

app = typer.Typer(
    name="approxifer",
    help="""Coded inference for TorchServe: with (K+S)/K of the workers, no client waits for a
    late or dead one.

    A model from start to end:

      approxifer archive --mar resnet.mar --queries 8 --stragglers 1 --output store/resnet.mar

      approxifer serve --model-store store --enable-model-api

      approxifer deploy resnet.mar --workers 9

      approxifer status --watch

    Exit codes: 0 done, 1 failed, 2 wrong usage.""",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"approxifer-torchserve {approxifer_torchserve.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that need no command."""


for module in (
    codes,
    calibrate,
    archive,
    serve,
    deploy,
    status,
    undeploy,
    doctor,
    evaluate,
    demo,
):
    app.command(name=module.__name__.rsplit(".", 1)[1])(module.run)
for command in (quarantine.quarantine, quarantine.readmit):
    app.command(name=command.__name__)(command)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point of the console script."""
    app()
