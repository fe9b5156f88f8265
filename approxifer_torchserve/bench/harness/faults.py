"""Faults brought about from outside: a file that makes a worker slow, a signal that ends one."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil

from approxifer_torchserve.faults import VARIABLE
from approxifer_torchserve.serving.server.cluster import Cluster
from approxifer_torchserve.serving.server.launcher import TorchServe, is_worker

Faults = Mapping[str, Mapping[str, float | str]]


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

    def put(self, pid: int, **fault: float | str) -> None:
        """Give one worker a fault, beside the others'."""
        self.put_all({**self._faults, str(pid): fault})

    def drop(self, pid: int) -> None:
        """Take one worker's fault away."""
        self.put_all({key: fault for key, fault in self._faults.items() if key != str(pid)})

    def clear(self) -> None:
        """Make all workers well."""
        self.put_all({})

    def put_all(self, faults: Faults) -> None:
        """Replace all faults; process id, or ``*`` for all others, to the keys of a `Fault`."""
        self._faults = dict(faults)
        # In one step: a worker may read at any moment.
        half = self.path.with_suffix(".part")
        half.write_text(json.dumps(self._faults))
        half.replace(self.path)


def busiest(workers: list[psutil.Process]) -> psutil.Process:
    """Return the worker that has computed most: the one whose loss is felt most.

    A router may leave some workers idle at low load; hurting one of those would show nothing.
    """

    def seconds(worker: psutil.Process) -> float:
        try:
            times = worker.cpu_times()
        except psutil.Error:
            return -1.0
        return float(times.user + times.system)

    return max(workers, key=seconds)


class Victims:
    """Chooses workers of one model on one server, the busiest first, and hurts them.

    Args:
        server: The server; its JVM must be the workers' parent.
        cluster: Its Management API.
        model: The model's name.
        faults: The server's fault file.
    """

    def __init__(self, server: TorchServe, cluster: Cluster, model: str, faults: FaultFile) -> None:
        self.server = server
        self.cluster = cluster
        self.model = model
        self.faults = faults
        self._slow: int | None = None
        self.killed: list[int] = []

    def ready(self) -> list[psutil.Process]:
        """Return the workers that can take jobs now and are what their process ids say.

        The Management API can be a restart behind, so each process id is checked: a worker's
        command line, and this server's JVM as parent.

        Raises:
            OSError: There is none.
        """
        found = []
        for worker in self.cluster.describe(self.model)[0].workers:
            try:
                process = psutil.Process(worker.pid) if worker.ready else None
                if process and is_worker(process) and process.ppid() == self.server.pid:
                    found.append(process)
            except psutil.Error:
                continue
        if not found:
            raise OSError(f"{self.model} has no ready worker to disturb on this server")
        return found

    async def slow_down(self, seconds: float) -> None:
        """Make one worker late at every job; another one where the last was replaced."""
        ready = await asyncio.to_thread(self.ready)
        pids = [process.pid for process in ready]
        if self._slow is None or self._slow not in pids:
            self._slow = busiest(ready).pid
        self.faults.put_all({str(self._slow): {"delay_s": seconds}})

    async def kill_one(self, after_s: float) -> None:
        """Kill one ready worker with SIGKILL, some seconds into the slice.

        Raises:
            OSError: There is no worker to kill.
        """
        await asyncio.sleep(after_s)
        victim = busiest(await asyncio.to_thread(self.ready))
        # psutil refuses where the process id has been given to another process meanwhile.
        victim.send_signal(signal.SIGKILL)
        self.killed.append(victim.pid)
