"""Saturated throughput: plain TorchServe against the plugin, equal workers and batch size.

Two servers, one loaded at a time, in short slices that alternate: whatever else the machine does,
it does to both. The figure is the median over turns of the ratio within a turn.
"""

from __future__ import annotations

import statistics
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import psutil

from approxifer_torchserve.bench.harness import model
from approxifer_torchserve.bench.harness.load import Burst, ClosedLoop
from approxifer_torchserve.bench.harness.report import Check, Report, Say, Table
from approxifer_torchserve.bench.harness.schedule import alternate
from approxifer_torchserve.bench.harness.server import Served, cpu_seconds, serving
from approxifer_torchserve.bench.harness.summary import Ratio
from approxifer_torchserve.serving.server.launcher import worker_processes

GOAL = 0.95


@dataclass(frozen=True)
class Size:
    """How long the bench runs, and on what.

    Attributes:
        workers: Workers per server.
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
    sizes: tuple[int, ...] = (model.SMALL_BYTES, model.LARGE_BYTES)
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
        workers_ms: Processor time of all workers together per answer, milliseconds.
        rows: Mean rows of a forward.
        failed: How many requests were not answered 200.
        wrong: How many answers are not the model's.
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
        body_bytes: Bytes of a body.
        batch: The batch size.
        plain: The slices without the plugin.
        coded: The slices with it.
    """

    body_bytes: int
    batch: int
    plain: tuple[Slice, ...]
    coded: tuple[Slice, ...]

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.body_bytes // 1000} KB, {self.batch}"

    def ratio(self, figure: str = "per_second") -> Ratio:
        """Returns a figure of `Slice`, coded over plain, turn by turn."""
        mine, other = ([getattr(one, figure) for one in side] for side in (self.coded, self.plain))
        return Ratio.of(mine, other)

    def medians(self, figure: str, digits: int) -> tuple[str, str]:
        """Returns the median of a figure of `Slice`, plain and coded, for a table."""
        sides = (self.plain, self.coded)
        found = [statistics.median(getattr(one, figure) for one in side) for side in sides]
        return f"{found[0]:.{digits}f}", f"{found[1]:.{digits}f}"

    def facts(self) -> dict[str, Any]:
        """Returns its figures for report.json."""
        found = asdict(self.ratio())
        jvm_ratio = self.ratio("jvm_ms").median
        return {**asdict(self), "ratios": found.pop("turns"), **found, "jvm_ratio": jvm_ratio}

    def line(self) -> str:
        """Says it in a line."""
        median, lowest, highest = self.ratio().cells()
        plain, coded = self.medians("per_second", 0)
        return f"{median}× plain ({lowest} to {highest}); {coded}/s against {plain}/s"


class Spent(NamedTuple):
    """Seconds of processor time of the JVM and of all workers; forwards, and rows in them."""

    jvm_s: float
    workers_s: float
    forwards: int
    rows: int

    @classmethod
    def of(cls, served: Served) -> Spent:
        """Returns what a server spent so far; its handlers count forwards in its store."""
        jvm = psutil.Process(served.server.pid)
        files = served.store.glob("*.counts")
        counts = [struct.unpack("<qq", path.read_bytes()) for path in files]
        return cls(
            cpu_seconds(jvm),
            sum(cpu_seconds(worker) for worker in worker_processes(jvm.pid)),
            sum(forwards for forwards, _ in counts),
            sum(rows for _, rows in counts),
        )


