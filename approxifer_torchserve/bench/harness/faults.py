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
        self._hurt: int | None = None
        self.killed: list[int] = []

    async def _ready(self) -> list[psutil.Process]:
        found = await asyncio.to_thread(self.served.workers, self.model)
        if not found:
            raise OSError(f"{self.model} has no ready worker to disturb on this server")
        return sorted(found.values(), key=cpu_seconds, reverse=True)

    async def hurt(self, **fault: float) -> None:
        """Gives one worker a fault, and no other; another one where the last was replaced.

        Args:
            fault: The keys of a `Fault`.

        Raises:
            OSError: There is no worker to hurt.
        """
        pids = [process.pid for process in await self._ready()]
        if self._hurt not in pids:
            self._hurt = pids[0]
        self.served.faults.put_all({str(self._hurt): fault})

    async def kill_one(self, after_s: float) -> None:
        """Kills one ready worker with SIGKILL, some seconds into the slice.

        Raises:
            OSError: There is no worker to kill.
        """
        await self._kill(after_s, 1)

    async def kill_all(self, after_s: float) -> None:
        """Kills all ready workers with SIGKILL, some seconds into the slice.

        Raises:
            OSError: There is no worker to kill.
        """
        await self._kill(after_s, None)

    async def _kill(self, after_s: float, count: int | None) -> None:
        await asyncio.sleep(after_s)
        for victim in (await self._ready())[:count]:
            # psutil refuses where the process id has been given to another process meanwhile.
            victim.send_signal(signal.SIGKILL)
            self.killed.append(victim.pid)
