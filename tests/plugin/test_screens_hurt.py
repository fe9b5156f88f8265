"""Screened groups when workers are missing, late or dead, and when screens fail."""

import pytest
from screen_bench import (
    account,
    again,
    byzantine,
    compare,
    hand_out,
    only_right_answers,
    parity_check,
    quiet,
    respond,
    screen,
    settle_by_pairs,
)


@pytest.mark.parametrize("stage", ["member", "parity"])
@pytest.mark.parametrize("wait", [True, False])
def test_a_worker_that_dies_with_a_job_of_the_group_leaves_it_to_pairs(bench, stage, wait):
    b = parity_check(bench, verify_wait=wait)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    victim = 3 if stage == "parity" else 1
    respond(b, [job for i, job in enumerate(jobs[:1])])
    b.die(jobs[victim])
    for i in (1, 2):
        if i != victim:
            b.answer(jobs[i], f"a{i}".encode(), prediction=f"P{i}".encode())
    settle_by_pairs(b, clients, ["w4", "w5", "w2"])
    if stage == "member":
        b.reply(jobs[3], [("prediction", b"PP")])
    assert only_right_answers(clients)
    assert {c.verified for c in clients} == ({"true"} if wait else {"false"})
    assert b.counters["screens"] == 0
    b.advance(3000)
    assert quiet(b)


def test_a_death_while_the_group_fills_leaves_it_to_pairs_and_it_still_closes(bench):
    b = parity_check(bench)
    clients = [b.offer()]
    b.die(b.poll("w0"))
    assert b.router.report()["unscreened_groups"] == 0
    clients.append(b.offer())
    b.advance(6)
    settle_by_pairs(b, clients, ["w1", "w2", "w3"])
    assert only_right_answers(clients)
    assert b.counters["jobs"]["parity"] == 0
    assert quiet(b)


def test_a_query_in_flight_at_two_deaths_is_not_sent_again_while_its_group_goes_on(bench):
    b = parity_check(bench, workers=8)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    b.die(jobs[0])
    b.die(b.poll("w4"))
    assert clients[0].reply[0] == 500
    for i in (1, 2):
        b.answer(jobs[i], f"a{i}".encode(), prediction=f"P{i}".encode())
    settle_by_pairs(b, clients, ["w5", "w6"])
    assert [client.reply[1] for client in clients[1:]] == [b"a1", b"a2"]
    b.reply(jobs[3], [("prediction", b"PP")])
    assert quiet(b)


@pytest.mark.parametrize("how", ["error", "garbage", "death", "nonsense", "outside", "no list"])
def test_a_screen_that_fails_is_tried_once_more_and_then_pairs_decide(bench, how):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    respond(b, hand_out(b))
    for worker in ("w4", "w5"):
        job = b.poll(worker)
        assert job.kind() == "screen"
        if how == "error":
            b.reply(job, error={"status": 500, "message": "no"})
        elif how == "garbage":
            b.raw_reply(job, b"garbage")
        elif how == "death":
            b.die(job)
        elif how == "nonsense":
            b.reply(job, wrong=[], suspected=["one"])
        elif how == "outside":
            b.reply(job, wrong=[], suspected=[3])
        else:
            b.reply(job, wrong=[])
        assert not any(client.replies for client in clients)
    settle_by_pairs(b, clients, ["w3", "w4", "w5"])
    assert only_right_answers(clients)
    assert b.counters["unscreened"] == 3
    assert account(b) == {}
    assert quiet(b)


def test_a_late_screen_is_sent_to_another_worker_and_the_first_reply_counts(bench):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    respond(b, hand_out(b))
    stuck = b.poll("w4")
    b.advance(101)
    screen(b, "w5")
    b.reply(stuck, wrong=[0], suspected=[0, 1, 2])
    assert only_right_answers(clients)
    assert b.poll("w3") is None
    assert account(b, "suspicions") == {}
    assert quiet(b)


def test_a_screen_that_no_worker_finishes_is_given_up_in_time_for_pairs(bench):
    b = parity_check(bench, workers=9)
    clients = [b.offer() for _ in range(3)]
    respond(b, hand_out(b))
    stuck = b.poll("w4")
    b.advance(1100)
    settle_by_pairs(b, clients, ["w5", "w6"])
    assert only_right_answers(clients)
    b.reply(stuck, wrong=[], suspected=[])
    assert quiet(b)


def test_a_parity_that_is_late_is_computed_elsewhere(bench):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    respond(b, jobs[:3])
    b.advance(101)
    second = b.poll("w4")
    assert second.kind() == "parity"
    b.reply(second, [("prediction", b"P3")])
    screen(b, "w5")
    assert only_right_answers(clients)
    b.reply(jobs[3], [("prediction", b"P3")])
    assert quiet(b)


def test_without_its_parity_a_group_is_left_to_pairs(bench):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    respond(b, jobs[:3])
    b.reply(jobs[3], error={"status": 500, "message": "no parity"})
    settle_by_pairs(b, clients, ["w4", "w5"])
    assert only_right_answers(clients)
    assert quiet(b)


