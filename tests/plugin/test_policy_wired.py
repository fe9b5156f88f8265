"""The policy at work in the router: errors, trust, who waits, and what shares a batch."""

import threading
import time

import pytest


def fail(bench, job, status=500):
    bench.answer(job, error={"status": status, "message": "broken"})


# ------------------------------------------------------------------- errors


def test_an_error_of_the_server_is_tried_once_on_another_worker(bench):
    b = bench()
    b.live("bad", "good")
    client = b.offer()
    fail(b, b.poll("bad"))
    assert not client.replies
    assert b.poll("bad") is None
    b.answer(b.poll("good"), b"cat")
    assert client.reply == ("hedged", b"cat")
    assert (b.counters["retries"], b.counters["blamed"]) == (1, 1)
    assert b.state("bad") == "suspected"
    assert b.state("good") == "ok"


def test_where_both_fail_it_is_the_request_and_nobody_is_to_blame(bench):
    b = bench()
    b.live("one", "other", "third")
    client = b.offer()
    fail(b, b.poll("one"))
    fail(b, b.poll("other"), 507)
    assert client.reply == (507, "broken")
    assert b.poll("third") is None, "once is enough"
    assert b.counters["blamed"] == 0
    assert [b.state(worker) for worker in ("one", "other")] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("status", "idempotent", "workers"),
    [(400, True, ["a", "b"]), (500, False, ["a", "b"]), (500, True, ["a"])],
)
def test_what_is_not_tried_again(bench, status, idempotent, workers):
    b = bench(idempotent=idempotent)
    b.live(*workers)
    client = b.offer()
    fail(b, b.poll("a"), status)
    assert client.reply == (status, "broken")
    assert b.counters["retries"] == 0


def test_retries_have_a_budget(bench):
    b = bench(limit=1000)
    b.live("a", "b")
    clients = []
    for _ in range(40):
        clients.append(b.offer())
        fail(b, b.poll("a") or b.poll("b"))
        if (job := b.poll("b") or b.poll("a")) is not None:
            fail(b, job)
    assert [client.reply for client in clients] == [(500, "broken")] * 40
    assert 10 <= b.counters["retries"] <= 10 + 0.2 * 40


@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copys_error_ends_no_request_whose_other_copy_still_runs(bench, first):
    b = bench()
    b.live("a", "b", "c")
    client = b.offer()
    original = b.poll("a")
    b.advance(101)
    copy = b.poll("b")
    failing, other = (original, copy) if first == "original" else (copy, original)
    fail(b, failing)
    assert not client.replies
    b.answer(other, b"cat")
    assert client.reply[1] == b"cat"
    assert b.counters["blamed"] == 1


def test_who_is_to_blame_twice_is_ejected(bench):
    b = bench()
    b.live("bad", "good", "third")
    for _ in range(2):
        b.offer()
        b.trust.cleared("bad")  # a shadow went well
        fail(b, b.poll("bad"))
        b.answer(b.poll("good"))
    assert b.state("bad") == "ejected"
    assert b.counters["ejections"] == 1
    b.offer()
    assert b.poll("bad") is None
    assert b.poll("third") is not None


# -------------------------------------------------------------------- trust


class Waiter:
    """A worker's thread that waits in the router for its next job."""

    def __init__(self, bench, worker):
        before = int(bench.router.report()["idle_workers"])
        self.job = None

        def wait():
            self.job = bench.router.await_(worker)

        self.thread = threading.Thread(target=wait, daemon=True)
        self.thread.start()
        end = time.monotonic() + 10
        while int(bench.router.report()["idle_workers"]) == before:
            assert time.monotonic() < end
            time.sleep(0.001)

    def given(self):
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.job


