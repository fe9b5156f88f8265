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


def test_a_hedge_that_is_late_too_is_followed_by_one_more_but_no_further(bench):
    b = bench()
    b.offer()
    b.poll("9000")
    b.advance(101)
    assert b.poll("9001") is not None
    b.advance(101)
    assert b.poll("9002") is not None
    b.advance(500)
    assert b.poll("9003") is None


@pytest.mark.parametrize("change", [{"hedge": False}, {"idempotent": False}])
def test_no_hedge_where_the_policy_forbids_it(bench, change):
    b = bench(**change)
    b.offer()
    b.poll("9000")
    b.advance(500)
    assert b.poll("9001") is None


def test_extra_work_is_bounded_when_everything_is_slow(bench):
    b = bench(late_after_ms=10, deadline_ms=10**6, limit=10_000)
    workers = [str(9000 + i) for i in range(400)]
    for worker in workers:
        b.offer()
        assert b.poll(worker).kind() == "raw"
    b.advance(50)
    hedged = 0
    while b.poll(f"spare{hedged}") is not None:
        hedged += 1
    assert hedged == b.counters["hedges"]
    assert hedged <= 10 + 0.01 * 400, "where most are slow, hedges only add to the load"
    assert b.counters["hedges_denied"] > 0


def test_a_spent_budget_does_not_cost_a_client_its_answer_where_nobody_waits(bench):
    b = bench(late_after_ms=100, deadline_ms=2000)
    for worker in range(10):
        b.offer()
        b.poll(f"slow{worker}")
    b.advance(101)
    for worker in range(10):
        b.answer(b.poll(f"quick{worker}"))
    client = b.offer()
    b.poll("frozen")
    b.advance(990)
    assert b.poll("quick0") is None
    assert b.counters["hedges_denied"] > 0
    b.advance(61)
    b.answer(b.poll("quick0"), b"cat")
    assert client.reply == ("hedged", b"cat")


def test_what_a_spent_budget_gives_on_credit_has_a_bound_too(bench):
    b = bench(late_after_ms=100, deadline_ms=2000, limit=10_000)
    for worker in range(200):
        b.offer()
        b.poll(f"slow{worker}")
    b.advance(1500)
    while b.poll(f"quick{b.counters['hedges']}") is not None:
        b.advance(60)
    assert b.counters["hedges"] <= 20 + 0.01 * 200


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
    assert b.counters["hedges_denied"] > 0


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
    assert b.counters["hedges"] == 0
    b.poll("other")
    b.advance(51)
    assert b.counters["hedges"] == 1


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
