"""Scaling, removal, versions and restarts under light load: nothing is lost, nothing hangs."""

import time

import pytest
from live_server import png


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
            time.sleep(0.3)
    light.check_all_right()
    state = live.quiet("tiny")
    assert set(state["workers"]) == {w.id for w in live.cluster.describe("tiny")[0].workers}


def test_removal_under_load_answers_everyone_and_the_model_can_come_back(live, load, clean_tiny):
    with load("tiny", clients=4) as light:
        time.sleep(0.5)
        live.cluster.unregister("tiny")
        time.sleep(1)
        before = len(light.answers)
        live.cluster.register("tiny.mar", name="tiny")
        time.sleep(0.5)
    statuses = set(light.statuses)
    # Between removal and return a client hears 404 (no such model) or 503 (no worker yet).
    assert statuses <= {200, 404, 503}, statuses
    assert {200, 404} <= statuses
    assert light.statuses[-1] == 200
    assert len(light.answers) > before
    assert all(seconds < 25 for _, _, seconds in light.answers)
    live.quiet("tiny")


def test_a_second_version_beside_the_first(live, load, clean_tiny):
    with load("tiny", clients=2) as light:
        live.cluster.register("tiny2.mar", name="tiny", version="2.0")
        states = live.http.get("/coded/tiny").json()["models"]
        assert {state["version"] for state in states} == {"1.0", "2.0"}
        for version in ("1.0", "2.0"):
            reply = live.post(f"tiny/{version}", png(1))
            assert reply.status_code == 200
            assert reply.headers["x-approxifer-outcome"] == "exact"
        live.cluster.set_default("tiny", "2.0")
        live.drain("tiny", "1.0")
        live.cluster.unregister("tiny", "1.0")
        time.sleep(0.3)
        live.cluster.register("tiny.mar", name="tiny", version="1.0")
        live.cluster.set_default("tiny", "1.0")
        live.drain("tiny", "2.0")
        live.cluster.unregister("tiny", "2.0")
    light.check_all_right()


def test_a_request_without_a_worker_is_answered_at_once(live, clean_tiny):
    live.cluster.scale("tiny", 0)
    start = time.perf_counter()
    reply = live.post("tiny", png(1))
    assert reply.status_code == 503
    assert time.perf_counter() - start < 2


def test_workers_keep_to_their_gpu_through_scaling(live, clean_tiny):
    """With a pretended count of four GPUs; TorchServe itself gave 1, 2, 1, 2 after 4→2→4."""
    for workers in (3, 1, 3, 2, 3):
        live.cluster.scale("tiny", workers)
        end = time.monotonic() + 5
        while len(live.state("tiny")["gpus"]) != workers and time.monotonic() < end:
            time.sleep(0.05)
        placed = live.state("tiny")["gpus"]
        assert set(placed) == {w.id for w in live.cluster.describe("tiny")[0].workers}
        assert len(set(placed.values())) == workers, placed
    told = live.post("tiny", b"WHICH GPU").json()["message"]
    assert int(told.split("gpu ")[1].split()[0]) in placed.values()
