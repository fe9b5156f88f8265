"""A slowdown of everything: is saturated throughput then as high as with the plugin off?

When all workers are slow, each job sent twice takes a place from another request. Two servers, as
many workers each, one loaded at a time, in turns that alternate::

    saturated, healthy ──▶ in mid-run all workers k times slower, still saturated ──▶ well again
                           └── answers per second, and jobs beyond one a request, are from here

The healthy part is long enough that lateness is again judged by healthy times: each slowdown is
a surprise.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from approxifer_torchserve.bench.harness import model as probe
from approxifer_torchserve.bench.harness.saturate import Saturator, compare
from approxifer_torchserve.bench.harness.server import Served, State, idle
from approxifer_torchserve.bench.harness.sheet import Check, Sheet, Table
from approxifer_torchserve.bench.throughput import BODIES, Say

MODEL = "probe"
# Not lower than with the plugin off; two servers differ by so much for no reason.
GOAL = 0.99
# The plugin's purse: so many jobs may be sent twice before the share counts.
BURST = 10


@dataclass(frozen=True)
class Size:
    """How long the bench runs, and on what.

    Attributes:
        factor: How many times slower a forward becomes.
        workers: Per server.
        batches: Batch sizes.
        turns: Per server and batch size.
        healthy_s: Seconds of a turn before the slowdown.
        slow_s: Seconds of the slowdown.
        service_ms: What a forward takes when healthy, asleep, as on a GPU.
        max_extra_load: The policy's.
        body_bytes: Of a request.
    """

    factor: float = 5.0
    workers: int = 4
    batches: tuple[int, ...] = (1, 8)
    turns: int = 6
    healthy_s: float = 4.0
    slow_s: float = 8.0
    service_ms: float = 20.0
    max_extra_load: float = 0.25
    body_bytes: int = probe.SMALL_BYTES

    @property
    def fault(self) -> dict[str, dict[str, float]]:
        """What all workers are told."""
        return {"*": {"delay_s": (self.factor - 1) * self.service_ms / 1e3}}


@dataclass(frozen=True)
class Turn:
    """One turn on one server.

    Attributes:
        per_second: Answers per second during the slowdown.
        requests: That came during the slowdown; 0 without the plugin, which counts them.
        extra_jobs: Handed out during the slowdown beside the requests themselves, likewise.
        failed: Requests that were not answered 200.
        wrong: Answers that are not the model's.
    """

    per_second: float
    requests: int
    extra_jobs: int
    failed: int
    wrong: int


@dataclass(frozen=True)
class Comparison:
    """All turns of one batch size.

    Attributes:
        batch: The batch size.
        off: Without the plugin.
        on: With it.
    """

    batch: int
    off: tuple[Turn, ...]
    on: tuple[Turn, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Answers per second with the plugin over those without, turn by turn."""
        pairs = zip(self.on, self.off, strict=True)
        return tuple(on.per_second / max(1e-9, off.per_second) for on, off in pairs)

    @property
    def extra(self) -> float:
        """Jobs beside the requests themselves, per request, over all turns."""
        return sum(t.extra_jobs for t in self.on) / max(1, sum(t.requests for t in self.on))

    def line(self) -> str:
        """Say it in a line."""
        on, off = (_median(turns) for turns in (self.on, self.off))
        return (
            f"{statistics.median(self.ratios):.3f}× plugin off ({min(self.ratios):.2f} to "
            f"{max(self.ratios):.2f} in {len(self.ratios)} turns); {on:.0f}/s against {off:.0f}/s"
        )


def _median(turns: Sequence[Turn]) -> float:
    return statistics.median(turn.per_second for turn in turns)


def run_slowdown(out: Path, size: Size | None = None, say: Say = print) -> Sheet:
    """Measure all batch sizes and write the report.

    Args:
        out: Folder for report.json and report.html.
        size: How long and on what.
        say: Told what happens now.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up.
    """
    size = size or Size()
    load_average = os.getloadavg()[0]
    found = []
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-bench-")))
        sides = {name: Served(work / name, plugin=name == "on") for name in ("off", "on")}
        for name, served in sides.items():
            _archive(served, size, plugin=name == "on")
            stack.enter_context(served)
        for batch in size.batches:
            for served in sides.values():
                served.cluster.register(f"batch{batch}.mar", name=MODEL, workers=size.workers)
            say(f"batch {batch}: {size.turns} turns, all {size.workers} workers slow in each")
            found.append(_compare(sides, size, batch))
            say(f"{found[-1].line()}; {found[-1].extra:.3f} extra jobs per request")
            for served in sides.values():
                served.cluster.unregister(MODEL)
    sheet = _sheet(size, found, load_average)
    sheet.write(out)
    return sheet


