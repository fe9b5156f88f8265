"""Late queries: when one is sent again, and what bounds that."""

import pytest


def test_a_late_query_is_hedged_on_another_worker_and_the_first_answer_wins(bench):
    b = bench()
    client = b.offer()
    first = b.poll("9000")
    b.advance(99)
    assert b.poll("9001") is None
    b.advance(2)
    assert b.poll("9000") is None, "a hedge must not go to the worker that holds the query"
    hedge = b.poll("9001")
    assert hedge.kind() == "hedge"
    b.answer(hedge, b"hedge")
    b.answer(first, b"late")
    assert client.reply == ("hedged", b"hedge")
    assert b.counters["hedges"] == 1


def test_the_first_worker_may_still_win_after_a_hedge(bench):
    b = bench()
    client = b.offer()
    first = b.poll("9000")
    b.advance(101)
    hedge = b.poll("9001")
    b.answer(first, b"mine")
    b.answer(hedge, b"other")
    assert client.reply == ("exact", b"mine")


@pytest.mark.parametrize(("stragglers", "runs"), [(0, 2), (1, 2), (2, 3)])
def test_a_request_that_hangs_holds_no_more_workers_than_may_be_lost(bench, stragglers, runs):
    b = bench(code={"name": "test", "stragglers": stragglers, "byzantine": 0})
    b.offer()
    held = 0
    for worker in range(5):
        held += b.poll(str(9000 + worker)) is not None
        b.advance(101)
    assert held == runs


@pytest.mark.parametrize("change", [{"hedge": False}, {"idempotent": False}])
def test_no_hedge_where_the_policy_forbids_it(bench, change):
    b = bench(**change)
    b.offer()
    b.poll("9000")
    b.advance(500)
    assert b.poll("9001") is None


def test_hedges_are_bounded_when_everything_is_slow(bench):
    b = bench(late_after_ms=10, deadline_ms=10**6, limit=10_000)
    jobs = []
    for worker in range(400):
        b.offer()
        jobs.append(b.poll(str(9000 + worker)))
    b.advance(50)
    hedged = 0
    while b.poll(f"spare{hedged}") is not None:
        hedged += 1
    assert hedged == b.counters["hedges"] == 10, "what the budget holds"
    for job in jobs:
        b.answer(job)
    b.guard()
    assert b.counters["hedges_denied"] == 400 - hedged


def test_the_emptier_the_budget_the_later_a_job_has_to_be(bench):
    b = bench(late_after_ms="auto", deadline_ms=10**6, limit=10_000)
    learn(b, 30, ms=100)
    for worker in range(6):
        b.offer()
        b.poll(f"slow{worker}")
    b.advance(151)
    ages = []
    for age in range(151, 400):
        if (hedge := b.poll(f"spare{len(ages)}")) is not None:
            assert hedge.kind() == "hedge"
            ages.append(age)
        b.advance(1)
    assert len(ages) == 6
    assert ages == sorted(ages)
    assert ages[0] == 151
    assert ages[5] == pytest.approx((1 + 2 * 0.5) * 150, abs=2), "half of it was spent"


def learn(b, answers, ms):
    """The router learns how long jobs take."""
    for _ in range(answers + 1):  # the first of a process teaches nothing
        b.offer()
        job = b.poll("9000")
        b.advance(ms)
        b.answer(job)


def test_nothing_is_hedged_before_clients_who_wait_where_all_workers_are_slow(bench):
    b = bench(late_after_ms=10, deadline_ms=10**6, limit=10_000)
    workers = ["a", "b", "c", "d"]
    b.live(*workers)
    for _ in range(8):
        b.offer()
    held = {worker: b.poll(worker) for worker in workers}
    for _ in range(50):
        b.advance(50)
        for worker in workers:
            b.answer(held[worker])
            b.offer()
            held[worker] = b.poll(worker)
        b.guard()
    assert b.counters["hedges"] == 0
    assert b.counters["late"] > 0


def test_a_straggler_that_was_overtaken_is_hedged_although_clients_wait(bench):
    b = bench(late_after_ms=100, deadline_ms=10**6, limit=10_000)
    late = b.offer()
    for _ in range(5):
        b.offer()
    stuck = b.poll("stuck")
    b.answer(b.poll("quick"))
    b.advance(101)
    assert b.counters["hedges"] == 0, "the answer was to a job that began no later"
    b.answer(b.poll("quick"))
    b.advance(51)
    hedge = b.poll("quick")
    assert hedge.kind() == "hedge", "asked again within half of late_after"
    b.answer(hedge, b"cat")
    assert late.reply == ("hedged", b"cat")
    b.answer(stuck)


def test_where_all_are_slow_and_one_is_stuck_its_query_is_hedged_all_the_same(bench):
    b = bench(late_after_ms=10, deadline_ms=10**6, limit=10_000)
    late = b.offer()
    b.poll("stuck")
    b.advance(1)
    for age in (1, 51):
        assert b.counters["hedges"] == 0, f"{age} ms are no more than the others take"
        for _ in range(4):
            b.offer()
        slow = [b.poll(worker) for worker in ("a", "b")]
        b.advance(50)
        for job in slow:
            b.answer(job)
    b.advance(5)
    hedge = b.poll("a")
    assert hedge.kind() == "hedge", "twice as old as the others become"
    b.answer(hedge, b"cat")
    assert late.reply == ("hedged", b"cat")


def test_a_late_query_waits_for_no_evidence_once_no_client_waits(bench):
    b = bench(late_after_ms=100, deadline_ms=10**6)
    b.offer()
    b.offer()
    b.poll("stuck")
    b.advance(101)
    assert b.poll("other").kind() == "raw"
    assert b.poll("third").kind() == "hedge"


def test_extra_work_opens_while_some_workers_are_slow(bench):
    b = bench(late_after_ms=10, deadline_ms=10**6, limit=10_000, max_extra_load=0.25)
    b.live("slow", "a", "b", "c")
    hedges = 0
    for _ in range(60):
        b.offer()
        slow = b.poll("slow")
        b.advance(30)
        if (hedge := b.poll("a")) is not None:
            hedges += 1
            b.answer(hedge)
        b.answer(slow)
        for _ in range(3):
            b.offer()
            b.answer(b.poll("b"))
        b.guard()
    assert hedges >= 50, "a quarter of the requests may be hedged, and a quarter is late"
