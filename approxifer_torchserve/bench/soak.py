"""A long soak: does memory grow with the number of requests?

Closed-loop load through the plugin until so many requests are answered; every answer is checked.
Growth is the slope of memory over requests after a warm-up, by Theil and Sen's estimator, which a
few peaks do not move, with its 95 % interval.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from approxifer_torchserve.bench.harness import model
from approxifer_torchserve.bench.harness.load import Burst
from approxifer_torchserve.bench.harness.plot import plt, save
from approxifer_torchserve.bench.harness.report import Check, Report, Say, Table
from approxifer_torchserve.bench.harness.server import Served, State, idle
from approxifer_torchserve.serving.server.launcher import worker_processes

# Growth per 100,000 requests that is called flat, as a share of the level.
FLAT = 0.02
PER = 100_000
MIN_POINTS = 8
HOURS = 24 * 3600
GC_LOG = "gc.log"
# "[12.345s][info][gc] GC(3) Pause Young (Normal) (G1 Evacuation Pause) 120M->30M(256M) 3.2ms"
_PAUSE = re.compile(r"^\[([\d.]+)s\].*GC\(\d+\) Pause .* (\d+)M->(\d+)M\((\d+)M\)")


@dataclass(frozen=True)
class Size:
    """How much is sent to what.

    Attributes:
        requests: How many are sent after the warm-up.
        warm_up: How many are sent before: meanwhile the JVM compiles and pools and allocators find
            their sizes. Half a million requests showed that this is over after about a hundred
            thousand.
        workers: Workers of the coded model.
        clients: How many requests are under way at once.
        heap_mb: The JVM's heap in MB: small, so that it is collected often.
        body_bytes: Bytes of a request.
    """

    requests: int = 100_000
    warm_up: int = 100_000
    workers: int = 4
    clients: int = 16
    heap_mb: int = 256
    body_bytes: int = model.SMALL_BYTES


@dataclass(frozen=True)
class Reading:
    """Memory at one moment, in MB.

    Attributes:
        at_s: Seconds from the start.
        requests: How many were answered until then.
        jvm_mb: Resident size of the JVM.
        workers_mb: Resident size of each worker.
    """

    at_s: float
    requests: int
    jvm_mb: float
    workers_mb: tuple[float, ...]


class Watcher:
    """Takes readings in a thread: a context manager.

    Args:
        jvm_pid: Process id of the server.
        answered: Returns the requests answered so far.
        every_s: Seconds between readings.

    Attributes:
        readings: All readings so far.
    """

    def __init__(self, jvm_pid: int, answered: Callable[[], int], every_s: float = 1.0) -> None:
        self.readings: list[Reading] = []
        self._jvm = psutil.Process(jvm_pid)
        self._answered, self._every_s = answered, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watcher:
        """Begins."""
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        """Ends."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        start = time.perf_counter()
        while not self._stop.wait(self._every_s):
            try:
                workers = tuple(_mb(worker) for worker in worker_processes(self._jvm.pid))
                reading = Reading(
                    time.perf_counter() - start, self._answered(), _mb(self._jvm), workers
                )
            except psutil.Error:
                continue
            self.readings.append(reading)


def _mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def heap_after_collections(log: Path) -> list[tuple[float, float]]:
    """Reads a log that ``-Xlog:gc:file=…`` wrote.

    Args:
        log: The file.

    Returns:
        Seconds of the JVM's life, and the heap in MB that each collection left.
    """
    matches = (_PAUSE.match(line) for line in log.read_text(errors="replace").splitlines())
    return [(float(match[1]), float(match[3])) for match in matches if match]


