"""Worse days: several workers at once, all of them, frozen ones under large bodies."""

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from live_server import png, same

LARGE = 600_000


def large(number):
    """An image followed by enough bytes to make a large body; PNG readers stop at its end."""
    return png(number) + os.urandom(LARGE)


def test_all_workers_killed_at_once_and_back(live, load):
    with load("tiny", clients=3) as light:
        time.sleep(0.5)
        victims = live.pids("tiny")
        for pid in victims:
            live.kill(pid)
        end = time.monotonic() + 5
        while (unready := live.http.get("/coded/tiny")).is_success and time.monotonic() < end:
            time.sleep(0.02)
        assert unready.status_code == 503
        assert unready.json()["models"][0]["ready"] is False
        live.recovered("tiny", 3, without=victims[0])
        time.sleep(0.5)
    # A request that is caught by two of the three deaths is answered 500 and not sent again.
    for _, reply, _ in light.answers:
        assert reply.status_code in (200, 500, 503), reply.text
        if reply.status_code != 200:
            assert reply.json()["message"]
    assert light.statuses.count(200) > 10
    assert light.statuses[-1] == 200
    assert live.quiet("tiny")["ready"]


def test_two_workers_killed_at_once_with_large_bodies_cost_no_request(live):
    deaths = live.state("tiny")["counters"]["worker_deaths"]
    victims = live.pids("tiny")[:2]
    live.delay(dict.fromkeys(live.pids("tiny"), 0.8))
    with ThreadPoolExecutor(6) as pool:
        replies = [pool.submit(live.post, "tiny", large(number)) for number in range(6)]
        time.sleep(0.4)
        for pid in victims:
            live.kill(pid)
        live.delay({})
        answers = [reply.result(30) for reply in replies]
    for number, answer in enumerate(answers):
        assert answer.status_code == 200, answer.text
        assert same(answer.json(), number)
    for victim in victims:
        live.recovered("tiny", 3, without=victim)
    state = live.quiet("tiny")
    assert state["counters"]["worker_deaths"] - deaths >= 2
    assert sum(worker["deaths"] > 0 for worker in state["workers"].values()) >= 2


def test_frozen_workers_under_large_bodies_do_not_hang_the_server(live):
    worker = live.cluster.describe("tiny")[0].workers[0]
    live.kill(frozen := worker.pid, signal.SIGSTOP)

    def ask(number):
        start = time.perf_counter()
        return number, live.post("tiny", large(number)), time.perf_counter() - start

    try:
        with ThreadPoolExecutor(4) as pool:
            for number, reply, seconds in pool.map(ask, range(24)):
                assert reply.status_code == 200, reply.text
                assert same(reply.json(), number)
                assert seconds < 5
        assert live.state("tiny")["workers"][worker.id]["unanswered"] > 0, "it was never asked"
        assert live.http.get("/ping").status_code == 200
    finally:
        live.kill(frozen, signal.SIGCONT)
    live.quiet("tiny", seconds=30)


def test_a_client_that_hangs_up_frees_its_place(live):
    live.delay(dict.fromkeys(live.pids("tiny"), 1.0))
    before = live.state("tiny")["counters"]
    try:
        for number in range(6):
            with contextlib.suppress(httpx.TimeoutException):
                httpx.post(
                    f"{live.server.inference}/predictions/tiny",
                    content=png(number),
                    headers=live.http.headers,
                    timeout=0.05,
                )
        end = time.monotonic() + 5
        while live.state("tiny")["in_flight"] > 0 and time.monotonic() < end:
            time.sleep(0.05)
        state = live.state("tiny")
        assert state["in_flight"] == 0
        assert state["counters"]["client_gone"] - before["client_gone"] >= 4
        # Each of the three workers had taken one; what waited behind them is never handed out.
        assert live.quiet("tiny")["counters"]["jobs"]["raw"] - before["jobs"]["raw"] <= 4
    finally:
        live.delay({})
    live.quiet("tiny")


def test_a_deadline_of_its_own_is_kept_with_a_reason_and_retry_after(live):
    live.delay(dict.fromkeys(live.pids("tiny"), 1.5))
    try:
        start = time.perf_counter()
        reply = live.post("tiny", png(1), headers={"X-Approxifer-Deadline-Ms": "300"})
        assert reply.status_code == 503
        assert "300 ms" in reply.json()["message"]
        assert reply.headers["Retry-After"] == "1"
        assert time.perf_counter() - start < 1
    finally:
        live.delay({})
    live.quiet("tiny")


def test_exact_only_is_the_models_own_answer_from_a_fully_coded_model(live):
    reply = live.post("classic", png(3), headers={"x-approxifer-accept": "exact-only"})
    assert reply.headers["x-approxifer-outcome"] == "exact"
    assert same(reply.json(), 3)
