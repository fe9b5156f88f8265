"""The demo: the digits classifier coded and plain, side by side, healthy and hurt.

Order of events::

    train ── two servers, as many workers each ── archive (coded · plain twin · classic)
      └─ same bytes? ── capacity ── healthy ── one slow ── one killed ── classic ── report
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from approxifer_torchserve.bench.digits import archives as digits
from approxifer_torchserve.bench.harness.faults import Victims
from approxifer_torchserve.bench.harness.load import ClosedLoop, Record, Sample, Target
from approxifer_torchserve.bench.harness.plot import tails
from approxifer_torchserve.bench.harness.report import Check, Report, Table
from approxifer_torchserve.bench.harness.schedule import Disturbance, Phase, run_phase
from approxifer_torchserve.bench.harness.server import Served, serving
from approxifer_torchserve.bench.harness.summary import PhaseResult, Summary, write_requests
from approxifer_torchserve.serving.server.grpc_client import GrpcPredictions
from approxifer_torchserve.serving.server.options import MB_PER_WORKER

MAX_UTILISATION = 0.30
SLOW_S = 1.0
LOG_WIDTH = 110
MODEL, CLASSIC = "digits", "digits-classic"
COLUMNS = (
    "phase", "server", "requests", "p50", "p99", "max", "exact", "hedged", "decoded", "failed",
    "accuracy", "of decoded",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How big the demo is.

    Attributes:
        queries: K; the demo runs with S = 1, so K + 1 workers per server.
        epochs: Epochs of the training.
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
        """Plans a phase: the rate below the limit, and slices enough for all requests."""
        rate = min(self.rate, MAX_UTILISATION * capacity)
        # Three standard deviations more, so that chance does not leave a phase short.
        expected = self.requests + 3 * math.sqrt(self.requests)
        turns = max(self.turns, math.ceil(expected / (rate * self.slice_s)))
        return Phase(name, label, rate, self.slice_s, turns)


FULL = Size()
QUICK = Size(
    queries=2, epochs=4, rate=20.0, slice_s=2.0, turns=2, requests=1, compared=5, capacity_s=1.0,
    warm_s=1.0,
)  # fmt: skip


class Demo:
    """Runs the phases and keeps what they gave.

    Args:
        size: How big it is.
        seed: Seed of the load.
        progress: Where to show how far it is.

    Attributes:
        results: The figures of each phase.
        records: What became of each request.
        checks: What was promised, as far as it is known.
        facts: Other figures for report.json.
    """

    def __init__(self, size: Size, seed: int, progress: Progress) -> None:
        self.size, self.seed, self.progress = size, seed, progress
        self.results: list[PhaseResult] = []
        self.records: list[Record] = []
        self.checks: list[Check] = []
        self.facts: dict[str, Any] = {}

    def step(self, text: str, total: float | None = None) -> TaskID:
        """Begins a line of the progress bar; the one before it is done."""
        for task in self.progress.tasks:
            if not task.finished:
                done = task.completed or 1
                self.progress.update(task.id, total=done, completed=done)
        return self.progress.add_task(text, total=total)

    def run_phase(
        self, phase: Phase, targets: Sequence[Target], samples: tuple[Sample, ...],
        disturb: Disturbance | None = None,
    ) -> PhaseResult:  # fmt: skip
        """Runs one phase and keeps its records and figures."""
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

    def check(self, what: str, ok: bool, says: str) -> None:
        """Adds a check."""
        self.checks.append(Check(what, ok, says))

    def report(self) -> Report:
        """Returns what was found, without the plot."""
        size = self.size
        lead = (
            f"The same digits classifier behind two TorchServe servers with {size.workers} workers "
            f"each: one with the approxifer plugin (K = {size.queries}, S = 1), one without. "
            "Requests are Poisson, sent in alternating slices at no more than "
            f"{self.facts['utilisation']:.0%} of what the slower server can do; a latency counts "
            "from the moment its request was due, failures included. Plain TorchServe has no "
            "outcomes: an answer is an answer. Accuracy counts failed requests as wrong; of "
            "decoded: the accuracy of the reconstructed answers alone. Every request is in "
            "requests.csv."
        )
        rows = tuple(
            _row(one.phase.name, summary) for one in self.results for summary in one.summaries
        )
        title = "latency in ms, counted from when a request was due"
        facts = {**self.facts, "phases": [one.facts() for one in self.results]}
        phases = ((one.phase.name, f"{one.phase.label} {one.phase.rate:.0f} requests/s.")
                  for one in self.results)  # fmt: skip
        return Report(
            "One model, coded and plain", lead, facts, (Table(title, COLUMNS, rows, names=2),),
            tuple(self.checks), ("latency.png",), tuple(phases),
        )  # fmt: skip


def _row(phase: str, one: Summary) -> tuple[str, ...]:
    """Returns one line of the table as text."""
    decoded = one.accuracy_reconstructed
    outcomes = (one.exact, one.hedged, one.reconstructed)
    return (
        phase, one.server, str(one.requests),
        f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}", f"{one.max_ms:.0f}",
        *("" if one.server == "plain" else str(count) for count in outcomes),
        str(one.failed), f"{one.accuracy:.3f}", "" if decoded is None else f"{decoded:.3f}",
    )  # fmt: skip


def run_demo(
    out: Path, *, quick: bool = False, seed: int = 0, console: Console | None = None
) -> dict[str, Any]:
    """Runs the whole demo and writes its report.

    Args:
        out: Folder for report.json, requests.csv, latency.png and report.html.
        quick: Three workers and seconds per phase, for tests.
        seed: Seed of the load.
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
        model = digits.train(work, size.epochs)
        demo.step("start 2 servers")
        sides = {
            name: stack.enter_context(Served(name, plugin=name == "coded"))
            for name in ("coded", "plain")
        }
        demo.step("archive")
        digits.make_archives(model, sides["coded"].store, sides["plain"].store, size.queries)
        demo.step(f"start {size.workers} workers on each")
        with serving(sides.values(), MODEL, size.workers) as both:
            _measure(demo, sides, both, model)
        # The plain server is done; the systematic model's workers have made room for the classic's.
        sides["plain"].server.stop()
        demo.step(f"{CLASSIC}: {size.workers} workers")
        with sides["coded"].serving(CLASSIC, size.workers) as target:
            _classic(demo, target, model.samples)
    short = [
        f"{result.phase.name} on {summary.server}: {summary.requests}"
        for result in demo.results
        for summary in result.summaries
        if summary.requests < size.requests
    ]
    says = "; ".join(short) or f"at least {size.requests} everywhere"
    demo.check("requests per phase and server", not short, says)
    demo.facts |= {
        "seconds": round(time.monotonic() - begun, 1),
        "quick": quick, "seed": seed, "workers": size.workers, "queries": size.queries,
        "stragglers": 1, "load_average_before": load, "training_accuracy": model.accuracy,
    }  # fmt: skip
    report = demo.report()
    tails(out / "latency.png", {
        one.phase.name: [record for record in demo.records if record.phase == one.phase.name]
        for one in demo.results
    })  # fmt: skip
    write_requests(out / "requests.csv", demo.records)
    found = report.write(out, load)
    report.show(console)
    if load > 0.5 * (os.cpu_count() or 1):
        console.print(
            f"the machine was busy before the demo (load average {load:.1f}): run it alone"
        )
    return found


