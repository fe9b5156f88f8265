"""Faults brought about from outside: a file that makes a worker slow, a signal that ends one."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from pathlib import Path

import psutil

from approxifer_torchserve.faults import VARIABLE
from approxifer_torchserve.serving.cluster import Cluster
from approxifer_torchserve.serving.launcher import TorchServe, is_worker


class FaultFile:
    """The file that workers with faults allowed read before each batch.

    Args:
        path: Where it lies; a server's workers learn of it from `environment`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clear()

    @property
    def environment(self) -> dict[str, str]:
        """What to start the server with."""
        return {VARIABLE: str(self.path)}

    def delay(self, pid: int, seconds: float) -> None:
        """Make one worker sleep before each batch."""
        self._write({str(pid): {"delay_s": seconds}})

    def clear(self) -> None:
        """Make all workers well."""
        self._write({})

    def _write(self, faults: dict[str, dict[str, float]]) -> None:
        # In one step: a worker may read at any moment.
        half = self.path.with_suffix(".part")
        half.write_text(json.dumps(faults))
        half.replace(self.path)


class Victims:
    """Chooses workers of one model on one server, and hurts them.

    Args:
        server: The server; its JVM must be the workers' parent.
        cluster: Its Management API.
        model: The model's name.
        faults: The server's fault file.
        seed: Of the choice.
    """

    def __init__(
        self, server: TorchServe, cluster: Cluster, model: str, faults: FaultFile, seed: int
    ) -> None:
        self.server = server
        self.cluster = cluster
        self.model = model
        self.faults = faults
        self._draw = random.Random(seed)
        self._slow: int | None = None
        self.killed: list[int] = []

    def ready_pids(self) -> list[int]:
        """Return the process ids of the workers that can take jobs now."""
        return [w.pid for w in self.cluster.describe(self.model)[0].workers if w.ready]

    async def slow_down(self, seconds: float) -> None:
        """Make one worker late at every job; another one where the last was replaced."""
        pids = await asyncio.to_thread(self.ready_pids)
        if self._slow not in pids:
            self._slow = self._draw.choice(pids)
        assert self._slow is not None
        self.faults.delay(self._slow, seconds)

    async def kill_one(self, after_s: float) -> None:
        """Kill one ready worker with SIGKILL, some seconds into the slice.

        Raises:
            RuntimeError: The process id is not that of a worker of this server.
        """
        await asyncio.sleep(after_s)
        pid = self._draw.choice(await asyncio.to_thread(self.ready_pids))
        process = psutil.Process(pid)
        # The Management API can be behind by a restart: never signal what is not our own worker.
        if not is_worker(process) or process.ppid() != self.server.pid:
            raise RuntimeError(
                f"pid {pid} is not a worker of the server with pid {self.server.pid}"
            )
        process.send_signal(signal.SIGKILL)
        self.killed.append(pid)
