"""A long soak: does memory grow with the number of requests?

Closed-loop load through the plugin until so many requests are answered; every answer is checked.
Growth is the slope of memory over requests after a warm-up, by Theil and Sen's estimator, which a
few peaks do not move, with its 95 % interval.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np

from approxifer_torchserve.bench.harness import model as probe
from approxifer_torchserve.bench.harness.saturate import Burst, Saturator, compare
from approxifer_torchserve.bench.harness.server import Served, State, idle
from approxifer_torchserve.bench.harness.sheet import Check, Sheet, Table
from approxifer_torchserve.bench.soak.memory import Reading, Watcher, heap_after_collections

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Growth per 100,000 requests that is called flat, as a share of the level.
FLAT = 0.02
PER = 100_000
FEWEST_POINTS = 8
BODIES = 64
HOURS = 24 * 3600
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much is sent to what.

    Attributes:
        requests: How many, after the warm-up.
        warm_up: How many before: meanwhile the JVM compiles and pools and allocators find their
            sizes. Half a million requests showed that this is over after about a hundred thousand.
        workers: Of the coded model.
        clients: Requests under way at once.
        heap_mb: The JVM's heap: small, so that it is collected often.
        body_bytes: Of a request.
    """

    requests: int = 100_000
    warm_up: int = 100_000
    workers: int = 4
    clients: int = 16
    heap_mb: int = 256
    body_bytes: int = probe.SMALL_BYTES


@dataclass(frozen=True)
class Growth:
    """How one quantity changes per 100,000 requests, in MB.

    Attributes:
        name: What it is.
        level_mb: Its median after the warm-up.
        slope_mb: Theil–Sen; ``low_mb`` and ``high_mb`` are its 95 % interval. Readings follow from
            one another, so the true interval is wider.
        points: How many readings it rests on.
    """

    name: str
    level_mb: float
    slope_mb: float
    low_mb: float
    high_mb: float
    points: int

    @property
    def flat(self) -> bool:
        """Whether no growth can be told from none, or it is below 2 % of the level."""
        return self.low_mb <= 0 or self.slope_mb < FLAT * self.level_mb

    @property
    def verdict(self) -> str:
        """One line for readers."""
        return (
            f"{self.level_mb:.1f} MB, {self.slope_mb:+.2f} MB per {PER:,} requests "
            f"(95 %: {self.low_mb:+.2f} to {self.high_mb:+.2f}, {self.points} readings)"
        )


