"""Saturated throughput: plain TorchServe against the plugin, equal workers and batch size.

Two servers, one loaded at a time, in short slices that alternate: whatever else the machine does,
it does to both. The figure is the median over turns of the ratio within a turn.
"""

from __future__ import annotations

import os
import statistics
import struct
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from approxifer_torchserve.bench.harness import model as probe
from approxifer_torchserve.bench.harness.load import Target
from approxifer_torchserve.bench.harness.saturate import Burst, Saturator, compare
from approxifer_torchserve.bench.harness.sheet import Check, Sheet, Table
from approxifer_torchserve.serving.server.cluster import Cluster
from approxifer_torchserve.serving.server.launcher import TorchServe, worker_processes
from approxifer_torchserve.serving.server.options import DEFAULT_VMARGS, ServerOptions

GOAL = 0.95
BODIES = 16
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How long the bench runs, and on what.

    Attributes:
        workers: Per server.
        stragglers: S of the coded model; K is ``workers - stragglers``.
        batches: Batch sizes.
        sizes: Bytes of the bodies.
        turns: Slices per server and combination.
        slice_s: Seconds of a slice.
        service_ms: What a forward takes, asleep, as on a GPU: long enough that the workers are what
            limits, as in production. 0 leaves the bare cost of serving, which a machine with few
            processors shows as lower throughput.
        jit_s: Seconds of load on each server before anything is measured, small bodies in the
            largest batches: the JVM interprets what is not hot yet, at ten times the cost, and the
            plugin adds code that has to become hot.
        warm_s: Seconds of load before the first slice of each combination.
        vmargs: More arguments for both JVMs. None is what a server has that nobody tuned. A small
            heap changes the result: what bodies of 600 KB fill for a moment then keeps the garbage
            collector marking, at the cost of a second JVM's work.
    """

    workers: int = 4
    stragglers: int = 1
    batches: tuple[int, ...] = (1, 8)
    sizes: tuple[int, ...] = (probe.SMALL_BYTES, probe.LARGE_BYTES)
    turns: int = 8
    slice_s: float = 2.0
    service_ms: float = 20.0
    jit_s: float = 20.0
    warm_s: float = 2.0
    vmargs: str = ""


@dataclass(frozen=True)
class Slice:
    """One slice on one server.

    Attributes:
        per_second: Answers per second.
        jvm_ms: Processor time of the JVM per answer, milliseconds.
        workers_ms: The same of all workers together.
        rows: Mean rows of a forward.
        failed: Requests that were not answered 200.
        wrong: Answers that are not the model's.
    """

    per_second: float
    jvm_ms: float
    workers_ms: float
    rows: float
    failed: int
    wrong: int


@dataclass(frozen=True)
class Comparison:
    """All turns of one combination of body and batch size.

    Attributes:
        ratios: Coded over plain, turn by turn.
        median: Of these; ``lowest`` and ``highest`` are their range.
        jvm_ratio: Median over turns of the JVM's processor time per answer, coded over plain.
    """

    body_bytes: int
    batch: int
    plain: tuple[Slice, ...]
    coded: tuple[Slice, ...]
    ratios: tuple[float, ...]
    median: float
    lowest: float
    highest: float
    jvm_ratio: float

    @classmethod
    def of(cls, size: int, batch: int, plain: list[Slice], coded: list[Slice]) -> Comparison:
        """Compare the slices of two servers turn by turn."""
        pairs = list(zip(coded, plain, strict=True))
        ratios = tuple(mine.per_second / max(1e-9, other.per_second) for mine, other in pairs)
        jvm = statistics.median(mine.jvm_ms / max(1e-9, other.jvm_ms) for mine, other in pairs)
        return cls(
            size, batch, tuple(plain), tuple(coded), ratios,
            statistics.median(ratios), min(ratios), max(ratios), jvm,
        )  # fmt: skip


class Spent(NamedTuple):
    """Seconds of processor time of the JVM and of all workers; forwards, and rows in them."""

    jvm_s: float
    workers_s: float
    forwards: int
    rows: int


class Side:
    """One server and what its processes cost."""

    def __init__(self, name: str, server: TorchServe, counts: Path) -> None:
        self.name = name
        self.counts = counts
        self.server = server
        self.cluster = Cluster(server.management, server.token())
        self.target = Target(
            name, f"{server.inference}/predictions/probe", server.token("inference")
        )

    def spent(self) -> Spent:
        """Return what was spent so far."""
        jvm = psutil.Process(self.server.pid)
        counts = [struct.unpack("<qq", path.read_bytes()) for path in self.counts.glob("*.counts")]
        return Spent(
            _seconds(jvm),
            sum(_seconds(worker) for worker in worker_processes(jvm.pid)),
            sum(forwards for forwards, _ in counts),
            sum(rows for _, rows in counts),
        )


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run_throughput(out: Path, size: Size | None = None, say: Say = print) -> Sheet:
    """Measure all combinations and write the report.

    Args:
        out: Folder for report.json and report.html.
        size: How long and on what.
        say: Told what happens now.

    Returns:
        What was found.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up.
    """
    size = size or Size()
    load_average = os.getloadavg()[0]
    found: list[Comparison] = []
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-bench-")))
        _archive(work, size)
        sides = []
        for name in ("plain", "coded"):
            vmargs = f"{DEFAULT_VMARGS} {size.vmargs}".strip()
            options = ServerOptions(plugin=name == "coded", vmargs=vmargs)
            server = TorchServe(work / name, options, run_dir=work / f"run-{name}")
            stack.callback(server.stop)
            sides.append(Side(name, server.start(), work / name))
            stack.callback(sides[-1].cluster.close)
        # The largest first: it makes the JVM warm, too.
        for batch in sorted(size.batches, reverse=True):
            for side in sides:
                say(f"{side.name}: {size.workers} workers, batch {batch}")
                side.cluster.register(f"batch{batch}.mar", name="probe", workers=size.workers)
            if not found:
                say(f"warm-up: {size.jit_s:g} s each")
                for side in sides:
                    _load(side, size, min(size.sizes), batch).run(size.jit_s)
            for body_bytes in size.sizes:
                say(f"{body_bytes} bytes, batch {batch}: {size.turns} turns")
                found.append(_compare(sides, size, body_bytes, batch))
                say(_line(found[-1]))
            for side in sides:
                side.cluster.unregister("probe")
    sheet = _sheet(size, found, load_average)
    sheet.write(out)
    return sheet


def _archive(work: Path, size: Size) -> None:
    code = {
        "name": "approxifer",
        "queries": size.workers - size.stragglers,
        "stragglers": size.stragglers,
    }
    for batch in size.batches:
        settings = {
            "minWorkers": size.workers, "maxWorkers": size.workers,
            "batchSize": batch, "maxBatchDelay": 100,
        }  # fmt: skip
        for name in ("plain", "coded"):
            (work / name).mkdir(exist_ok=True)
            bench = {"service_ms": size.service_ms, "counts": str(work / name)}
            own = {**settings, "handler": {"bench": bench}}
            if name == "plain":
                probe.archive_plain(work / name, f"batch{batch}", own)
            else:
                approxifer = {"code": code}
                probe.archive_coded(
                    work / name, f"batch{batch}", approxifer=approxifer, settings=own
                )


def _compare(sides: list[Side], size: Size, body_bytes: int, batch: int) -> Comparison:
    slices: dict[str, list[Slice]] = {side.name: [] for side in sides}
    for side in sides:
        _load(side, size, body_bytes, batch).run(size.warm_s)
    for turn in range(size.turns):
        for side in sides if turn % 2 == 0 else reversed(sides):
            before = side.spent()
            burst = _load(side, size, body_bytes, batch).run(size.slice_s)
            slices[side.name].append(_slice(burst, before, side.spent()))
    return Comparison.of(body_bytes, batch, slices["plain"], slices["coded"])


def _load(side: Side, size: Size, body_bytes: int, batch: int) -> Saturator:
    bodies = [probe.body(number, body_bytes) for number in range(BODIES)]
    answers = [probe.right_answer(content) for content in bodies]
    # Enough that each worker's next batch waits already while it serves one.
    clients = 2 * size.workers * batch
    return Saturator(side.target, bodies, clients, compare(answers))


def _slice(burst: Burst, before: Spent, after: Spent) -> Slice:
    answered = max(1, burst.answered)
    jvm_ms = 1e3 * (after.jvm_s - before.jvm_s) / answered
    workers_ms = 1e3 * (after.workers_s - before.workers_s) / answered
    rows = (after.rows - before.rows) / max(1, after.forwards - before.forwards)
    return Slice(burst.per_second, jvm_ms, workers_ms, rows, burst.failed, burst.wrong)


def _median(slices: tuple[Slice, ...], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in slices))


def _line(found: Comparison) -> str:
    return (
        f"{found.median:.3f}× plain ({found.lowest:.2f} to {found.highest:.2f}); "
        f"{_median(found.coded, 'per_second'):.0f}/s against "
        f"{_median(found.plain, 'per_second'):.0f}/s"
    )


def _sheet(size: Size, found: list[Comparison], load_average: float) -> Sheet:
    columns = (
        "body, batch", "plain/s", "coded/s", "ratio", "lowest", "highest",
        "JVM ms plain", "JVM ms coded", "workers ms plain", "workers ms coded",
        "rows plain", "rows coded",
    )  # fmt: skip
    rows = tuple(
        (
            f"{one.body_bytes // 1000} KB, {one.batch}",
            f"{_median(one.plain, 'per_second'):.0f}",
            f"{_median(one.coded, 'per_second'):.0f}",
            f"{one.median:.3f}", f"{one.lowest:.2f}", f"{one.highest:.2f}",
            f"{_median(one.plain, 'jvm_ms'):.2f}", f"{_median(one.coded, 'jvm_ms'):.2f}",
            f"{_median(one.plain, 'workers_ms'):.2f}", f"{_median(one.coded, 'workers_ms'):.2f}",
            f"{_median(one.plain, 'rows'):.1f}", f"{_median(one.coded, 'rows'):.1f}",
        )
        for one in found
    )  # fmt: skip
    checks = [
        Check(
            f"throughput, {one.body_bytes // 1000} KB, batch {one.batch}",
            one.median >= GOAL, f"{_line(one)}; the goal is {GOAL}×",
        )
        for one in found
    ]  # fmt: skip
    bad = sum(part.failed + part.wrong for one in found for part in (*one.plain, *one.coded))
    checks.append(Check("answers", bad == 0, f"{bad} failed or wrong"))
    facts: dict[str, Any] = {"size": asdict(size), "comparisons": [asdict(one) for one in found]}
    lead = (
        f"The same model behind two TorchServe servers with {size.workers} workers each, without "
        "and with the plugin, under as many clients as keep every worker's next batch waiting. "
        f"One forward takes {size.service_ms:g} ms asleep, whatever the batch. Slices alternate; "
        "a ratio compares the two slices of one turn. "
        f"Arguments of the JVMs: {size.vmargs or 'none beyond the defaults'}."
    )
    table = Table("answers per second, and processor time per answer", columns, rows)
    return Sheet("Saturated throughput", lead, facts, (table,), tuple(checks), load_average)
