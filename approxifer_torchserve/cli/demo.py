"""``approxifer demo``: the whole story in five minutes."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from approxifer_torchserve.cli.output import Json, Out, console, fail, print_json, told_failures


def run(
    out: Out = Path("build/demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Few workers, seconds per phase: to see it run.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the load.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a digits classifier, serve it coded beside plain TorchServe, and break workers.

    Phases: healthy; one worker a second late at every job; one worker killed under load; and
    classic ApproxIFER, which answers every request from a decode. Writes report.json,
    latency.png and report.html.

      approxifer demo

      approxifer demo --quick --out /tmp/look
    """
    try:
        from approxifer_torchserve.bench.demo import run_demo
    except ImportError as error:
        raise fail(
            f"{error}; the demo needs more packages: pip install "
            "'approxifer-torchserve[serve,lightning,bench]'"
        ) from error

    # Without this SIGTERM would end Python at once and leave two servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with told_failures():
        report = run_demo(out, quick=quick, seed=seed)
    if as_json:
        print_json(report)
        return
    console.print(f"report: {out / 'report.html'}")
