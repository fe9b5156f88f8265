"""What a server's memory is: resident sizes, and the heap that each collection leaves."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from approxifer_torchserve.serving.server.launcher import worker_processes

# "[12.345s][info][gc] GC(3) Pause Young (Normal) (G1 Evacuation Pause) 120M->30M(256M) 3.2ms"
_PAUSE = re.compile(r"^\[([\d.]+)s\].*GC\(\d+\) Pause .* (\d+)M->(\d+)M\((\d+)M\)")


@dataclass(frozen=True)
class Reading:
    """Memory at one moment, in MB.

    Attributes:
        at_s: Seconds from the start.
        requests: Answered until then.
        jvm_mb: Resident size of the JVM.
        workers_mb: Of each worker.
    """

    at_s: float
    requests: int
    jvm_mb: float
    workers_mb: tuple[float, ...]


class Watcher:
    """Takes readings in a thread: a context manager.

    Args:
        jvm_pid: The server.
        answered: Returns the requests answered so far.
        every_s: Between readings.
    """

    def __init__(self, jvm_pid: int, answered: Callable[[], int], every_s: float = 1.0) -> None:
        self.readings: list[Reading] = []
        self._jvm = psutil.Process(jvm_pid)
        self._answered = answered
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watcher:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        """End."""
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
    """Read a log that ``-Xlog:gc:file=…`` wrote.

    Args:
        log: The file.

    Returns:
        Seconds of the JVM's life, and the heap in MB that each collection left.
    """
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if match := _PAUSE.match(line):
            found.append((float(match[1]), float(match[3])))
    return found
