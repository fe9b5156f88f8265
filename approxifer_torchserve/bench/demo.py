"""The demo: the digits classifier coded and plain, side by side, healthy and hurt.

Order of events::

    train ── archive (coded · plain twin · classic) ── two servers, as many workers each
      └─ same bytes? ── capacity ── healthy ── one slow ── one killed ── classic ── report
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from approxifer_torchserve.bench.digits import archives as digits
from approxifer_torchserve.bench.harness import page, report
from approxifer_torchserve.bench.harness.faults import FaultFile, Victims
from approxifer_torchserve.bench.harness.load import Record, Sample, Target, closed_loop
from approxifer_torchserve.bench.harness.report import MedianRatio, PhaseResult
from approxifer_torchserve.bench.harness.schedule import Disturbance, Phase, run_phase
from approxifer_torchserve.serving.server.cluster import Cluster
from approxifer_torchserve.serving.server.grpc_client import GrpcPredictions
from approxifer_torchserve.serving.server.launcher import TorchServe
from approxifer_torchserve.serving.server.options import (
    DEFAULT_VMARGS,
    MB_PER_WORKER,
    ServerOptions,
)

MAX_UTILISATION = 0.30
SLOW_S = 1.0
LOG_WIDTH = 110
MODEL, CLASSIC = "digits", "digits-classic"


@dataclass(frozen=True)
class Size:
    """How big the demo is.

    Attributes:
        queries: K; the demo runs with S = 1, so K + 1 workers per server.
        epochs: Of the training.
        rate: Most requests per second.
        slice_s: Seconds of a slice.
        turns: Fewest slices per phase and server.
        requests: Fewest requests to expect per phase and server.
        compared: How many answers are compared byte by byte.
        capacity_s: Seconds of each capacity measurement.
        warm_s: Seconds of saturating load on each server before anything is measured: a JVM
            compiles what runs often, and both servers should have done so.
    """

    queries: int = 8
    epochs: int = 30
    rate: float = 45.0
    slice_s: float = 5.0
    turns: int = 5
    requests: int = 1000
    compared: int = 50
    capacity_s: float = 3.0
    warm_s: float = 12.0

    @property
    def workers(self) -> int:
        """Workers per server."""
        return self.queries + 1

    def phase(self, name: str, label: str, capacity: float) -> Phase:
        """Plan a phase: the rate below the limit, and slices enough for all requests."""
        rate = min(self.rate, MAX_UTILISATION * capacity)
        # Three standard deviations more, so that chance does not leave a phase short.
        expected = self.requests + 3 * math.sqrt(self.requests)
        turns = max(self.turns, math.ceil(expected / (rate * self.slice_s)))
        return Phase(name, label, rate, self.slice_s, turns)


FULL = Size()
QUICK = Size(
    queries=2,
    epochs=4,
    rate=20.0,
    slice_s=2.0,
    turns=2,
    requests=1,
    compared=5,
    capacity_s=1.0,
    warm_s=1.0,
)


@dataclass(frozen=True)
class Check:
    """Something the demo promises, and whether it came true here."""

    what: str
    ok: bool
    says: str


class Side:
    """One of the two servers with its model and its faults."""

    def __init__(self, name: str, server: TorchServe, faults: FaultFile) -> None:
        self.name = name
        self.server = server
        self.cluster = Cluster(server.management, server.token())
        self.victims = Victims(server, self.cluster, MODEL, faults)

    def target(self, model: str = MODEL) -> Target:
        """Return where to send requests for a model."""
        url = f"{self.server.inference}/predictions/{model}"
        return Target(self.name, url, self.server.token("inference"))


class Demo:
    """Runs the phases and keeps what they gave.

    Args:
        size: How big.
        seed: Of the load.
        progress: Where to show how far it is.
    """

    def __init__(self, size: Size, seed: int, progress: Progress) -> None:
        self.size = size
        self.seed = seed
        self.progress = progress
        self.results: list[PhaseResult] = []
        self.records: list[Record] = []
        self.facts: dict[str, Any] = {}

    def step(self, text: str, total: float | None = None) -> TaskID:
        """Begin a line of the progress bar; the one before it is done."""
        for task in self.progress.tasks:
            if not task.finished:
                self.progress.update(
                    task.id, total=task.completed or 1, completed=task.completed or 1
                )
        return self.progress.add_task(text, total=total)

    def run_phase(
        self, phase: Phase, targets: list[Target], samples: tuple[Sample, ...],
        disturb: Disturbance | None = None,
    ) -> PhaseResult:  # fmt: skip
        """Run one phase and keep its records and figures."""
        task = self.step(
            f"{phase.name}, {phase.rate:.0f}/s", phase.slice_s * phase.turns * len(targets)
        )
        records = run_phase(
            phase, targets, samples, self.seed + len(self.results), disturb=disturb,
            tick=lambda seconds: self.progress.advance(task, seconds),
        )  # fmt: skip
        result = PhaseResult.of(phase, records)
        self.records += records
        self.results.append(result)
        return result


def run_demo(
    out: Path, *, quick: bool = False, seed: int = 0, console: Console | None = None
) -> dict[str, Any]:
    """Run the whole demo and write its report.

    Args:
        out: Folder for report.json, requests.csv, latency.png and report.html.
        quick: Three workers and seconds per phase, for tests.
        seed: Of the load.
        console: Where progress and the table go; standard error by default.

    Returns:
        What report.json holds.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up.
        OSError: Too little memory is free, or training or a file failed.
    """
    size = QUICK if quick else FULL
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        # A log has no width of its own; the table should not be cut to 80 columns there.
        console.width = max(console.width, LOG_WIDTH)
    _need_memory(2 * size.workers)
    load = os.getloadavg()[0]
    begun = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
    )
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-demo-")))
        demo = Demo(size, seed, stack.enter_context(bar))
        demo.step("train")
        model = digits.train(work / "digits", size.epochs)
        demo.step("archive")
        digits.make_archives(model, work, size.queries)
        demo.step(f"start 2 servers, {size.workers} workers each")
        sides = _start(stack, work, size)
        checks = _measure(demo, sides, model)
    demo.facts |= {
        "seconds": round(time.monotonic() - begun, 1),
        "quick": quick, "seed": seed, "workers": size.workers, "queries": size.queries,
        "stragglers": 1, "load_average_before": load, "training_accuracy": model.accuracy,
        "checks": [asdict(check) for check in checks],
    }  # fmt: skip
    found = report.as_json(demo.results, **demo.facts)
    report.write(out, found, demo.records)
    page.plot(out / "latency.png", demo.results, demo.records)
    page.write_page(out / "report.html", found, demo.results)
    console.print(report.table(demo.results))
    for check in checks:
        console.print(f"{'[green]✓[/]' if check.ok else '[red]✗[/]'} {check.what}: {check.says}")
    if load > 0.5 * (os.cpu_count() or 1):
        console.print(
            f"the machine was busy before the demo (load average {load:.1f}): run it alone"
        )
    return found


def _need_memory(workers: int) -> None:
    free, need = psutil.virtual_memory().available // 2**20, workers * MB_PER_WORKER
    if free < need:
        raise OSError(f"{workers} workers need about {need} MB, {free} MB are free: try --quick")


def _start(stack: ExitStack, work: Path, size: Size) -> dict[str, Side]:
    sides = {}
    for name in ("coded", "plain"):
        faults = FaultFile(work / f"faults-{name}.json")
        options = ServerOptions(
            plugin=name == "coded",
            vmargs=f"{DEFAULT_VMARGS} -Xmx512m",
            environment=faults.environment,
        )
        server = TorchServe(work / f"store-{name}", options, run_dir=work / f"run-{name}")
        stack.callback(server.stop)
        server.start()
        sides[name] = Side(name, server, faults)
        stack.callback(sides[name].cluster.close)
    # Both at once: loading is mostly waiting for imports from disk.
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(side.cluster.register, f"{MODEL}.mar", name=MODEL, workers=size.workers)
            for side in sides.values()
        ]
        for future in started:
            future.result()
    return sides


def _measure(demo: Demo, sides: dict[str, Side], model: digits.Digits) -> list[Check]:
    size, samples = demo.size, model.samples
    both = [side.target() for side in sides.values()]

    demo.step(f"compare {size.compared} answers")
    checks = [_same_bytes(sides, digits.pick(samples, size.compared, demo.seed))]

    demo.step("warm up")
    for target in both:
        _saturate(size, target, samples, size.warm_s)
    demo.step("capacity")
    capacity = {target.server: _capacity(size, target, samples) for target in both}
    slower = min(capacity.values())

    healthy = demo.run_phase(size.phase("healthy", "All workers well.", slower), both, samples)
    utilisation = healthy.phase.rate / slower
    demo.facts |= {"capacity_per_s": capacity, "utilisation": utilisation}
    checks += _healthy_checks(demo, healthy, utilisation)

    label = f"One worker of each server sleeps {SLOW_S:g} s at every job."
    slow = demo.run_phase(
        size.phase("slow", label, slower), both, samples,
        lambda name: sides[name].victims.slow_down(SLOW_S),
    )  # fmt: skip
    for side in sides.values():
        side.victims.faults.clear()
    time.sleep(SLOW_S)

    label = "One worker is ended with kill -9 in the middle of every slice, under load."
    killed = demo.run_phase(
        size.phase("killed", label, slower), both, samples,
        lambda name: sides[name].victims.kill_one(0.4 * size.slice_s),
    )  # fmt: skip
    demo.facts["killed"] = {name: side.victims.killed for name, side in sides.items()}
    checks += _fault_checks(slow, killed)

    _classic(demo, sides, samples)
    short = [
        f"{result.phase.name} on {summary.server}: {summary.requests}"
        for result in demo.results
        for summary in result.summaries
        if summary.requests < size.requests
    ]
    says = "; ".join(short) or f"at least {size.requests} everywhere"
    return [*checks, Check("requests per phase and server", not short, says)]


def _classic(demo: Demo, sides: dict[str, Side], samples: tuple[Sample, ...]) -> None:
    size, coded = demo.size, sides["coded"]
    demo.step(f"{CLASSIC}: {size.workers} workers")
    # The plain server is done, and the systematic model's workers make room for the classic's.
    sides["plain"].server.stop()
    coded.cluster.unregister(MODEL)
    coded.cluster.register(f"{CLASSIC}.mar", name=CLASSIC, workers=size.workers)
    target = coded.target(CLASSIC)
    capacity = _capacity(size, target, samples)
    demo.facts["classic_capacity_per_s"] = capacity
    label = (
        "Classic ApproxIFER on the coded server: every query of a group is encoded, and every "
        "answer comes from a decode. Groups close after 100 ms, often with fewer than K queries, "
        "and mostly all K+S answers are in: with one lost, its accuracy is lower."
    )
    classic = demo.run_phase(size.phase("classic", label, capacity), [target], samples)
    demo.facts["classic_utilisation"] = classic.phase.rate / capacity


def _capacity(size: Size, target: Target, samples: tuple[Sample, ...]) -> float:
    """Return answers per second under as many clients as two groups hold."""
    return _saturate(size, target, samples, size.capacity_s)


def _saturate(size: Size, target: Target, samples: tuple[Sample, ...], seconds: float) -> float:
    found, failed = asyncio.run(
        closed_loop(target, samples, clients=2 * size.queries, seconds=seconds)
    )
    if found == 0:
        raise OSError(f"{target.url} answered none of {failed} requests; see the server's logs")
    return found


def _same_bytes(sides: dict[str, Side], samples: list[Sample]) -> Check:
    # One at a time, so that each batch holds one request on either server; REST, then gRPC.
    differ = 0
    with ExitStack() as stack:
        http = stack.enter_context(httpx.Client(timeout=30))
        calls = [
            stack.enter_context(
                GrpcPredictions(side.server.grpc, side.server.token("inference"), timeout=30)
            )
            for side in sides.values()
        ]
        for sample in samples:
            bodies = {call.predict(MODEL, sample.body) for call in calls}
            for target in (side.target() for side in sides.values()):
                reply = http.post(target.url, content=sample.body, headers=target.headers)
                if reply.status_code != 200:
                    raise OSError(f"{target.url} answered {reply.status_code}: {reply.text[:300]}")
                bodies.add(reply.content)
            differ += len(bodies) > 1
    says = f"{len(samples) - differ} of {len(samples)} are byte-identical over REST and gRPC"
    return Check("healthy answers equal plain TorchServe's", differ == 0, says)


def _healthy_checks(demo: Demo, healthy: PhaseResult, utilisation: float) -> list[Check]:
    coded = healthy.summaries[0]
    exact = coded.exact / max(1, coded.requests)
    checks = [
        Check(
            "utilisation", utilisation <= MAX_UTILISATION + 1e-9,
            f"{healthy.phase.rate:.0f}/s, {utilisation:.0%} of what the slower server can do",
        ),
        Check(
            "healthy outcomes", exact >= 0.99 and coded.reconstructed == coded.failed == 0,
            f"{exact:.2%} exact, {coded.hedged} hedged, {coded.reconstructed} reconstructed",
        ),
    ]  # fmt: skip
    ratio: MedianRatio | None = report.median_ratio(healthy)
    if ratio is not None:
        demo.facts["median_ratio"] = asdict(ratio)
        says = (
            f"{ratio.median:.2f}× plain, median of {len(ratio.turns)} alternations "
            f"({ratio.lowest:.2f} to {ratio.highest:.2f})"
        )
        checks.append(Check("healthy median", ratio.median <= 1.10, says))
    return checks


def _fault_checks(slow: PhaseResult, killed: PhaseResult) -> list[Check]:
    slowest = {summary.server: summary.max_ms for summary in slow.summaries}
    failed = {summary.server: summary.failed for summary in killed.summaries}
    return [
        Check(
            "slow worker: longest wait", slowest["coded"] < 1e3 * SLOW_S,
            f"{slowest['coded']:.0f} ms coded, {slowest['plain']:.0f} ms plain",
        ),
        Check(
            "killed worker: failed requests", failed["coded"] == 0,
            f"{failed['coded']} coded, {failed['plain']} plain",
        ),
    ]  # fmt: skip