@dataclass(frozen=True)
class Growth:
    """How one quantity changes per 100,000 requests, in MB.

    Attributes:
        name: What it is.
        level_mb: Its median after the warm-up.
        slope_mb: Theil and Sen's slope; ``low_mb`` and ``high_mb`` are its 95 % interval. Readings
            follow from one another, so the true interval is wider.
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
    """Estimates growth from readings.

    Args:
        name: What was read.
        requests: How many were answered at each reading.
        megabytes: The readings.
        warm_up: Readings before so many requests do not count.

    Raises:
        ValueError: There are fewer than 8 readings after the warm-up.
    """
    from scipy.stats import theilslopes

    kept = [(r, m) for r, m in zip(requests, megabytes, strict=True) if r >= warm_up]
    if len(kept) < MIN_POINTS:
        raise ValueError(
            f"{name}: expected at least {MIN_POINTS} readings after the warm-up, got "
            f"{len(kept)}; send more requests"
        )
    x, y = [r / PER for r, _ in kept], [m for _, m in kept]
    with np.errstate(invalid="ignore"):
        slope, _, low, high = theilslopes(y, x, 0.95)
    if not np.isfinite([low, high]).all():
        low = high = slope  # nearly all readings are the same: scipy has no interval for them
    level = sorted(y)[len(y) // 2]
    return Growth(name, level, float(slope), float(low), float(high), len(kept))


def run_soak(out: Path, size: Size, say: Say = print) -> Report:
    """Soaks a server.

    Args:
        out: Folder for memory.png.
        size: How much is sent to what.
        say: Told what happens now.

    Raises:
        LaunchError: The server did not start.
        ClusterError: Workers did not come up.
        ValueError: There were too few requests for a slope.
    """
    code = {"name": "approxifer", "queries": size.workers - 1, "stragglers": 1}
    # With the whole heap resident from the start, what resident size grows by is outside of it.
    heap = f"-Xms{size.heap_mb}m -Xmx{size.heap_mb}m -XX:+AlwaysPreTouch"
    say(f"start a server with {size.workers} workers")
    with Served(vmargs=f"{heap} -Xlog:gc:file={GC_LOG}::filecount=0") as served:
        settings = {"batchSize": 8}
        model.archive_coded(served.store, "soak", approxifer={"code": code}, settings=settings)
        with served.serving("soak", size.workers) as target:
            load = model.checked_loop(target, size.clients, size.body_bytes, count=64)
            total = size.warm_up + size.requests
            say(f"{total:,} requests, {size.clients} clients, the first {size.warm_up:,} warm up")
            assert served.server.pid is not None
            with Watcher(served.server.pid, lambda: load.burst.answered) as watcher:
                burst = load.run(HOURS, requests=total)
            state = served.once("soak", idle, 10)
            # The JVM's own folder is the one it runs in, and that of its logs lies there.
            collections = heap_after_collections(served.server.log_dir.parent / GC_LOG)
    return _report(out, size, watcher.readings, collections, burst, state)


def _heap_by_requests(
    readings: Sequence[Reading], collections: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Puts collections on the scale of requests; the JVM's life began before the load."""
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


def _report(
    out: Path, size: Size, readings: Sequence[Reading],
    collections: Sequence[tuple[float, float]], burst: Burst, state: State,
) -> Report:  # fmt: skip
    requests = [float(reading.requests) for reading in readings]
    heap = _heap_by_requests(readings, collections)
    readings_of = {
        "JVM heap after collections": ([r for r, _ in heap], [m for _, m in heap]),
        "JVM resident": (requests, [reading.jvm_mb for reading in readings]),
        "all workers resident": (requests, [sum(reading.workers_mb) for reading in readings]),
    }
    found = [growth(name, *both, warm_up=size.warm_up) for name, both in readings_of.items()]
    _plot(out / "memory.png", readings, heap)
    left = {key: state[key] for key in ("in_flight", "outstanding_jobs")}
    enough = burst.answered >= size.warm_up + size.requests
    checks = [
        *(Check(f"{one.name} flat", one.flat, one.verdict) for one in found),
        Check(
            "answers", burst.failed + burst.wrong == 0 and enough,
            f"{burst.answered} answered, {burst.failed} failed, {burst.wrong} wrong "
            f"{sorted(burst.failures) or ''}",
        ),
        Check("nothing left behind", set(left.values()) == {0}, str(left)),
    ]  # fmt: skip
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
        "counters": state["counters"],
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
        f"is below {FLAT:.0%} of the level."
    )
    table = Table("memory over requests", columns, rows)
    return Report("Soak", lead, facts, (table,), tuple(checks), ("memory.png",))


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
    save(figure, path)