def run_throughput(size: Size, say: Say = print) -> Report:
    """Measures all combinations.

    Args:
        size: How long and on what.
        say: Told what happens now.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up.
    """
    found: list[Comparison] = []
    with ExitStack() as stack:
        sides = [
            stack.enter_context(
                Served(name, plugin=name == "coded", hurt=False, vmargs=size.vmargs)
            )
            for name in ("plain", "coded")
        ]
        for side in sides:
            _archive(side, size)
        # The largest first: it makes the JVM warm, too.
        for batch in sorted(size.batches, reverse=True):
            say(f"{size.workers} workers each, batch {batch}")
            with serving(sides, f"batch{batch}", size.workers):
                if not found:
                    say(f"warm-up: {size.jit_s:g} s each")
                    for side in sides:
                        _load(side, size, min(size.sizes), batch).run(size.jit_s)
                for body_bytes in size.sizes:
                    say(f"{body_bytes} bytes, batch {batch}: {size.turns} turns")
                    found.append(_compare(sides, size, body_bytes, batch))
                    say(found[-1].line())
    return _report(size, found)


def _archive(side: Served, size: Size) -> None:
    queries = size.workers - size.stragglers
    code = {"name": "approxifer", "queries": queries, "stragglers": size.stragglers}
    for batch in size.batches:
        settings = model.settings(
            size.workers, batch, service_ms=size.service_ms, counts=str(side.store)
        )
        if side.plugin:
            model.archive_coded(
                side.store, f"batch{batch}", approxifer={"code": code}, settings=settings
            )
        else:
            model.archive_plain(side.store, f"batch{batch}", settings)


def _compare(sides: Sequence[Served], size: Size, body_bytes: int, batch: int) -> Comparison:
    def measure(side: Served) -> Slice:
        before = Spent.of(side)
        burst = _load(side, size, body_bytes, batch).run(size.slice_s)
        return _slice(burst, before, Spent.of(side))

    for side in sides:
        _load(side, size, body_bytes, batch).run(size.warm_s)
    return Comparison(body_bytes, batch, **alternate(sides, size.turns, measure))


def _load(side: Served, size: Size, body_bytes: int, batch: int) -> ClosedLoop:
    # Enough that each worker's next batch waits already while it serves one.
    clients = 2 * size.workers * batch
    return model.checked_loop(side.target(f"batch{batch}"), clients, body_bytes)


def _slice(burst: Burst, before: Spent, after: Spent) -> Slice:
    answered = max(1, burst.answered)
    jvm_ms = 1e3 * (after.jvm_s - before.jvm_s) / answered
    workers_ms = 1e3 * (after.workers_s - before.workers_s) / answered
    rows = (after.rows - before.rows) / max(1, after.forwards - before.forwards)
    return Slice(burst.per_second, jvm_ms, workers_ms, rows, burst.failed, burst.wrong)


def _report(size: Size, found: Sequence[Comparison]) -> Report:
    columns = (
        "body, batch", "plain/s", "coded/s", "ratio", "lowest", "highest",
        "JVM ms plain", "JVM ms coded", "workers ms plain", "workers ms coded",
        "rows plain", "rows coded",
    )  # fmt: skip
    rows = tuple(
        (
            one.name, *one.medians("per_second", 0), *one.ratio().cells(),
            *one.medians("jvm_ms", 2), *one.medians("workers_ms", 2), *one.medians("rows", 1),
        )
        for one in found
    )  # fmt: skip
    checks = [
        Check(
            f"throughput, {one.body_bytes // 1000} KB, batch {one.batch}",
            one.ratio().median >= GOAL, f"{one.line()}; the goal is {GOAL}×",
        )
        for one in found
    ]  # fmt: skip
    bad = sum(part.failed + part.wrong for one in found for part in (*one.plain, *one.coded))
    checks.append(Check("answers", bad == 0, f"{bad} failed or wrong"))
    lead = (
        f"The same model behind two TorchServe servers with {size.workers} workers each, without "
        "and with the plugin, under as many clients as keep every worker's next batch waiting. "
        f"One forward takes {size.service_ms:g} ms asleep, whatever the batch. Slices alternate; "
        "a ratio compares the two slices of one turn. "
        f"Arguments of the JVMs: {size.vmargs or 'none beyond the defaults'}."
    )
    facts = {"size": asdict(size), "comparisons": [one.facts() for one in found]}
    table = Table("answers per second, and processor time per answer", columns, rows)
    return Report("Saturated throughput", lead, facts, (table,), tuple(checks))