def _need_memory(workers: int) -> None:
    free, need = psutil.virtual_memory().available // 2**20, workers * MB_PER_WORKER
    if free < need:
        raise OSError(f"{workers} workers need about {need} MB, {free} MB are free: try --quick")


def _measure(
    demo: Demo, sides: dict[str, Served], both: list[Target], model: digits.Digits
) -> None:
    size, samples = demo.size, model.samples
    victims = {name: Victims(side, MODEL) for name, side in sides.items()}

    demo.step(f"compare {size.compared} answers")
    _check_bytes(demo, sides, digits.pick(samples, size.compared, demo.seed))

    demo.step("warm up")
    for target in both:
        _saturate(size, target, samples, size.warm_s)
    demo.step("capacity")
    capacity = {target.server: _saturate(size, target, samples, size.capacity_s) for target in both}
    slower = min(capacity.values())

    healthy = demo.run_phase(size.phase("healthy", "All workers well.", slower), both, samples)
    demo.facts |= {"capacity_per_s": capacity, "utilisation": healthy.phase.rate / slower}
    _check_healthy(demo, healthy)

    label = f"One worker of each server sleeps {SLOW_S:g} s at every job."
    slow = demo.run_phase(
        size.phase("slow", label, slower), both, samples,
        lambda name: victims[name].hurt(delay_s=SLOW_S),
    )  # fmt: skip
    for side in sides.values():
        side.faults.clear()
    time.sleep(SLOW_S)

    label = "One worker is ended with kill -9 in the middle of every slice, under load."
    killed = demo.run_phase(
        size.phase("killed", label, slower), both, samples,
        lambda name: victims[name].kill_one(0.4 * size.slice_s),
    )  # fmt: skip
    demo.facts["killed"] = {name: each.killed for name, each in victims.items()}
    _check_faults(demo, slow, killed)


