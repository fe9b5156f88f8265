"""Open-loop load: requests leave at times drawn beforehand, however late the answers are.

A closed loop would wait for a slow answer and so send fewer requests just when it matters; here
each latency is counted from the moment the request was *due*, so a stalled server cannot hide.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx
from httpx import AsyncClient

from approxifer_torchserve.bench.harness.client_hedge import Hedging

OUTCOME_HEADER = "x-approxifer-outcome"
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One request's body and what a right answer says.

    Attributes:
        index: Its number, for reports.
        body: The bytes to post.
        label: The true class.
    """

    index: int
    body: bytes
    label: int


@dataclass(frozen=True)
class Record:
    """What became of one request.

    Attributes:
        due_s: When it was to leave, in seconds from the slice's start.
        latency_s: From then until the whole answer was there (or the failure was known).
        status: HTTP status; 0 where there was no answer.
        outcome: "exact", "hedged", "reconstructed", "failed", or "plain" (no plugin).
        predicted: The class in the answer; None where there is none.
        label: The true class.
        sample: Index of the sample.
        detail: What went wrong, for failures.
        phase: Filled in by the schedule.
        server: Filled in by the schedule.
        turn: Which alternation it belongs to; filled in by the schedule.
    """

    due_s: float
    latency_s: float
    status: int
    outcome: str
    predicted: int | None
    label: int
    sample: int
    detail: str = ""
    phase: str = ""
    server: str = ""
    turn: int = 0

    def within(self, phase: str, server: str, turn: int) -> Record:
        """Return this record with its place in the schedule."""
        return replace(self, phase=phase, server=server, turn=turn)


def arrival_times(rate: float, seconds: float, seed: int) -> list[float]:
    """Draw a Poisson process.

    Args:
        rate: Requests per second.
        seconds: Length.
        seed: The same seed gives the same times.

    Returns:
        Increasing times in 0..seconds.

    Raises:
        ValueError: ``rate`` or ``seconds`` is not above 0.
    """
    if rate <= 0:
        raise ValueError(f"rate: expected requests per second above 0, got {rate}")
    if seconds <= 0:
        raise ValueError(f"seconds: expected more than 0, got {seconds}")
    draw = random.Random(seed)
    times, now = [], draw.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += draw.expovariate(rate)
    return times


@dataclass(frozen=True)
class Target:
    """One model on one server.

    Attributes:
        server: Name in reports: "coded" or "plain".
        url: The prediction URL.
        token: Inference token; None where the server asks for none.
        hedging: Sends late requests again from here; None for the server's business.
    """

    server: str
    url: str
    token: str | None = None
    hedging: Hedging | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


async def send_at(
    times: Sequence[float], send: Callable[[int, float], Coroutine[Any, Any, T]]
) -> tuple[list[T], float]:
    """Start a request at each of given times, however late earlier answers are.

    Args:
        times: When each is due, in seconds from now, increasing.
        send: Called with its number and the ``time.perf_counter()`` at which it is due.

    Returns:
        What came of each, and the longest that one was started after it was due: this process's own
        fault, in seconds.
    """
    tasks: list[asyncio.Task[T]] = []
    start, late = time.perf_counter(), 0.0
    for number, at in enumerate(times):
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        late = max(late, time.perf_counter() - start - at)
        tasks.append(asyncio.create_task(send(number, start + at)))
    return list(await asyncio.gather(*tasks)), late


def new_client(target: Target, connections: int = 256, timeout_s: float = 30.0) -> AsyncClient:
    """Return a pooled client; one per slice, opened in the loop that uses it."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return AsyncClient(limits=limits, timeout=timeout_s, headers=target.headers)


async def send(client: AsyncClient, target: Target, sample: Sample, due: float) -> Record:
    """Post one sample and record what came.

    Args:
        client: The pooled client.
        target: Where to.
        sample: What.
        due: ``time.perf_counter()`` at which it was to leave.
    """

    async def post() -> httpx.Response:
        headers = {"content-type": "image/png"}
        return await client.post(target.url, content=sample.body, headers=headers)

    status, outcome, predicted, detail = 0, "failed", None, ""
    try:
        if target.hedging is None:
            reply, again = await post(), False
        else:
            reply, again = await target.hedging.first(post)
        status = reply.status_code
        if status == 200:
            outcome = "hedged" if again else reply.headers.get(OUTCOME_HEADER, "plain")
            predicted = int(reply.json()["class"])
        else:
            detail = reply.text[:200]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        outcome, detail = "failed", f"{type(error).__name__}: {error}"
    latency = time.perf_counter() - due
    return Record(0.0, latency, status, outcome, predicted, sample.label, sample.index, detail)


async def open_loop(
    target: Target, samples: Sequence[Sample], rate: float, seconds: float, seed: int
) -> list[Record]:
    """Send samples at Poisson times and wait for every answer.

    Args:
        target: Where to.
        samples: Drawn from with replacement.
        rate: Requests per second.
        seconds: How long requests are sent.
        seed: Of times and samples.

    Returns:
        One record per request, in order of sending.
    """
    draw = random.Random(seed + 1)
    times = arrival_times(rate, seconds, seed)
    sent = [draw.choice(samples) for _ in times]
    async with new_client(target) as client:
        records, _ = await send_at(
            times, lambda number, due: send(client, target, sent[number], due)
        )
    return [replace(record, due_s=at) for at, record in zip(times, records, strict=True)]


async def closed_loop(
    target: Target, samples: Sequence[Sample], clients: int, seconds: float
) -> tuple[float, int]:
    """Measure capacity: each client sends its next request when the last is answered.

    Args:
        target: Where to.
        samples: Sent in turn.
        clients: How many requests are under way at once.
        seconds: How long.

    Returns:
        Answers per second with status 200, and how many failed.
    """
    done, failed = 0, 0
    async with new_client(target) as client:
        start = time.perf_counter()

        async def loop(first: int) -> None:
            nonlocal done, failed
            turn = first
            while time.perf_counter() - start < seconds:
                sample = samples[turn % len(samples)]
                record = await send(client, target, sample, time.perf_counter())
                if record.status == 200:
                    done += 1
                else:
                    failed += 1
                turn += clients

        await asyncio.gather(*(loop(first) for first in range(clients)))
        passed = time.perf_counter() - start
    return done / passed, failed