def test_where_no_worker_is_left_for_a_parity_pairs_decide_at_once(bench):
    b = parity_check(bench, workers=3)
    clients = [b.offer() for _ in range(3)]
    respond(b, hand_out(b, 3))
    settle_by_pairs(b, clients, ["w0", "w1", "w2"])
    assert only_right_answers(clients)
    assert b.poll("w0") is None
    assert quiet(b)


def test_one_worker_alone_answers_unverified(bench):
    b = parity_check(bench, workers=1)
    clients = [b.offer() for _ in range(3)]
    for i in range(3):
        b.answer(b.poll("w0"), f"a{i}".encode(), prediction=b"P")
    assert only_right_answers(clients)
    assert {client.verified for client in clients} == {"false"}
    assert b.poll("w0") is None
    assert quiet(b)


@pytest.mark.parametrize("workers", [6, 7])
def test_a_byzantine_group_does_not_wait_for_workers_that_are_not_there(bench, workers):
    b = byzantine(bench, workers=workers)
    assert str(b.router.quarantine(f"w{workers - 1}")) == "DONE"
    clients = [b.offer(), b.offer()]
    if workers == 7:
        respond(b, hand_out(b, 6))
        screen(b, "w0")
        assert {client.verified for client in clients} == {"screened"}
    else:
        settle_by_pairs(b, clients, ["w0", "w1", "w2"])
        assert {client.verified for client in clients} == {"true"}
        assert b.counters["jobs"]["parity"] == 0, "a screen they can not make possible"
    assert only_right_answers(clients)
    b.poll("w0")
    assert quiet(b)


def test_members_are_not_held_back_for_distinct_workers_that_are_not_there(bench):
    b = byzantine(bench, workers=2)
    assert str(b.router.quarantine("w1")) == "DONE"
    clients = [b.offer(), b.offer()]
    for i in range(2):
        b.answer(b.poll("w0"), f"a{i}".encode(), prediction=b"P")
    assert only_right_answers(clients), "unverified, but answered"
    b.poll("w0")
    assert quiet(b)


def test_a_hedge_of_a_late_member_may_go_to_any_worker(bench):
    b = byzantine(bench, workers=7)
    clients = [b.offer(), b.offer()]
    jobs = hand_out(b, 7)
    respond(b, jobs[:1])
    b.advance(101)
    again(b, "w0", 1)  # w0 has answered member 0
    for i in range(2, 7):
        b.reply(jobs[i], [("prediction", b"PP")])
    screen(b, "w2")
    assert clients[0].reply == ("exact", b"a0")
    assert not clients[1].replies, "its worker gave another answer of the group"
    again(b, "w3", 1)
    assert clients[1].reply == ("hedged", b"a1")


def test_an_answer_of_a_worker_that_gave_the_parity_screens_nothing(bench):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    for i in (1, 2):
        b.answer(jobs[i], f"a{i}".encode(), prediction=f"P{i}".encode())
    b.reply(jobs[3], [("prediction", b"P3")])
    b.advance(101)
    hedge = b.poll("w3")
    b.answer(hedge, b"a0", prediction=b"P0")
    assert b.counters["screens"] == 0
    settle_by_pairs(b, clients, ["w4", "w5"])
    assert only_right_answers(clients)
    assert {client.verified for client in clients} == {"true"}


def test_a_busy_server_does_not_take_waiting_jobs_for_missing_workers(bench):
    b = parity_check(bench, deadline_ms=60_000)
    clients = [b.offer() for _ in range(3)]
    respond(b, hand_out(b, 2))
    b.advance(1000)
    assert b.counters["unscreened"] == 0
    b.answer(b.poll("w2"), b"a2", prediction=b"P2")
    b.reply(b.poll("w3"), [("prediction", b"P3")])
    screen(b, "w4")
    assert only_right_answers(clients)
    assert quiet(b)


def test_the_worker_of_a_suspected_query_that_is_frozen_does_not_hold_it_up(bench):
    b = parity_check(bench, workers=7)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    respond(b, [*jobs[:2]])
    b.reply(jobs[3], [("prediction", b"P3")])
    b.advance(101)  # w2 is frozen
    b.answer(b.poll("w4"), b"lie", prediction=b"LIE")
    screen(b, "w5", suspected=[2])
    again(b, "w5", 2)
    compare(b, "w0", agree=False)
    again(b, "w6", 2)
    assert clients[2].reply == ("hedged", b"a2")
    assert account(b) == {"w4": 1}


def test_a_scaled_down_worker_gives_its_jobs_back(bench):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    b.router.returned(jobs[0])
    b.router.returned(jobs[3])
    parity, raw = b.poll("w3"), b.poll("w0")
    assert [raw.kind(), parity.kind()] == ["raw", "parity"]
    respond(b, [raw, jobs[1], jobs[2], parity])
    stopped = b.poll("w4")
    b.router.returned(stopped)
    screen(b, "w5")
    assert only_right_answers(clients)
    assert quiet(b)