def test_a_worker_that_failed_is_shown_what_a_trusted_one_was_handed(bench):
    b = bench()
    b.live("bad", "good")
    b.offer()
    fail(b, b.poll("bad"))
    b.answer(b.poll("good"))
    bad, good = Waiter(b, "bad"), Waiter(b, "good")
    client = b.offer()
    job = good.given()
    shadow = bad.given()
    assert (job.kind(), shadow.kind()) == ("raw", "shadow")
    b.answer(job, b"cat")
    b.answer(shadow, b"other")
    assert client.reply == ("exact", b"cat")
    assert b.state("bad") == "ok"
    assert dict(b.router.report()["counters"]["jobs"])["shadow"] == 1


def test_if_the_shadow_answers_first_that_counts(bench):
    b = bench()
    b.live("bad", "good")
    b.trust.failed("bad")
    bad, good = Waiter(b, "bad"), Waiter(b, "good")
    client = b.offer()
    job = good.given()
    b.answer(bad.given(), b"quick")
    b.answer(job, b"cat")
    assert client.reply == ("hedged", b"quick")


def test_a_failed_shadow_costs_nobody_anything(bench):
    b = bench()
    b.live("bad", "good", "third")
    b.trust.failed("bad")
    bad, good = Waiter(b, "bad"), Waiter(b, "good")
    client = b.offer()
    job = good.given()
    fail(b, bad.given())
    fail(b, job)
    b.answer(b.poll("third"), b"cat")
    assert client.reply == ("hedged", b"cat")


def test_a_shadow_whose_worker_leaves_is_not_missed_but_its_query_is_not_lost(bench):
    b = bench()
    b.live("bad", "good", "third")
    b.trust.failed("bad")
    bad, good = Waiter(b, "bad"), Waiter(b, "good")
    client = b.offer()
    job = good.given()
    shadow = bad.given()
    b.router.returned(shadow)
    assert b.poll("third") is None
    b.die(job)
    b.answer(b.poll("third"), b"cat")
    assert client.reply == ("hedged", b"cat")


@pytest.mark.parametrize(("ms", "state"), [(6, "ok"), (9, "slow")])
def test_a_hiccup_of_the_machine_makes_nobody_slow(bench, ms, state):
    b = bench()
    b.live("quick", "other")
    for worker, needed in [*[("quick", 2)] * 40, *[("other", ms)] * 5]:
        b.offer()
        job = b.poll(worker)
        b.advance(needed)
        b.answer(job)
    assert b.state("other") == state


def test_a_worker_that_nobody_trusts_works_where_no_other_may(bench):
    b = bench()
    b.live("only")
    b.poll("only")
    b.trust.failed("only")
    b.offer()
    assert b.poll("only") is not None


@pytest.mark.parametrize("kind", ["idempotent", "pair"])
def test_where_no_shadow_may_be_shown_a_worker_tries_itself_on_a_job(bench, kind):
    b = bench(**({"idempotent": False} if kind == "idempotent" else {"check": "pair", "agree": 2}))
    b.live("bad", "good", "third")
    for worker in b.workers:
        assert b.poll(worker) is None
    b.trust.failed("bad")
    b.offer()
    b.answer(b.poll("bad"), prediction=b"P")
    assert b.state("bad") == "ok"


# ---------------------------------------------------------------- who waits


def test_the_queue_counts_who_waits_and_not_who_is_served(bench):
    b = bench(limit=2, deadline_ms="none")
    for worker in range(5):
        b.offer()
        b.poll(str(worker))
    clients = [b.offer(), b.offer(), b.offer()]
    assert [len(client.replies) for client in clients] == [0, 0, 1]
    assert "jobQueueSize 2" in clients[2].reply[1]
    assert clients[2].retry_after == 1
    job = b.poll("another")
    assert b.router.capacity() == 1
    b.router.returned(job)
    assert b.router.capacity() == 0
    assert not clients[0].replies


def test_a_coded_client_waits_until_its_group_is_encoded(bench):
    b = bench(mode="coded", limit=3)
    for _ in range(3):
        b.offer()
    assert b.router.capacity() == 0
    assert b.poll("9000").kind() == "encode"
    assert b.router.capacity() == 3


