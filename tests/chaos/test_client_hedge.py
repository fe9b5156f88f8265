"""Hedging in a client: when it sends again, which answer it takes, what it costs."""

import asyncio
import time

import httpx
import pytest

from approxifer_torchserve.bench.harness.client_hedge import Hedging
from approxifer_torchserve.bench.harness.load import Sample, Target, send


def asked(answers, after_s=0.05):
    """Returns what came, how long it took, and which calls were cancelled.

    `answers`: for each call its pause in seconds, and its status or error.
    """
    calls, cancelled = iter(enumerate(answers)), []

    async def post():
        number, (pause, what) = next(calls)
        try:
            await asyncio.sleep(pause)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        if isinstance(what, Exception):
            raise what
        return httpx.Response(what, text=str(number))

    hedging = Hedging(after_s)
    start = time.perf_counter()
    reply, again = asyncio.run(hedging.first(post))
    return (reply.status_code, reply.text, again, hedging.sent), (
        time.perf_counter() - start, cancelled
    )  # fmt: skip


def test_what_is_in_time_is_sent_once():
    found, (_, cancelled) = asked([(0.001, 200)])
    assert found == (200, "0", False, 0)
    assert not cancelled


def test_what_is_late_is_sent_again_and_the_first_answer_wins():
    found, (seconds, cancelled) = asked([(5, 200), (0.01, 200)])
    assert found == (200, "1", True, 1)
    assert 0.05 < seconds < 5
    assert cancelled == [0]
    found, (_, cancelled) = asked([(0.1, 200), (5, 200)])
    assert found == (200, "0", False, 1)
    assert cancelled == [1]


def test_a_failure_is_no_answer_while_the_other_may_come():
    broken = httpx.ReadError("gone")
    assert asked([(0.001, broken), (0.01, 200)])[0] == (200, "1", True, 1)
    assert asked([(0.2, 200), (0.01, 503)])[0] == (200, "0", False, 1)
    assert asked([(0.1, 503), (0.01, 500)])[0] == (500, "1", True, 1)
    assert asked([(0.001, 400)])[0] == (400, "0", False, 0), "the client's own fault"
    with pytest.raises(httpx.ReadError):
        asked([(0.001, broken), (0.01, broken)])


def test_a_target_that_hedges_does_so_over_http():
    paths = []

    async def handle(request):
        paths.append(request.url.path)
        await asyncio.sleep(9.0 if len(paths) == 1 else 0.0)
        return httpx.Response(200, json={"class": 3})

    async def once():
        target = Target("client hedge", "http://model/x", hedging=Hedging(0.05))
        async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
            return await send(client, target, Sample(0, b"3", 3), time.perf_counter())

    record = asyncio.run(once())
    assert (record.status, record.outcome, record.predicted) == (200, "hedged", 3)
    assert record.latency_s < 9, "it waited for the first"
    assert paths == ["/x", "/x"]
