"""Random faults for chaos: workers killed, frozen, slowed, made to answer garbage, at any time.

Each fault is a task of its own that begins it, waits, undoes it, and waits until the worker is well
again. Schedule A keeps the number of workers under a fault at or below S; schedule B strikes any.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import Literal

import psutil

from approxifer_torchserve.bench.harness.server import Served
from approxifer_torchserve.serving.server.cluster import ClusterError

Schedule = Literal["A", "B"]
KINDS = ("kill", "freeze", "slow", "garbage")
# After a fault ends, its worker has still to answer what it held.
SETTLE_S = 0.5
# Schedule B now and then strikes all workers at once.
STORM = 0.08


@dataclass
class Event:
    """One fault of one worker; times in seconds from the run's start.

    Attributes:
        kind: One of `KINDS`.
        worker: TorchServe's id of the worker.
        pid: Its process id.
        start_s: When it began.
        end_s: When the worker was well again; None while it is not.
    """

    kind: str
    worker: str
    pid: int
    start_s: float
    end_s: float | None = None


class Chaos:
    """Brings faults about while a run lasts.

    Args:
        served: The server; its JVM must be the workers' parent.
        model: The model under load.
        workers: How many the model has when all are well.
        stragglers: S, the most workers under a fault in schedule A.
        schedule: "A" or "B".
        seed: Seed of what happens to whom.
    """

    def __init__(
        self, served: Served, model: str, workers: int, stragglers: int, schedule: Schedule,
        seed: int,
    ) -> None:  # fmt: skip
        self.served, self.model, self.workers = served, model, workers
        self.limit = stragglers if schedule == "A" else workers
        self.schedule = schedule
        self.events: list[Event] = []
        self._draw = random.Random(seed)
        self._hurt: dict[str, Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._deck: list[str] = []
        self._start = 0.0

    async def run(self, seconds: float) -> None:
        """Hurts workers for some seconds, then makes all well and waits until they are."""
        self._start = time.perf_counter()
        try:
            while self._now() < seconds:
                if self._draw.random() < STORM and self.schedule == "B":
                    await self._strike(self.workers)
                elif len(self._hurt) < self.limit:
                    await self._strike(1)
                await asyncio.sleep(self._pause())
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _pause(self) -> float:
        return self._draw.uniform(0.1, 0.6) if self.schedule == "A" else self._draw.expovariate(1.2)

    def _kind(self) -> str:
        # Dealt like cards, so that a short run has all kinds too.
        if not self._deck:
            self._deck = self._draw.sample(KINDS, len(KINDS))
        return self._deck.pop()

    async def _strike(self, count: int) -> None:
        try:
            ready = await asyncio.to_thread(self.served.workers, self.model)
        except ClusterError:
            return
        found = [(worker, one) for worker, one in ready.items() if worker not in self._hurt]
        kind = self._kind()
        self._draw.shuffle(found)
        room = self.limit - len(self._hurt)
        for worker, process in found[: min(count, room)]:
            event = Event(kind, worker, process.pid, self._now())
            self._hurt[worker] = event
            self.events.append(event)
            task = asyncio.create_task(self._fault(event, process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fault(self, event: Event, process: psutil.Process) -> None:
        draw = self._draw
        lasts = draw.uniform(0.5, 4.0)
        if self.schedule == "B" and draw.random() < 0.1:
            lasts = draw.uniform(8.0, 14.0)  # beyond the response timeout: TorchServe restarts it
        try:
            if event.kind == "kill":
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            elif event.kind == "freeze":
                await self._freeze(process, lasts)
            else:
                fault = (
                    {"delay_s": draw.uniform(0.3, 2.0)}
                    if event.kind == "slow"
                    else {"garbage": draw.uniform(0.5, 1.0)}
                )
                self.served.faults.put(event.pid, **fault)
                await asyncio.sleep(lasts)
                self.served.faults.drop(event.pid)
                # It may be asleep for one more job.
                await asyncio.sleep(fault.get("delay_s", 0.0))
            await self._until_well(event)
        finally:
            event.end_s = self._now()
            self._hurt.pop(event.worker, None)

    async def _freeze(self, process: psutil.Process, seconds: float) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
            try:
                await asyncio.sleep(seconds)
            finally:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    async def _until_well(self, event: Event, seconds: float = 60.0) -> None:
        """Waits until the worker is ready again, as a new process where it was killed."""
        end = self._now() + seconds
        while self._now() < end:
            await asyncio.sleep(SETTLE_S)
            with contextlib.suppress(ClusterError):
                described = await asyncio.to_thread(self.served.cluster.describe, self.model)
                for worker in described[0].workers:
                    alive = worker.ready and psutil.pid_exists(worker.pid)
                    new = event.kind != "kill" or worker.pid != event.pid
                    if worker.id == event.worker and alive and new:
                        return