def growth(
    name: str, requests: Sequence[float], megabytes: Sequence[float], warm_up: float
) -> Growth:
    """Estimate growth from readings.

    Args:
        name: What was read.
        requests: Answered so far, at each reading.
        megabytes: The readings.
        warm_up: Readings before so many requests do not count.

    Raises:
        ValueError: There are fewer than 8 readings after the warm-up.
    """
    from scipy.stats import theilslopes

    kept = [(r, m) for r, m in zip(requests, megabytes, strict=True) if r >= warm_up]
    if len(kept) < FEWEST_POINTS:
        raise ValueError(
            f"{name}: expected at least {FEWEST_POINTS} readings after the warm-up, got "
            f"{len(kept)}; send more requests"
        )
    x, y = [r / PER for r, _ in kept], [m for _, m in kept]
    with np.errstate(invalid="ignore"):
        slope, _, low, high = theilslopes(y, x, 0.95)
    if not np.isfinite([low, high]).all():
        low = high = slope  # nearly all readings are the same: scipy has no interval for them
    level = sorted(y)[len(y) // 2]
    return Growth(name, level, float(slope), float(low), float(high), len(kept))


def run_soak(out: Path, size: Size | None = None, say: Say = print) -> Sheet:
    """Soak a server and write the report.

    Args:
        out: Folder for report.json, memory.png and report.html.
        size: How much is sent to what.
        say: Told what happens now.

    Raises:
        LaunchError: The server did not start.
        ClusterError: Workers did not come up.
        ValueError: Too few requests for a slope.
    """
    size = size or Size()
    load_average = os.getloadavg()[0]
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-soak-")))
        log = work / "gc.log"
        code = {"name": "approxifer", "queries": size.workers - 1, "stragglers": 1}
        # With the whole heap resident from the start, what resident size grows by is outside of it.
        heap = f"-Xms{size.heap_mb}m -Xmx{size.heap_mb}m -XX:+AlwaysPreTouch"
        served = Served(work / "server", vmargs=f"{heap} -Xlog:gc:file={log}::filecount=0")
        probe.archive_coded(served.store, "soak", approxifer={"code": code})
        say(f"start a server with {size.workers} workers")
        stack.enter_context(served)
        served.cluster.register("soak.mar", name="soak", workers=size.workers)
        bodies = [probe.body(number, size.body_bytes) for number in range(BODIES)]
        check = compare([probe.right_answer(content) for content in bodies])
        load = Saturator(served.target("soak"), bodies, size.clients, check)
        total = size.warm_up + size.requests
        say(f"{total:,} requests from {size.clients} clients, the first {size.warm_up:,} warm up")
        assert served.server.pid is not None
        with Watcher(served.server.pid, lambda: load.burst.answered) as watcher:
            burst = load.run(HOURS, requests=total)
        state = served.once("soak", idle, 10)
        collections = heap_after_collections(log)
    sheet = _sheet(out, size, watcher.readings, collections, burst, state, load_average)
    sheet.write(out)
    return sheet


def _heap_by_requests(
    readings: Sequence[Reading], collections: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Put collections on the scale of requests; the JVM's life began before the load."""
    if not readings or not collections:
        return []
    # The last collection cannot be later than the last reading, by more than one interval.
    shift = collections[-1][0] - readings[-1].at_s
    found = []
    for at, megabytes in collections:
        before = [r.requests for r in readings if r.at_s <= at - shift]
        if before:
            found.append((float(before[-1]), megabytes))
    return found


def _sheet(
    out: Path, size: Size, readings: Sequence[Reading],
    collections: Sequence[tuple[float, float]], burst: Burst, model: State,
    load_average: float,
) -> Sheet:  # fmt: skip
    requests = [float(reading.requests) for reading in readings]
    heap = _heap_by_requests(readings, collections)
    readings_of = {
        "JVM heap after collections": ([r for r, _ in heap], [m for _, m in heap]),
        "JVM resident": (requests, [reading.jvm_mb for reading in readings]),
        "all workers resident": (requests, [sum(reading.workers_mb) for reading in readings]),
    }
    found = [growth(name, *both, warm_up=size.warm_up) for name, both in readings_of.items()]
    _plot(out / "memory.png", readings, heap)
    left = {key: model[key] for key in ("in_flight", "outstanding_jobs")}
    checks = [Check(f"{one.name} flat", one.flat, one.verdict) for one in found]
    checks.append(
        Check(
            "answers",
            burst.failed + burst.wrong == 0 and burst.answered >= size.warm_up + size.requests,
            f"{burst.answered} answered, {burst.failed} failed, {burst.wrong} wrong "
            f"{sorted(burst.failures) or ''}",
        )
    )  # fmt: skip
    checks.append(Check("nothing left behind", set(left.values()) == {0}, str(left)))
    facts = {
        "size": asdict(size),
        "answered": burst.answered,
        "failed": burst.failed,
        "wrong": burst.wrong,
        "outcomes": burst.outcomes,
        "seconds": readings[-1].at_s,
        "growth": [{**asdict(one), "flat": one.flat} for one in found],
        "readings": [asdict(reading) for reading in readings],
        "heap_after_collections": [list(point) for point in heap],
        "counters": model["counters"],
    }
    rows = tuple(
        (one.name, f"{one.level_mb:.1f}", f"{one.slope_mb:+.2f}",
         f"{one.low_mb:+.2f} to {one.high_mb:+.2f}", "yes" if one.flat else "no")
        for one in found
    )  # fmt: skip
    columns = ("memory", "level, MB", f"MB per {PER:,} requests", "95 % interval", "flat")
    lead = (
        f"{burst.answered:,} requests of {size.body_bytes // 1000} KB from {size.clients} clients "
        f"on {size.workers} workers; the heap of {size.heap_mb} MB is resident from the start. "
        f"Slopes are Theil and Sen's over all after the first {size.warm_up:,}; readings follow "
        "from one another, so true intervals are wider. Flat: the interval reaches 0, or growth "
        "is below "
        f"{FLAT:.0%} of the level."
    )
    table = Table("memory over requests", columns, rows)
    return Sheet("Soak", lead, facts, (table,), tuple(checks), load_average, ("memory.png",))


def _plot(path: Path, readings: Sequence[Reading], heap: Sequence[tuple[float, float]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), constrained_layout=True)
    requests = [reading.requests for reading in readings]
    left.plot(requests, [reading.jvm_mb for reading in readings], label="resident")
    if heap:
        left.plot(*zip(*heap, strict=True), ".", label="heap after a collection")
    left.set(title="JVM", xlabel="requests answered", ylabel="MB", ylim=(0, None))
    left.legend()
    count = max((len(reading.workers_mb) for reading in readings), default=0)
    for worker in range(count):
        points = [
            (r.requests, r.workers_mb[worker]) for r in readings if len(r.workers_mb) > worker
        ]
        right.plot(*zip(*points, strict=True))
    right.set(title="workers, resident", xlabel="requests answered", ylim=(0, None))
    for axis in (left, right):
        axis.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
    plt.close(figure)
