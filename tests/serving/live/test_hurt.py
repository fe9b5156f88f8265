"""Slow, dead and poisoned workers: what the clients see."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from live_server import png, same


def test_no_request_waits_for_a_slow_worker(live, load):
    live.delay({live.pids("tiny")[0]: 1.0})
    try:
        # As many clients as workers: fewer would leave the slow one idle, and show nothing.
        with load("tiny", clients=3, pause=0) as light:
            time.sleep(4)
    finally:
        live.delay({})
    light.check_all_right()
    slowest = max(seconds for _, _, seconds in light.answers)
    assert slowest < 0.9, slowest
    hedged = sum(r.headers["x-approxifer-outcome"] == "hedged" for _, r, _ in light.answers)
    assert hedged >= 1
    live.quiet("tiny")


def test_a_lost_prediction_is_reconstructed(live):
    """One of two queries on the slow worker; the other worker computes its own and the parity.

    Who gets which query is the server's choice: it may also answer one before the other is there,
    or see them too far apart for a group. So pairs are asked until one was split.
    """
    slow, other = live.pids("mending")
    live.delay({slow: 3.0, other: 0.05})  # busy with the first of a pair when the second comes
    outcomes, end = [], time.monotonic() + 60
    try:
        with ThreadPoolExecutor(2) as pool:
            while "reconstructed" not in outcomes and time.monotonic() < end:
                pair = range(len(outcomes) + 1, len(outcomes) + 3)
                replies = list(pool.map(lambda n: live.post("mending", png(n)), pair))
                for number, reply in zip(pair, replies, strict=True):
                    assert reply.status_code == 200, reply.text
                    # Two answers of three determine a linear model's others, but for rounding.
                    assert same(reply.json(), number)
                    outcomes.append(reply.headers["x-approxifer-outcome"])
                live.quiet("mending")
    finally:
        live.delay({})
    # The slow worker's own answer, 3 s later, would have been called exact.
    assert sorted(outcomes[-2:]) == ["exact", "reconstructed"], outcomes


def test_classic_does_not_wait_for_a_slow_worker(live, load):
    live.delay({live.pids("classic")[0]: 1.5})
    try:
        with load("classic", clients=2) as light:
            time.sleep(5)
    finally:
        live.delay({})
    assert set(light.statuses) == {200}
    # The encode job may be the one that is slow, and the decode job after it.
    assert max(seconds for _, _, seconds in light.answers) < 1.4
    live.quiet("classic")


def test_killed_workers_cost_no_request(live, load):
    with load("tiny", clients=3) as light:
        for _ in range(3):
            time.sleep(0.7)
            live.kill(victim := live.pids("tiny")[0])
            live.recovered("tiny", 3, without=victim)
    light.check_all_right()
    live.quiet("tiny")
    assert max(seconds for _, _, seconds in light.answers) < 2


def test_a_killed_worker_costs_no_request_of_a_fully_coded_model(live, load):
    with load("classic", clients=3) as light:
        time.sleep(0.7)
        live.kill(victim := live.pids("classic")[0])
        live.recovered("classic", 3, without=victim)
    assert set(light.statuses) == {200}
    live.quiet("classic")


def test_a_frozen_worker_costs_no_request(live, load):
    victim = live.pids("tiny")[1]
    with load("tiny", clients=2) as light:
        time.sleep(0.5)
        live.kill(victim, signal.SIGSTOP)
        time.sleep(2)
        live.kill(victim, signal.SIGCONT)
        time.sleep(0.5)
    light.check_all_right()
    live.quiet("tiny")


def test_a_request_that_kills_workers_is_answered_500_after_two_and_the_server_lives(live, load):
    deaths = live.state("tiny")["counters"]["worker_deaths"]
    with load("tiny", clients=2) as light:
        time.sleep(0.3)
        reply = live.post("tiny", b"POISON")
        assert reply.status_code == 500
        assert "2 worker deaths" in reply.json()["message"]
        live.recovered("tiny", 3)
    light.check_all_right()
    state = live.quiet("tiny")
    assert state["counters"]["worker_deaths"] - deaths >= 2


def test_a_request_that_kills_workers_does_not_take_its_coded_group_with_it(live, load):
    with load("classic", clients=2) as light:
        time.sleep(0.3)
        reply = live.post("classic", b"POISON")
        assert reply.status_code == 500, reply.text
        live.recovered("classic", 3)
    assert set(light.statuses) == {200}, [r.text for _, r, _ in light.answers if r.is_error]
    live.quiet("classic")
