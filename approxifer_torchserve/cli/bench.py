"""``approxifer bench``: throughput, latency, bad days, chaos, lies, soak, on this machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from approxifer_torchserve.cli.output import Json, Out, errors, fail, print_json, told_failures

if TYPE_CHECKING:
    from approxifer_torchserve.bench.chaos.faults import Schedule
    from approxifer_torchserve.bench.harness.report import Report

app = typer.Typer(
    help="Measure what coded serving costs and saves; exit code 1 where a promise is broken.",
    no_args_is_help=True,
)


@contextmanager
def _bench(out: Path, as_json: bool) -> Iterator[Callable[[Report], None]]:
    """Yields what writes and shows a report; it exits with 1 where a promise is broken."""
    # Without this SIGTERM would end Python at once and leave servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise fail(
            f"{error}; a bench needs more packages: pip install "
            "'approxifer-torchserve[serve,bench]'"
        ) from error
    load_average = os.getloadavg()[0]

    def publish(report: Report) -> None:
        report.write(out, load_average)
        if as_json:
            print_json(report.figures)
        else:
            report.show(errors)
            errors.print(f"report: {out / 'report.html'}")
        if not all(check.ok for check in report.checks):
            raise typer.Exit(1)

    with told_failures():
        yield publish


def _known(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuses names that there are not."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise typer.BadParameter(
            f"expected some of {', '.join(known)}, got {', '.join(unknown)}", param_hint=option
        )


@app.command()
def throughput(
    out: Out = Path("build/throughput"),
    workers: Annotated[int, typer.Option(min=2, help="Per server.")] = 4,
    turns: Annotated[int, typer.Option(min=1, help="Slices per server and combination.")] = 8,
    slice_s: Annotated[float, typer.Option(min=0.5, help="Seconds of a slice.")] = 2.0,
    batch: Annotated[list[int] | None, typer.Option(help="Batch sizes; 1 and 8.")] = None,
    body: Annotated[list[int] | None, typer.Option(help="Bytes of bodies; 12288, 602112.")] = None,
    service_ms: Annotated[
        float, typer.Option(min=0, help="What a forward takes, asleep; 0: the bare cost.")
    ] = 20.0,
    vmargs: Annotated[str, typer.Option(help="More JVM arguments, such as '-Xmx1g'.")] = "",
    as_json: Json = False,
) -> None:
    """Saturated throughput of plain TorchServe and of the plugin, in alternating slices.

    12 KB and 600 KB bodies, batch size 1 and 8, as many workers on either server.
    """
    with _bench(out, as_json) as publish:
        from approxifer_torchserve.bench.throughput import Size, run_throughput

        size = Size(
            workers=workers, turns=turns, slice_s=slice_s, service_ms=service_ms, vmargs=vmargs
        )
        if batch:
            size = replace(size, batches=tuple(batch))
        if body:
            size = replace(size, sizes=tuple(body))
        publish(run_throughput(size, errors.print))


@app.command()
def slowdown(
    out: Out = Path("build/slowdown"),
    factor: Annotated[float, typer.Option(min=1.1, help="How many times slower.")] = 5.0,
    workers: Annotated[int, typer.Option(min=2, help="Per server.")] = 4,
    turns: Annotated[int, typer.Option(min=1, help="Per server and batch size.")] = 6,
    slow_s: Annotated[float, typer.Option(min=1, help="Seconds of a slowdown.")] = 8.0,
    batch: Annotated[list[int] | None, typer.Option(help="Batch sizes; 1 and 8.")] = None,
    as_json: Json = False,
) -> None:
    """Saturated throughput, plugin off and on, while all workers become slower at once.

    Work sent twice must not cost throughput when there is no worker to spare.
    """
    with _bench(out, as_json) as publish:
        from approxifer_torchserve.bench.slowdown import Size, run_slowdown

        size = Size(factor=factor, workers=workers, turns=turns, slow_s=slow_s)
        if batch:
            size = replace(size, batches=tuple(batch))
        publish(run_slowdown(size, errors.print))


@app.command()
def chaos(
    out: Out = Path("build/chaos"),
    seconds: Annotated[float, typer.Option(min=1, help="Of each schedule.")] = 600.0,
    schedule: Annotated[
        str, typer.Option(help="A: at most S workers hurt at a time; B: any number; or AB.")
    ] = "AB",
    queries: Annotated[int, typer.Option(min=1, help="K.")] = 4,
    stragglers: Annotated[int, typer.Option(min=1, help="S; K + S workers.")] = 2,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second.")] = 60.0,
    deadline_ms: Annotated[float, typer.Option(min=1, help="The policy's.")] = 2000.0,
    policy: Annotated[
        list[str] | None, typer.Option(help="hedge, reconstruct, classic; several in turn.")
    ] = None,
    body: Annotated[
        list[int] | None, typer.Option(help="Bytes of bodies, such as 602112; several in turn.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of load and faults.")] = 0,
    as_json: Json = False,
) -> None:
    """Kill, freeze, slow and garble workers at random under load, and check every answer.

    Schedule A must give 200 for every request; B a final status for every request, in time.
    Policies: hedge (the default); reconstruct: the code answers too; classic: every answer is
    reconstructed, as published.
    """
    with _bench(out, as_json) as publish:
        from approxifer_torchserve.bench.chaos.bench import run_chaos
        from approxifer_torchserve.bench.chaos.run import POLICIES, Size, Variant

        if not schedule or set(schedule) - {"A", "B"}:
            raise typer.BadParameter(
                f"expected A, B or AB, got {schedule}", param_hint="--schedule"
            )
        _known("--policy", policy or (), POLICIES)
        odd = [one for one in body or () if one <= 0 or one % 256]
        if odd:
            raise typer.BadParameter(
                f"expected multiples of 256 above 0, got {odd}", param_hint="--body"
            )
        size = Size(queries, stragglers, rate, deadline_ms)
        variants = [
            Variant(one, bytes_)
            for one in policy or [Variant.policy]
            for bytes_ in body or [Variant.body_bytes]
        ]
        wanted: list[Schedule] = ["A" if name == "A" else "B" for name in schedule]
        publish(run_chaos(out, size, variants, wanted, seconds, seed, errors.print))


@app.command()
def worst(
    out: Out = Path("build/worst"),
    scenario: Annotated[
        list[str] | None, typer.Option(help="Measure only these now; several in turn.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="4 workers, one turn of 3 s slices: three minutes.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=2, help="Per server; 9, quick 4.")] = None,
    turns: Annotated[int | None, typer.Option(min=1, help="Per scenario; 3, quick 1.")] = None,
    first_call_s: Annotated[
        float | None, typer.Option(min=0.5, help="What a slow first call takes; 12, quick 3.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the load.")] = 0,
    as_json: Json = False,
) -> None:
    """Bad days on the coded model and on its plain twin, side by side.

    Overload with and without a deadline, a worker that fails at once, requests that never end, slow
    first calls, slow jobs, a slow worker, a shift of the service time, all workers killed. A run
    that was stopped goes on when it is started again with the same options and folder.
    """
    with _bench(out, as_json) as publish:
        from approxifer_torchserve.bench.worst.bench import run_worst
        from approxifer_torchserve.bench.worst.scenarios import QUICK, Size, scenarios

        size = replace(QUICK if quick else Size(), seed=seed)
        size = replace(
            size,
            workers=workers or size.workers,
            turns=turns or size.turns,
            first_call_s=first_call_s or size.first_call_s,
        )
        _known("--scenario", scenario or (), scenarios(size))
        publish(run_worst(out, size, scenario or (), errors))


@app.command()
def byzantine(
    out: Out = Path("build/byzantine"),
    layout: Annotated[
        str, typer.Option(help="small: 6 workers, one lies; full: 18, and 20 of which two lie.")
    ] = "small",
    policy: Annotated[
        list[str] | None, typer.Option(help="Measure only these ways to serve now.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Few policies and lies: two minutes.")] = False,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second.")] = 40.0,
    cell_seconds: Annotated[float, typer.Option(min=1, help="Per policy and lie.")] = 6.0,
    clean_seconds: Annotated[
        float, typer.Option(min=0, help="Where nobody lies, and nobody may be quarantined.")
    ] = 300.0,
    as_json: Json = False,
) -> None:
    """Let workers lie in every way, under each policy, and count what gets through.

    A run that was stopped goes on when it is started again with the same options and folder.
    """
    with _bench(out, as_json) as publish:
        from approxifer_torchserve.bench.byzantine.bench import run_byzantine
        from approxifer_torchserve.bench.byzantine.cells import QUICK, Size
        from approxifer_torchserve.bench.byzantine.policies import LAYOUTS, POLICIES

        _known("--layout", [layout], LAYOUTS)
        _known("--policy", policy or (), POLICIES)
        size = Size(LAYOUTS[layout], rate=rate, cell_s=cell_seconds, clean_s=clean_seconds)
        if quick:
            size = replace(QUICK, rate=rate, clean_s=min(clean_seconds, QUICK.clean_s))
        publish(run_byzantine(out, size, errors, policy or ()))


@app.command()
def soak(
    out: Out = Path("build/soak"),
    requests: Annotated[int, typer.Option(min=1000, help="How many, after the warm-up.")] = 100_000,
    warm_up: Annotated[int, typer.Option(min=0, help="How many before.")] = 100_000,
    workers: Annotated[int, typer.Option(min=2, help="Of the coded model.")] = 4,
    body_bytes: Annotated[int, typer.Option(min=256, help="A multiple of 256.")] = 12_288,
    as_json: Json = False,
) -> None:
    """Send very many requests, and tell whether the memory of the JVM or of workers grows."""
    with _bench(out, as_json) as publish:
        from approxifer_torchserve.bench.soak import Size, run_soak

        size = Size(requests=requests, warm_up=warm_up, workers=workers, body_bytes=body_bytes)
        publish(run_soak(out, size, errors.print))


@app.command()
def latency(
    out: Out = Path("build/latency"),
    queries: Annotated[int, typer.Option(min=1, help="K; S is 1.")] = 3,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Of plain TorchServe's K workers.")
    ] = 0.3,
    turns: Annotated[int, typer.Option(min=1, help="Slices per phase and competitor.")] = 10,
    slice_s: Annotated[float, typer.Option(min=0.5, help="Seconds of a slice.")] = 8.0,
    seed: Annotated[int, typer.Option(help="Of the load.")] = 0,
    as_json: Json = False,
) -> None:
    """Latency beside what a user would do instead: plain, one more worker, hedging, replication.

    Healthy; with one worker a second late; with 2 % of all jobs a second late. A run that was
    stopped goes on when it is started again with the same options and folder.
    """
    with _bench(out, as_json) as publish:
        from approxifer_torchserve.bench.latency import Size, run_latency

        size = Size(
            queries=queries, utilisation=utilisation, turns=turns, slice_s=slice_s, seed=seed
        )
        publish(run_latency(out, size, errors))