def _archive(served: Served, size: Size, plugin: bool) -> None:
    code = {"name": "approxifer", "queries": size.workers - 1, "stragglers": 1}
    policy = {"max_extra_load": size.max_extra_load}
    for batch in size.batches:
        probe.archive_coded(
            served.store,
            f"batch{batch}",
            approxifer={"enabled": plugin, "code": code, "policy": policy},
            settings={
                "minWorkers": size.workers, "maxWorkers": size.workers,
                "batchSize": batch, "maxBatchDelay": 100,
                "handler": {"bench": {"service_ms": size.service_ms}},
            },
        )  # fmt: skip


def _compare(sides: Mapping[str, Served], size: Size, batch: int) -> Comparison:
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for number in range(size.turns):
        for name in sides if number % 2 == 0 else reversed(list(sides)):
            turns[name].append(_turn(sides[name], size, batch, coded=name == "on"))
    return Comparison(batch, tuple(turns["off"]), tuple(turns["on"]))


def _turn(served: Served, size: Size, batch: int, coded: bool) -> Turn:
    bodies = [probe.body(number, size.body_bytes) for number in range(BODIES)]
    check = compare([probe.right_answer(content) for content in bodies])
    # Enough that each worker's next batch waits already while it serves one.
    load = Saturator(served.target(MODEL), bodies, 2 * size.workers * batch, check)
    seen: list[State] = []

    def begin() -> None:
        if coded:
            seen.append(served.state(MODEL))
        served.faults.put_all(size.fault)

    timer = threading.Timer(size.healthy_s, begin)
    timer.start()
    try:
        # Only what is answered after ``warm_s`` counts for answers per second.
        burst = load.run(size.healthy_s + size.slow_s, warm_s=size.healthy_s)
    finally:
        timer.cancel()
        timer.join()
        served.faults.clear()
    requests, extra = _since(seen[0], served.once(MODEL, idle, 10)) if coded else (0, 0)
    return Turn(burst.per_second, requests, extra, burst.failed, burst.wrong)


def _since(before: State, after: State) -> tuple[int, int]:
    """Return how many requests came between two states, and how many jobs beside them."""
    old, new = before["counters"], after["counters"]
    extra = {kind: n - old["jobs"].get(kind, 0) for kind, n in new["jobs"].items() if kind != "raw"}
    return new["requests"] - old["requests"], sum(extra.values())


def checks(size: Size, found: Sequence[Comparison]) -> tuple[Check, ...]:
    """Return what is promised, and whether it came true."""
    result = []
    for one in found:
        result.append(
            Check(
                f"batch {one.batch}: throughput", statistics.median(one.ratios) >= GOAL,
                f"{one.line()}; the goal is {GOAL}×",
            )
        )  # fmt: skip
        most = max(turn.extra_jobs - size.max_extra_load * turn.requests for turn in one.on)
        result.append(
            Check(
                f"batch {one.batch}: extra work", most <= BURST,
                f"{one.extra:.3f} extra jobs per request, at most "
                f"{max(turn.extra_jobs / max(1, turn.requests) for turn in one.on):.3f} in a turn; "
                f"the bound is {size.max_extra_load:g}, and {BURST} jobs",
            )
        )  # fmt: skip
    bad = sum(turn.failed + turn.wrong for one in found for turn in (*one.off, *one.on))
    result.append(Check("answers", bad == 0, f"{bad} failed or wrong"))
    return tuple(result)


def _sheet(size: Size, found: Sequence[Comparison], load_average: float) -> Sheet:
    columns = (
        "batch", "plugin off/s", "plugin on/s", "ratio", "lowest", "highest", "extra jobs/request",
    )  # fmt: skip
    rows = tuple(
        (
            str(one.batch), f"{_median(one.off):.1f}", f"{_median(one.on):.1f}",
            f"{statistics.median(one.ratios):.3f}", f"{min(one.ratios):.2f}",
            f"{max(one.ratios):.2f}", f"{one.extra:.3f}",
        )
        for one in found
    )  # fmt: skip
    facts = {
        "size": asdict(size),
        "comparisons": [
            {**asdict(one), "ratios": one.ratios, "extra_jobs_per_request": one.extra}
            for one in found
        ],
    }
    lead = (
        f"Two servers with {size.workers} workers each, without and with the plugin, saturated. "
        f"After {size.healthy_s:g} s of each turn a forward takes {size.factor:g} times its "
        f"{size.service_ms:g} ms on every worker, for {size.slow_s:g} s; answers per second are "
        "counted then. Turns alternate; a ratio compares the two servers in one turn. Extra jobs "
        "are those beside the requests themselves, during the slowdown."
    )
    table = Table(f"all workers {size.factor:g} times slower", columns, rows)
    return Sheet("Slowdown of everything", lead, facts, (table,), checks(size, found), load_average)