def busy(bench, answers=40, ms=50):
    """The router knows that a job takes so long, and all its two workers are at work."""
    for _ in range(answers):
        bench.offer()
        job = bench.poll("9000")
        bench.advance(ms)
        bench.answer(job)
    bench.offer()
    bench.offer()
    return [bench.poll("9000"), bench.poll("9001")]


def test_who_cannot_be_answered_in_half_of_its_deadline_is_refused_at_once(bench):
    b = bench(limit=1000, deadline_ms=2000, hedge=False)
    busy(b)
    clients = [b.offer() for _ in range(60)]
    answered = [client for client in clients if client.replies]
    # 38 that wait for two workers of 50 ms each: 950 ms, and 50 for its own
    assert len(clients) - len(answered) == 39
    status, message = answered[0].reply
    assert (status, answered[0].retry_after) == (503, 1)
    assert "overloaded" in message
    assert b.counters["refused"] == 21
    assert not b.offer(deadline_ms=10_000).replies, "it has more time"
    assert b.offer(deadline_ms=100).replies


def test_without_a_deadline_only_the_queue_bounds_the_wait(bench):
    b = bench(limit=100, deadline_ms="none", hedge=False)
    b.live("9000", "9001")
    jobs = busy(b)
    clients = [b.offer() for _ in range(100)]
    b.advance(60_000)
    b.guard()
    assert not any(client.replies for client in clients)
    assert b.offer().reply[0] == 503
    for job in jobs:
        b.answer(job)
    assert b.poll("9000").client() is not None


def test_who_cannot_be_done_in_time_any_more_is_dropped_while_another_waits(bench):
    b = bench(limit=1000, deadline_ms=2000, hedge=False)
    jobs = busy(b)
    overdue, last = b.offer(deadline_ms=300), b.offer(deadline_ms=300)
    b.advance(270)
    b.answer(jobs[0])
    job = b.poll("9000")
    assert overdue.reply[0] == 503
    assert "in time" in overdue.reply[1]
    b.answer(job, b"cat")
    assert last.reply == ("exact", b"cat"), "an idle worker always gets something"
    assert b.counters["dropped"] == 1


# ------------------------------------------------------------------ batches


def test_what_one_forward_computes_shares_a_batch(bench):
    b = bench(mode="systematic", reconstruct=True)
    for _ in range(3):
        b.offer()
    kinds = [b.poll("9000").kind()]
    b.poll("9001")  # a parity goes to no worker that holds a member
    kinds.append(b.more("9000").kind())
    assert kinds == ["raw", "raw"]
    b.poll("9002")
    b.offer()
    assert b.poll("9003").kind() == "raw"
    assert b.more("9003") is None


def test_a_coded_query_shares_one_and_encoding_goes_out_alone(bench):
    b = bench(mode="coded")
    for _ in range(6):
        b.offer()
    first = b.poll("9000")
    assert first.kind() == "encode"
    assert b.more("9000") is None
    b.reply(first, [(f"coded{i}", b"C") for i in range(4)])
    assert b.poll("9001").kind() == "encode", "before what needs a forward"
    assert b.poll("9002").kind() == "coded"


def test_a_parity_shares_a_batch_with_clients_of_other_groups(bench):
    b = bench(mode="systematic", reconstruct=True)
    for _ in range(3):
        b.offer()
    for worker in ("9000", "9001", "9002"):
        assert b.poll(worker).kind() == "raw"
    b.offer()
    assert [b.poll("9003").kind(), b.more("9003").kind()] == ["raw", "parity"]


def test_a_group_of_less_than_half_of_its_queries_gets_no_parity(bench):
    b = bench(mode="systematic", reconstruct=True, queries=3, num_workers=4)
    b.offer()
    b.advance(6)
    assert b.poll("9000").kind() == "raw"
    assert b.poll("9001") is None
    for _ in range(2):
        b.offer()
    b.advance(6)
    assert [b.poll(w).kind() for w in ("9002", "9003", "9004")] == ["raw", "raw", "parity"]
