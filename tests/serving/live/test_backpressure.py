"""A queue that is full, clients that expire, spare workers, and a slowdown of everything."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from live_server import png


@pytest.fixture
def narrow(live):
    """A model with one worker, two places in its queue and clients that wait 700 ms."""
    live.cluster.scale("mending", 0)  # nine workers at most
    live.cluster.register("narrow.mar")
    yield
    live.delay({})
    live.cluster.unregister("narrow")
    live.cluster.scale("mending", 2)


def test_a_full_queue_answers_503_at_once_over_rest_and_grpc(live, narrow):
    live.delay({live.pids("narrow")[0]: 0.5})
    with ThreadPoolExecutor(8) as pool:
        held = [pool.submit(live.post, "narrow", png(number)) for number in range(2)]
        end = time.monotonic() + 2
        while live.state("narrow")["in_flight"] < 2 and time.monotonic() < end:
            time.sleep(0.01)
        start = time.perf_counter()
        refused = live.post("narrow", png(2))
        with pytest.raises(grpc.RpcError) as error:
            live.grpc.predict("narrow", png(2))
        assert time.perf_counter() - start < 0.4
        assert refused.status_code == 503
        assert "jobQueueSize 2" in refused.json()["message"]
        assert refused.headers["Retry-After"] == "1"
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "jobQueueSize 2" in error.value.details()
        assert [future.result().status_code for future in held] in (
            [200, 200],
            [200, 504],
            [504, 200],
        )
    live.quiet("narrow")


def test_an_expired_request_gets_504_never_silence_over_rest_and_grpc(live, narrow):
    live.delay({live.pids("narrow")[0]: 2.0})
    start = time.perf_counter()
    reply = live.post("narrow", png(1))
    assert reply.status_code == 504
    assert "client timeout" in reply.json()["message"]
    assert 0.6 < time.perf_counter() - start < 1.2
    with pytest.raises(grpc.RpcError) as error:
        live.grpc.predict("narrow", png(1))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "client timeout" in error.value.details(), "the server's words, not our own timeout's"
    live.delay({})
    live.quiet("narrow")


def test_spare_workers_are_used_at_once(live, load):
    live.cluster.scale("mending", 0)
    live.cluster.scale("tiny", 5)  # the code asks for three
    try:
        with load("tiny", clients=6, pause=0) as light:
            time.sleep(1.5)
        light.check_all_right()
        workers = live.quiet("tiny")["workers"]
        assert len(workers) == 5
        assert all(worker["answered"] > 0 for worker in workers.values()), workers
    finally:
        live.cluster.scale("tiny", 3)
        live.cluster.scale("mending", 2)


def test_where_all_workers_are_slow_extra_work_stays_within_its_bound(live, load):
    """Nothing is gained by sending work twice when every worker is late."""
    live.quiet("tiny")
    before = live.state("tiny")["counters"]
    live.delay(dict.fromkeys(live.pids("tiny"), 0.25))  # late_after_ms is 150 in these archives
    try:
        with load("tiny", clients=6, pause=0) as light:
            time.sleep(6)
    finally:
        live.delay({})
    light.check_all_right()
    after = live.quiet("tiny")["counters"]
    requests = after["requests"] - before["requests"]
    hedges = after["hedges"] - before["hedges"]
    assert requests > 30
    assert hedges <= 10 + 0.25 * requests, (hedges, requests)
