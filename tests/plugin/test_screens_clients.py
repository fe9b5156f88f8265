"""Screened groups whose clients leave, run out of time, or ask for something else."""

import pytest
from screen_bench import (
    hand_out,
    only_right_answers,
    parity_check,
    quiet,
    respond,
    screen,
    settle_by_pairs,
)


def test_bad_input_leaves_the_others_to_pairs(bench):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    b.answer(jobs[0], error={"status": 400, "message": "not an image"})
    b.reply(jobs[3], error={"status": 400, "message": "not an image"})
    for i in (1, 2):
        b.answer(jobs[i], f"a{i}".encode(), prediction=f"P{i}".encode())
    settle_by_pairs(b, clients, ["w4", "w5"])
    assert clients[0].reply == (400, "not an image")
    assert [client.reply[1] for client in clients[1:]] == [b"a1", b"a2"]
    assert quiet(b)


def test_a_request_of_several_queries_is_checked_by_its_answer(bench):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    b.answer(jobs[0], b"a0", queries=2)
    for i in (1, 2):
        b.answer(jobs[i], f"a{i}".encode(), prediction=f"P{i}".encode())
    for _ in range(3):
        twice = b.poll("w4")
        i = [c.proxy.request() for c in clients].index(twice.client().request())
        several = {"queries": 2} if i == 0 else {"prediction": f"P{i}".encode()}
        b.answer(twice, f"a{i}".encode(), **several)
    assert only_right_answers(clients)
    assert {client.verified for client in clients} == {"true"}


def test_a_client_that_wants_the_models_own_answer_joins_no_group_and_is_checked_by_a_pair(bench):
    b = parity_check(bench)
    client = b.offer(exact_only=True)
    jobs = [b.poll("w0"), b.poll("w1")]
    assert b.router.report()["unscreened_groups"] == 0
    b.answer(jobs[0], b"own", prediction=b"P")
    assert not client.replies
    b.answer(jobs[1], b"own", prediction=b"P")
    assert (client.reply, client.verified) == (("exact", b"own"), "true")


def test_a_client_that_leaves_does_not_take_the_check_from_the_others(bench):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    clients[0].hung_up = True
    b.guard()
    jobs = hand_out(b)
    assert [job.kind() for job in jobs] == ["raw"] * 3 + ["parity"]
    respond(b, jobs)
    screen(b, "w4", suspected=[0])
    assert not clients[0].replies
    assert [client.reply[1] for client in clients[1:]] == [b"a1", b"a2"]
    assert b.poll("w5") is None, "nobody waits for the one that is suspected"
    assert quiet(b)


@pytest.mark.parametrize("stage", ["filling", "handed out", "screening", "again"])
@pytest.mark.parametrize("how", ["gone", "deadline"])
def test_when_all_clients_have_left_nothing_is_done_any_more(bench, stage, how):
    b = parity_check(bench, workers=9, group_delay_ms=10_000 if stage == "filling" else 5)
    clients = [b.offer() for _ in range(2 if stage == "filling" else 3)]
    jobs = []
    if stage != "filling":
        jobs = hand_out(b)
    if stage in ("screening", "again"):
        respond(b, jobs)
        jobs = [] if stage == "again" else [b.poll("w4")]
    if stage == "again":
        screen(b, "w4", suspected=[0, 1, 2])
    if how == "gone":
        for client in clients:
            client.hung_up = True
    b.advance(1 if how == "gone" else 2100)
    b.guard()
    assert all(c.replies == [] if how == "gone" else c.reply[0] == 503 for c in clients)
    if stage == "screening":
        b.reply(jobs[0], wrong=[], suspected=[])
    else:
        respond(b, jobs)
    b.advance(10_100)
    assert b.poll("w8") is None
    assert quiet(b)


def test_an_answer_that_could_not_be_checked_by_the_deadline_is_not_given(bench):
    b = parity_check(bench)
    client = b.offer()
    b.offer(), b.offer()
    respond(b, hand_out(b, 1))
    b.advance(2100)
    b.guard()
    assert client.reply[0] == 503
    assert "check" in client.reply[1]


@pytest.mark.parametrize("wait", [True, False])
def test_what_must_not_run_twice_is_refused_when_suspected_and_else_given_unverified(bench, wait):
    b = parity_check(bench, idempotent=False, verify_wait=wait)
    clients = [b.offer() for _ in range(3)]
    respond(b, hand_out(b), lies={1})
    screen(b, "w4", suspected=[1])
    assert clients[0].reply == ("exact", b"a0")
    assert clients[1].reply[0] == (503 if wait else "exact")
    alone = b.offer(exact_only=True)
    once = b.poll("w0")
    assert b.poll("w5") is None
    b.answer(once, b"own", prediction=b"P")
    assert alone.reply == ("exact", b"own")
    assert alone.verified == "false"
    assert b.poll("w5") is None
    assert quiet(b)
