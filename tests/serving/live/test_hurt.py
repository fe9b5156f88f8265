"""Slow, dead and poisoned workers: what the clients see."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from live_server import png, same, until

# Who waits for the slow worker waits as long; all else takes a fraction, and a machine may stall.
SLOW_S = 4.0


def test_no_request_waits_for_a_slow_worker(live, load):
    live.unspent("tiny")
    live.delay({live.pids("tiny")[0]: SLOW_S})
    try:
        # As many clients as workers: fewer would leave the slow one idle, and show nothing.
        with load("tiny", clients=3, pause=0) as light:
            until(lambda: "hedged" in light.outcomes())
            light.turn_over()
    finally:
        live.delay({})
    light.check_all_right()
    assert max(seconds for _, _, seconds in light.answers) < SLOW_S
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
    live.unspent("classic")
    slow = live.pids("classic")[0]
    live.delay({slow: SLOW_S})
    try:
        with load("classic", clients=2) as light:
            # The encode job may be the one that is slow, and the decode job after it.
            live.holds("classic", slow)
            light.turn_over()
    finally:
        live.delay({})
    assert set(light.statuses) == {200}
    assert max(seconds for _, _, seconds in light.answers) < SLOW_S
    live.quiet("classic")


def kill_at_work(live, model):
    """Kills a worker while it has a job; the others are slowed a little, so that it gets one."""
    victim, *others = live.pids(model)
    live.delay({victim: 60} | dict.fromkeys(others, 0.03))
    try:
        live.holds(model, victim)
        live.kill(victim)
    finally:
        live.delay({})
    return victim


def nobody_waited(live, model, victim, light):
    """Every client goes on being answered before a killed worker is back, however long it takes."""
    light.turn_over()
    workers = live.cluster.describe(model)[0].workers
    back = all(worker.ready for worker in workers) and victim not in [w.pid for w in workers]
    assert not back, "somebody waited for the restart"


def test_killed_workers_cost_no_request(live, load):
    deaths = live.state("tiny")["counters"]["worker_deaths"]
    with load("tiny", clients=3) as light:
        for _ in range(3):
            victim = kill_at_work(live, "tiny")
            nobody_waited(live, "tiny", victim, light)
            live.recovered("tiny", 3, without=[victim])
    light.check_all_right()
    assert live.quiet("tiny")["counters"]["worker_deaths"] - deaths >= 3


def test_a_killed_worker_costs_no_request_of_a_fully_coded_model(live, load):
    deaths = live.state("classic")["counters"]["worker_deaths"]
    with load("classic", clients=3) as light:
        victim = kill_at_work(live, "classic")
        nobody_waited(live, "classic", victim, light)
        live.recovered("classic", 3, without=[victim])
    assert set(light.statuses) == {200}
    assert live.quiet("classic")["counters"]["worker_deaths"] - deaths >= 1


def test_a_frozen_worker_costs_no_request(live, load):
    live.unspent("tiny")
    victim, *others = live.pids("tiny")
    with load("tiny", clients=3) as light:
        light.wait_for(3)
        live.delay(dict.fromkeys(others, 0.03))  # so that the frozen one is asked too
        live.kill(victim, signal.SIGSTOP)
        try:
            live.holds("tiny", victim)
            light.turn_over(10)
        finally:
            live.kill(victim, signal.SIGCONT)
            live.delay({})
        light.turn_over()
    light.check_all_right()
    live.quiet("tiny")


def test_a_request_that_kills_workers_is_answered_500_after_two_and_the_server_lives(live, load):
    deaths = live.state("tiny")["counters"]["worker_deaths"]
    with load("tiny", clients=2) as light:
        light.wait_for(2)
        reply = live.post("tiny", b"POISON")
        assert reply.status_code == 500
        assert "2 worker deaths" in reply.json()["message"]
        live.recovered("tiny", 3)
    light.check_all_right()
    state = live.quiet("tiny")
    assert state["counters"]["worker_deaths"] - deaths >= 2


def test_a_request_that_kills_workers_does_not_take_its_coded_group_with_it(live, load):
    with load("classic", clients=2) as light:
        light.wait_for(2)
        reply = live.post("classic", b"POISON")
        assert reply.status_code == 500, reply.text
        live.recovered("classic", 3)
    assert set(light.statuses) == {200}, [r.text for _, r, _ in light.answers if r.is_error]
    live.quiet("classic")
