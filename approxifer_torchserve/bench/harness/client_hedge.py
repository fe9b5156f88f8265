"""Hedging without a plugin: a client or a proxy sends again what is late, and takes the first.

It sees a request's whole time, queueing included, and not the workers: it cannot choose another
one, nor take the loser back from the queue. It is what a user can do without changing the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

Post = Callable[[], Coroutine[Any, Any, httpx.Response]]


class Hedging:
    """Sends each request that is late, or failed, once more.

    Args:
        after_s: When a request is late, in seconds from when it was sent; may be changed.

    Attributes:
        sent: How many requests were sent again so far.
    """

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.sent = 0

    async def first(self, post: Post) -> tuple[httpx.Response, bool]:
        """Returns the first good answer, or the last bad one, and whether it is to the second.

        Args:
            post: Sends the request once.

        Raises:
            httpx.HTTPError: Neither was answered.
        """
        tasks = [asyncio.create_task(post())]
        try:
            await asyncio.wait(tasks, timeout=self.after_s)
            if not _good(tasks[0]):
                self.sent += 1
                tasks.append(asyncio.create_task(post()))
            waiting = set(tasks)
            while waiting and not any(_good(task) for task in tasks):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            best = next((task for task in tasks if _good(task)), tasks[-1])
            return await best, best is not tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _good(task: asyncio.Task[httpx.Response]) -> bool:
    return task.done() and task.exception() is None and task.result().status_code < 500