def _classic(demo: Demo, target: Target, samples: tuple[Sample, ...]) -> None:
    size = demo.size
    capacity = _saturate(size, target, samples, size.capacity_s)
    demo.facts["classic_capacity_per_s"] = capacity
    label = (
        "Classic ApproxIFER on the coded server: every query of a group is encoded, and every "
        "answer comes from a decode. Groups close after 100 ms, often with fewer than K queries, "
        "and mostly all K+S answers are in: with one lost, its accuracy is lower."
    )
    classic = demo.run_phase(size.phase("classic", label, capacity), [target], samples)
    demo.facts["classic_utilisation"] = classic.phase.rate / capacity


def _saturate(size: Size, target: Target, samples: tuple[Sample, ...], seconds: float) -> float:
    """Returns answers per second under as many clients as two groups hold."""
    bodies = [sample.body for sample in samples]
    burst = ClosedLoop(target, bodies, clients=2 * size.queries).run(seconds)
    if not burst.per_second:
        says = f"answered none of {burst.failed} requests {sorted(burst.failures) or ''}"
        raise OSError(f"{target.url} {says}; see the server's logs")
    return burst.per_second


def _check_bytes(demo: Demo, sides: dict[str, Served], samples: list[Sample]) -> None:
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
            for target in (side.target(MODEL) for side in sides.values()):
                reply = http.post(target.url, content=sample.body, headers=target.headers)
                if reply.status_code != 200:
                    raise OSError(f"{target.url} answered {reply.status_code}: {reply.text[:300]}")
                bodies.add(reply.content)
            differ += len(bodies) > 1
    says = f"{len(samples) - differ} of {len(samples)} are byte-identical over REST and gRPC"
    demo.check("healthy answers equal plain TorchServe's", differ == 0, says)


def _check_healthy(demo: Demo, healthy: PhaseResult) -> None:
    coded, utilisation = healthy.summaries[0], demo.facts["utilisation"]
    says = f"{healthy.phase.rate:.0f}/s, {utilisation:.0%} of what the slower server can do"
    demo.check("utilisation", utilisation <= MAX_UTILISATION + 1e-9, says)
    exact = coded.exact / max(1, coded.requests)
    says = f"{exact:.2%} exact, {coded.hedged} hedged, {coded.reconstructed} reconstructed"
    good = exact >= 0.99 and coded.reconstructed == coded.failed == 0
    demo.check("healthy outcomes", good, says)
    ratio = healthy.ratio()
    if ratio is not None:
        demo.facts["median_ratio"] = asdict(ratio)
        says = (
            f"{ratio.median:.2f}× plain, median of {len(ratio.turns)} alternations "
            f"({ratio.lowest:.2f} to {ratio.highest:.2f})"
        )
        demo.check("healthy median", ratio.median <= 1.10, says)


def _check_faults(demo: Demo, slow: PhaseResult, killed: PhaseResult) -> None:
    slowest = {summary.server: summary.max_ms for summary in slow.summaries}
    says = f"{slowest['coded']:.0f} ms coded, {slowest['plain']:.0f} ms plain"
    demo.check("slow worker: longest wait", slowest["coded"] < 1e3 * SLOW_S, says)
    failed = {summary.server: summary.failed for summary in killed.summaries}
    says = f"{failed['coded']} coded, {failed['plain']} plain"
    demo.check("killed worker: failed requests", failed["coded"] == 0, says)
