"""Load on a server: an open loop for latencies, a closed loop for what it can answer at most.

The open loop sends at times drawn beforehand, however late the answers are. A closed loop would
wait for a slow answer and so send fewer requests just when it matters; here each latency is counted
from the moment the request was *due*, so a stalled server cannot hide.

The closed loop runs in threads over ``http.client``: on a small machine the client shares the
processors with the server, and each millisecond that asyncio takes hides a difference.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from httpx import AsyncClient

from approxifer_torchserve.bench.harness.client_hedge import Hedging
from approxifer_torchserve.bench.harness.transport import LeanTransport

OUTCOME_HEADER = "x-approxifer-outcome"
RECONSTRUCTED = "reconstructed"
BINARY = {"content-type": "application/octet-stream"}
MAX_FAILURES = 5
T = TypeVar("T")
# Called with the number of the body and the answer's bytes; False where it is wrong.
Checker = Callable[[int, bytes], bool]


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
        latency_s: Seconds from then until the whole answer was there, or the failure was known.
        status: The HTTP status; 0 where there was no answer.
        outcome: "exact", "hedged", "reconstructed", "failed", or "plain" (no plugin).
        predicted: The class in the answer; None where there is none.
        label: The true class.
        sample: Index of the sample.
        detail: What went wrong, for failures.
        phase: Name of the phase; filled in by the schedule.
        server: Name of the server; filled in by the schedule.
        turn: Number of the alternation; filled in by the schedule.
        retry_after: Whether the answer said when to come again.
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
    retry_after: bool = False

    def within(self, phase: str, server: str, turn: int) -> Record:
        """Returns this record with its place in the schedule."""
        return replace(self, phase=phase, server=server, turn=turn)


@dataclass(frozen=True)
class Target:
    """One model on one server.

    Attributes:
        server: The server's name in reports: "coded" or "plain".
        url: The prediction URL.
        token: The inference token; None where the server asks for none.
        hedging: Sends late requests again from here; None leaves that to the server.
    """

    server: str
    url: str
    token: str | None = None
    hedging: Hedging | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True)
class Reply:
    """What came of one request that was sent.

    Attributes:
        status: The HTTP status; 0 where there was no answer.
        outcome: What the plugin calls it, "hedged" where the client hedged, "" without a plugin.
        content: The answer's bytes.
        latency_s: Seconds from when it was due until the whole answer was there.
        detail: Why there was no answer.
        retry_after: Whether it said when to come again.
    """

    status: int
    outcome: str
    content: bytes
    latency_s: float
    detail: str = ""
    retry_after: bool = False


def arrival_times(rate: float, seconds: float, seed: int) -> list[float]:
    """Draws a Poisson process.

    Args:
        rate: Requests per second.
        seconds: Length of the process.
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


async def send_at(
    times: Sequence[float], send: Callable[[int, float], Coroutine[Any, Any, T]]
) -> tuple[list[T], float]:
    """Starts a request at each of given times, however late earlier answers are.

    Args:
        times: When each is due, in seconds from now, increasing.
        send: Called with its number and the ``time.perf_counter()`` at which it is due.

    Returns:
        What came of each, and the longest that one was started after it was due, in seconds: this
        process's own fault.
    """
    tasks: list[asyncio.Task[T]] = []
    start, late = time.perf_counter(), 0.0
    for number, at in enumerate(times):
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        late = max(late, time.perf_counter() - start - at)
        tasks.append(asyncio.create_task(send(number, start + at)))
    return list(await asyncio.gather(*tasks)), late


