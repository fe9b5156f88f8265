"""A queue that is full, clients that expire, spare workers, and a slowdown of everything."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from live_server import png, until


@pytest.fixture
def alone(live):
    """Registers a model with one worker, which takes so long over a job."""
    live.cluster.scale("mending", 0)  # nine workers at most
    registered = []

    def register(model, seconds):
        live.cluster.register(f"{model}.mar")
        registered.append(model)
        live.delay({live.pids(model)[0]: seconds})

    yield register
    live.delay({})
    for model in registered:
        live.cluster.unregister(model)
    live.cluster.scale("mending", 2)


def test_a_full_queue_answers_503_at_once_over_rest_and_grpc(live, alone):
    alone("narrow", 4.0)  # two places, for those that no worker has begun with
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(live.post, "narrow", png(0))]
        until(lambda: live.state("narrow")["outstanding_jobs"] == 1)
        held += [pool.submit(live.post, "narrow", png(number)) for number in (1, 2)]
        until(lambda: live.state("narrow")["in_flight"] == 3)
        refused = live.post("narrow", png(3))
        with pytest.raises(grpc.RpcError) as error:
            live.grpc.predict("narrow", png(3))
        assert not any(future.done() for future in held), "they waited for a place"
        live.delay({})
        assert refused.status_code == 503
        assert "jobQueueSize 2" in refused.json()["message"]
        assert refused.headers["Retry-After"] == "1"
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "jobQueueSize 2" in error.value.details()
        assert [future.result().status_code for future in held] == [200, 200, 200]
    live.quiet("narrow")


def test_an_expired_request_gets_504_never_silence_over_rest_and_grpc(live, alone):
    alone("hasty", 4.0)  # clients wait 700 ms
    start = time.perf_counter()
    reply = live.post("hasty", png(1))
    assert reply.status_code == 504
    assert "client timeout" in reply.json()["message"]
    assert 0.6 < time.perf_counter() - start < 4.0
    with pytest.raises(grpc.RpcError) as error:
        live.grpc.predict("hasty", png(1))
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "client timeout" in error.value.details(), "the server's words, not our own timeout's"
    live.delay({})
    live.quiet("hasty")


def test_spare_workers_are_used_at_once(live, load):
    live.cluster.scale("mending", 0)
    live.cluster.scale("tiny", 5)  # the code asks for three
    try:
        # Long enough over a job that six clients have five of them under way.
        live.delay(dict.fromkeys(live.pids("tiny"), 0.05))
        with load("tiny", clients=6, pause=0) as light:
            until(lambda: all(w["answered"] > 0 for w in live.workers("tiny").values()))
        light.check_all_right()
        assert len(live.quiet("tiny")["workers"]) == 5
    finally:
        live.delay({})
        live.cluster.scale("tiny", 3)
        live.cluster.scale("mending", 2)


def test_where_all_workers_are_slow_extra_work_stays_within_its_bound(live, load):
    """Nothing is gained by sending work twice when every worker is late."""
    live.quiet("tiny")
    before = live.state("tiny")["counters"]
    live.delay(dict.fromkeys(live.pids("tiny"), 0.25))  # late_after_ms is 150 in these archives
    try:
        with load("tiny", clients=6, pause=0) as light:
            light.wait_for(60)
    finally:
        live.delay({})
    light.check_all_right()
    after = live.quiet("tiny")["counters"]
    requests = after["requests"] - before["requests"]
    hedges = after["hedges"] - before["hedges"]
    assert after["late"] - before["late"] > 10
    assert hedges <= 10 + 0.25 * requests, (hedges, requests)
