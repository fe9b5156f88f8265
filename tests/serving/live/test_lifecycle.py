"""Scaling, removal, versions and restarts under light load: nothing is lost, nothing hangs."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from live_server import OWN, png, same, until

from approxifer_torchserve.serving.server.launcher import is_worker


@pytest.fixture
def clean_tiny(live):
    """The model `tiny` as it was, whatever a test did to it."""
    yield
    if live.cluster.registered("tiny", "2.0"):
        live.cluster.set_default("tiny", "1.0")
        live.cluster.unregister("tiny", "2.0")
    live.cluster.register("tiny.mar", name="tiny")
    live.cluster.scale("tiny", 3)


def test_scaling_down_and_up_loses_nothing(live, load, clean_tiny):
    with load("tiny", clients=3) as light:
        for workers in (1, 3, 2, 3):
            live.cluster.scale("tiny", workers)
            light.turn_over(5)
    light.check_all_right()
    live.quiet("tiny")
    until(lambda: set(live.workers("tiny")) == live.ids("tiny"))


def test_removal_under_load_answers_everyone_and_the_model_can_come_back(live, load, clean_tiny):
    with load("tiny", clients=4) as light:
        light.turn_over()
        live.cluster.unregister("tiny")
        until(lambda: 404 in light.statuses)
        live.cluster.register("tiny.mar", name="tiny")
        light.turn_over()  # whoever waited has been answered
        well = len(light.answers)
        light.turn_over()
    statuses = set(light.statuses)
    # Between removal and return a client hears 404 (no such model) or 503 (no worker yet).
    assert statuses <= {200, 404, 503}, statuses
    assert 200 in light.statuses[: light.statuses.index(404)]
    assert set(light.statuses[well:]) == {200}
    assert all(seconds < 25 for _, _, seconds in light.answers)
    live.quiet("tiny")


def in_flight(live, pool, requests, seconds):
    """Posts requests that their workers take so long over; returns once all are in flight."""
    live.delay(dict.fromkeys(live.pids("tiny"), seconds))
    replies = [pool.submit(live.post, "tiny", png(number)) for number in range(requests)]
    until(lambda: live.state("tiny")["in_flight"] == requests)
    return replies


def test_scaling_down_in_mid_request_loses_nothing(live, clean_tiny):
    before = live.state("tiny")["counters"]
    with ThreadPoolExecutor(8) as pool:
        replies = in_flight(live, pool, 8, seconds=4)
        live.cluster.scale("tiny", 1)
        live.delay({})
        answers = [reply.result(30) for reply in replies]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert all(same(answer.json(), number) for number, answer in enumerate(answers))
    state = live.quiet("tiny")
    until(lambda: set(live.workers("tiny")) == live.ids("tiny"))
    ways = ("returned", "unreturned", "worker_deaths")
    assert any(state["counters"][way] > before[way] for way in ways), "nothing was taken away"


def test_removal_in_mid_request_leaves_no_client_hanging(live, clean_tiny):
    """Plain TorchServe leaves most of these clients without an answer for good."""
    before = live.pids("tiny")
    with ThreadPoolExecutor(8) as pool:
        replies = in_flight(live, pool, 8, seconds=4)
        start = time.monotonic()
        live.cluster.unregister("tiny")
        answers = [reply.result(30) for reply in replies]
        assert time.monotonic() - start < 15, "nobody waits for the deadline of 20 s"
    live.delay({})
    assert {answer.status_code for answer in answers} <= {200, 503}, [a.text for a in answers]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused, "nothing was in flight"
    for answer in refused:
        assert "unregistered" in answer.json()["message"] or "no worker" in answer.json()["message"]
        assert answer.headers["Retry-After"] == "1"
    live.cluster.register("tiny.mar", name="tiny")
    assert same(live.post("tiny", png(1)).json(), 1)
    live.quiet("tiny")
    # TorchServe itself forgets workers that it takes away while they are busy.
    until(lambda: gone(before))


def gone(pids):
    return not any(is_worker(process) for process in psutil.process_iter() if process.pid in pids)


def test_a_second_version_beside_the_first(live, load, clean_tiny):
    with load("tiny", clients=2) as light:
        live.cluster.register("tiny2.mar", name="tiny", version="2.0")
        states = live.http.get("/coded/tiny").json()["models"]
        assert {state["version"] for state in states} == {"1.0", "2.0"}
        for version in ("1.0", "2.0"):
            reply = live.post(f"tiny/{version}", png(1))
            assert reply.status_code == 200
            assert reply.headers["x-approxifer-outcome"] in OWN
        live.cluster.set_default("tiny", "2.0")
        light.turn_over()  # nobody's request is on its way to the other version
        live.drain("tiny", "1.0")
        live.cluster.unregister("tiny", "1.0")
        light.turn_over()
        live.cluster.register("tiny.mar", name="tiny", version="1.0")
        live.cluster.set_default("tiny", "1.0")
        light.turn_over()
        live.drain("tiny", "2.0")
        live.cluster.unregister("tiny", "2.0")
    light.check_all_right()


def test_a_request_without_a_worker_is_answered_at_once(live, clean_tiny):
    live.cluster.scale("tiny", 0)
    start = time.perf_counter()
    reply = live.post("tiny", png(1))
    assert reply.status_code == 503
    assert "has no worker" in reply.json()["message"]
    assert time.perf_counter() - start < 10, "half of the deadline"


def told_gpus(live):
    """GPU by worker id as the workers' own processes have it; each is asked at the same time."""
    ids = {worker.pid: worker.id for worker in live.cluster.describe("tiny")[0].workers}
    live.delay(dict.fromkeys(ids, 0.3))  # so that none is asked twice before all are asked
    told, end = {}, time.monotonic() + 90
    try:
        while len(told) < len(ids) and time.monotonic() < end:
            with ThreadPoolExecutor(len(ids)) as pool:
                for reply in pool.map(lambda _: live.post("tiny", b"WHICH GPU"), ids):
                    found = re.search(r"gpu (\d+) of process (\d+)", reply.json()["message"])
                    told[ids[int(found[2])]] = int(found[1])
    finally:
        live.delay({})
    return told


def test_workers_keep_to_their_gpu_through_scaling_and_restarts(live, clean_tiny):
    """With a pretended count of four GPUs; TorchServe itself gave 1, 2, 1, 2 after 4→2→4."""
    for workers in (3, 1, 3, 2, 3):
        live.cluster.scale("tiny", workers)
        until(lambda: set(live.state("tiny")["gpus"]) == live.ids("tiny"))
        placed = live.state("tiny")["gpus"]
        assert len(set(placed.values())) == workers, placed
    assert told_gpus(live) == placed
    live.kill(victim := live.pids("tiny")[0])
    live.recovered("tiny", 3, without=[victim])
    assert told_gpus(live) == live.state("tiny")["gpus"] == placed