def new_client(target: Target, connections: int = 256, timeout_s: float = 30.0) -> AsyncClient:
    """Returns a pooled client; one per slice, opened in the loop that uses it."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return AsyncClient(limits=limits, timeout=timeout_s, headers=target.headers)


async def ask(
    client: AsyncClient, target: Target, content: bytes, due: float, limit_s: float | None = None
) -> Reply:
    """Posts a body and waits for the whole answer, or for what prevents it.

    Args:
        client: The pooled client.
        target: Where to.
        content: The body.
        due: ``time.perf_counter()`` at which it was to leave.
        limit_s: Seconds from now after which it is given up; None for the client's own timeouts.
    """

    async def post() -> httpx.Response:
        return await client.post(target.url, content=content, headers=BINARY)

    try:
        if target.hedging is None:
            reply, again = await asyncio.wait_for(post(), limit_s), False
        else:
            reply, again = await target.hedging.first(post)
    except (httpx.HTTPError, asyncio.TimeoutError) as error:
        detail = f"{type(error).__name__}: {error}"
        return Reply(0, "", b"", time.perf_counter() - due, detail)
    outcome = "hedged" if again else reply.headers.get(OUTCOME_HEADER, "")
    seconds, later = time.perf_counter() - due, "retry-after" in reply.headers
    return Reply(reply.status_code, outcome, reply.content, seconds, retry_after=later)


async def send(client: AsyncClient, target: Target, sample: Sample, due: float) -> Record:
    """Posts one sample and records what came; the arguments are those of `ask`."""
    reply = await ask(client, target, sample.body, due)
    outcome, predicted, detail = "failed", None, reply.detail
    if reply.status == 200:
        try:
            predicted = int(json.loads(reply.content)["class"])
            outcome = reply.outcome or "plain"
        except (ValueError, KeyError, TypeError) as error:
            detail = f"{type(error).__name__}: {error}"
    elif reply.status:
        detail = reply.content.decode(errors="replace")[:200]
    return Record(
        0.0, reply.latency_s, reply.status, outcome, predicted, sample.label, sample.index, detail,
        retry_after=reply.retry_after,
    )  # fmt: skip


async def open_loop(
    target: Target, samples: Sequence[Sample], times: Sequence[float], seed: int
) -> list[Record]:
    """Sends samples at given times and waits for every answer.

    Args:
        target: Where to.
        samples: Drawn from with replacement.
        times: When each request is due, in seconds from now, increasing.
        seed: Seed of the samples.

    Returns:
        One record per request, in order of sending.
    """
    draw = random.Random(seed + 1)
    sent = [draw.choice(samples) for _ in times]
    async with AsyncClient(transport=LeanTransport(), timeout=30, headers=target.headers) as client:
        records, _ = await send_at(
            times, lambda number, due: send(client, target, sent[number], due)
        )
    return [replace(record, due_s=at) for at, record in zip(times, records, strict=True)]


@dataclass
class Burst:
    """What a closed loop gave.

    Attributes:
        per_second: Answers with status 200 per second, after the warm-up.
        answered: How many there were in all, the warm-up's too.
        failed: How many had another status, or a connection that broke.
        wrong: How many answers the check refused.
        outcomes: How many answers came about how.
        failures: Some of what was said for failures.
    """

    per_second: float = 0.0
    answered: int = 0
    failed: int = 0
    wrong: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: set[str] = field(default_factory=set)


class ClosedLoop:
    """Clients that each send their next request when the last is answered.

    Args:
        target: Where to.
        bodies: What is sent, in turn.
        clients: How many requests are under way at once.
        check: Looks at each answer that is not called reconstructed.

    Attributes:
        burst: What came so far.
    """

    def __init__(
        self, target: Target, bodies: Sequence[bytes], clients: int, check: Checker | None = None
    ) -> None:
        self.target, self.bodies, self.clients, self.check = target, bodies, clients, check
        self.burst = Burst()
        self._counted = 0
        self._lock = threading.Lock()

    def run(self, seconds: float, *, warm_s: float = 0.3, requests: int | None = None) -> Burst:
        """Sends for some seconds, or until so many requests are answered.

        Args:
            seconds: How long at most, the warm-up included.
            warm_s: Answers before this do not count for ``per_second``.
            requests: After how many it stops; None for no such limit.

        Returns:
            What came.
        """
        start = time.perf_counter()
        window = (start + warm_s, start + seconds)
        threads = [
            threading.Thread(target=self._client, args=(first, window, requests))
            for first in range(self.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        end = min(time.perf_counter(), window[1])
        self.burst.per_second = self._counted / max(1e-9, end - window[0])
        return self.burst

    def _client(self, first: int, window: tuple[float, float], requests: int | None) -> None:
        address = urlsplit(self.target.url)
        headers = {**BINARY, **self.target.headers}
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        turn = first
        while time.perf_counter() < window[1]:
            if requests is not None and self.burst.answered + self.burst.failed >= requests:
                break
            number = turn % len(self.bodies)
            try:
                connection.request("POST", address.path, self.bodies[number], headers)
                reply = connection.getresponse()
                content = reply.read()
                status, outcome = reply.status, reply.headers.get(OUTCOME_HEADER, "plain")
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, outcome, content = 0, "", f"{type(error).__name__}: {error}".encode()
            self._note(status, outcome, number, content, window)
            turn += self.clients
        connection.close()

    def _note(
        self, status: int, outcome: str, number: int, content: bytes, window: tuple[float, float]
    ) -> None:
        now, burst = time.perf_counter(), self.burst
        right = (
            self.check is None
            or status != 200
            or outcome == RECONSTRUCTED
            or self.check(number, content)
        )
        with self._lock:
            if status == 200:
                burst.answered += 1
                burst.outcomes[outcome] = burst.outcomes.get(outcome, 0) + 1
                self._counted += window[0] <= now < window[1]
                burst.wrong += not right
            else:
                burst.failed += 1
                if len(burst.failures) < MAX_FAILURES:
                    burst.failures.add(f"{status} {content[:200].decode(errors='replace')}")


def compare(answers: Sequence[object]) -> Checker:
    """Returns a check that an answer is JSON equal to ``answers[number]``."""

    def check(number: int, content: bytes) -> bool:
        try:
            return bool(json.loads(content) == answers[number])
        except ValueError:
            return False

    return check
