"""Faults brought about from outside, in the worker whose loss is felt most."""

from __future__ import annotations

import asyncio
import signal

import psutil

from approxifer_torchserve.bench.harness.server import Served, cpu_seconds


class Victims:
    """Chooses workers of one model on one server, the busiest first, and hurts them.

    A router may leave some workers idle at low load; hurting one of those would show nothing.

    Args:
        served: The server.
        model: The model's name.

    Attributes:
        killed: Process ids of those that were killed.
    """

    def __init__(self, served: Served, model: str) -> None:
        self.served, self.model = served, model
        self._slow: int | None = None
        self.killed: list[int] = []

    async def _ready(self) -> list[psutil.Process]:
        found = await asyncio.to_thread(self.served.workers, self.model)
        if not found:
            raise OSError(f"{self.model} has no ready worker to disturb on this server")
        return sorted(found.values(), key=cpu_seconds, reverse=True)

    async def slow_down(self, seconds: float) -> None:
        """Makes one worker late at every job; another one where the last was replaced.

        Raises:
            OSError: There is no worker to make slow.
        """
        pids = [process.pid for process in await self._ready()]
        if self._slow not in pids:
            self._slow = pids[0]
        self.served.faults.put_all({str(self._slow): {"delay_s": seconds}})

    async def kill_one(self, after_s: float) -> None:
        """Kills one ready worker with SIGKILL, some seconds into the slice.

        Raises:
            OSError: There is no worker to kill.
        """
        await asyncio.sleep(after_s)
        victim = (await self._ready())[0]
        # psutil refuses where the process id has been given to another process meanwhile.
        victim.send_signal(signal.SIGKILL)
        self.killed.append(victim.pid)
