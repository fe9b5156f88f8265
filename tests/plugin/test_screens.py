"""`check: screen`: a group's answers are checked together, and what is suspected is asked again."""

import pytest
from screen_bench import (
    account,
    again,
    byzantine,
    compare,
    hand_out,
    parity_check,
    quiet,
    respond,
    screen,
)

CLEAN = [("exact", b"a0"), ("exact", b"a1"), ("exact", b"a2")]


def test_a_clean_group_settles_after_one_screen_and_nothing_is_computed_again(bench):
    b = parity_check(bench)
    clients = [b.offer(f"q{i}".encode()) for i in range(3)]
    jobs = hand_out(b)
    assert [job.kind() for job in jobs] == ["raw"] * 3 + ["parity"]
    assert b.job(jobs[0])[0] == {"kind": "raw", "want": True}
    respond(b, jobs)
    assert not any(client.replies for client in clients), "nobody is answered before the check"
    header, parameters = screen(b, "w4")
    assert {key: header[key] for key in ("kind", "size", "available")} == {
        "kind": "screen",
        "size": 3,
        "available": [0, 1, 2, 3],
    }
    assert len(header["requests"]) == 3
    assert parameters == {f"p{i}": f"P{i}".encode() for i in range(4)}
    assert [client.reply for client in clients] == CLEAN
    assert {client.verified for client in clients} == {"screened"}
    assert b.poll("w5") is None
    assert quiet(b)
    assert [b.counters[k] for k in ("screens", "screened", "suspected", "unscreened")] == [
        1, 3, 0, 0,
    ]  # fmt: skip


def test_in_an_audit_clients_are_answered_at_once(bench):
    b = parity_check(bench, verify_wait=False)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    respond(b, jobs[:3])
    assert [client.reply for client in clients] == CLEAN
    assert {client.verified for client in clients} == {"false"}
    respond(b, jobs[3:], lies={0})
    screen(b, "w4")
    assert quiet(b)
    assert b.poll("w5") is None


@pytest.mark.parametrize("wait", [True, False])
def test_suspected_members_are_computed_again_and_the_liar_is_confirmed(bench, wait):
    b = parity_check(bench, verify_wait=wait, workers=7)
    clients = [b.offer() for _ in range(3)]
    respond(b, hand_out(b), lies={1})
    screen(b, "w4", suspected=[0, 1, 2])
    # w5 computes all three again: two are the same, and w1's is not.
    for i in (2, 1, 0):
        again(b, "w5", i)
    compare(b, "w4", agree=False)
    again(b, "w6", 1)
    assert account(b) == {"w1": 1}
    assert b.counters["suspected"] == 3
    assert quiet(b)
    if wait:
        assert [c.reply for c in clients] == [("exact", b"a0"), ("hedged", b"a1"), ("exact", b"a2")]
        assert {client.verified for client in clients} == {"true"}
    else:
        assert [c.reply[1] for c in clients] == [b"a0", b"lie", b"a2"]


def test_a_liar_that_is_screened_twice_is_quarantined(bench):
    b = parity_check(bench)
    for _ in range(2):
        for _ in range(3):
            b.offer()
        respond(b, hand_out(b), lies={0})
        screen(b, "w4", suspected=[0])
        again(b, "w5", 0)
        compare(b, "w3", agree=False)
        again(b, "w4", 0)
    assert b.state("w0") == "quarantined"
    assert b.restarted == ["w0"]
    assert quiet(b)


def test_a_suspicion_alone_confirms_nobody_wrong(bench):
    b = byzantine(bench)
    for _ in range(5):
        clients = [b.offer(), b.offer()]
        respond(b, hand_out(b, 7))
        screen(b, "w7", wrong=[4])
        assert [client.reply[1] for client in clients] == [b"a0", b"a1"]
    assert account(b, "suspicions") == {"w4": 5}
    assert account(b) == {}
    assert b.state("w4") == "ok"


def test_a_suspects_probe_is_brought_forward_but_not_again_and_again(bench):
    b = byzantine(bench, workers=0, probe_every_s=3600)
    b.probe_with(b"KNOWN")
    b.live(*(f"w{i}" for i in range(9)))
    for job in hand_out(b, 9):
        assert job.kind() == "probe"
        b.answer(job, prediction=b"KNOWN")
    b.advance(1000)

    def suspicion():
        b.offer(), b.offer()
        respond(b, hand_out(b, 7))
        screen(b, "w8", wrong=[4])
        probes = {w: job for w in b.workers if (job := b.poll(w))}
        for job in probes.values():
            b.answer(job, prediction=b"WRONG")
            compare(b, "w0", agree=False)
        return list(probes)

    assert suspicion() == ["w4"]
    assert suspicion() == [], "at most one in 500 ms"
    b.advance(500)
    assert suspicion() == ["w4"]
    assert b.state("w4") == "quarantined", "two probes confirmed what was suspected"


def test_a_parity_goes_to_a_worker_that_had_no_member_even_if_it_has_answered(bench):
    b = parity_check(bench)
    for _ in range(3):
        b.offer()
    respond(b, hand_out(b, 3))
    for i in range(3):
        assert b.poll(f"w{i}") is None
    assert b.poll("w3").kind() == "parity"


def test_parities_have_their_turn_like_queries_and_need_no_budget(bench):
    b = parity_check(bench, workers=400, max_extra_load=0, deadline_ms=10**6, limit=10_000)
    for _ in range(180):
        b.offer()
    kinds = [b.poll(f"w{i}").kind() for i in range(240)]
    assert kinds == (["raw"] * 3 + ["parity"]) * 60


def test_jobs_of_a_byzantine_group_go_to_distinct_workers(bench):
    b = byzantine(bench)
    b.offer(), b.offer()
    kinds = []
    for i in range(7):
        kinds.append(b.poll(f"w{i}").kind())
        assert b.poll(f"w{i}") is None
        assert b.more(f"w{i}") is None
    assert kinds == ["raw"] * 2 + ["parity"] * 5


def test_a_short_group_is_screened_after_the_delay(bench):
    b = parity_check(bench)
    client = b.offer()
    raw = b.poll("w0")
    respond(b, [raw])
    assert b.poll("w1") is None
    b.advance(6)
    parity = b.poll("w1")
    assert b.job(parity)[0]["size"] == 1
    b.reply(parity, [("prediction", b"PP")])
    header, parameters = screen(b, "w2")
    assert (header["size"], header["available"]) == (1, [0, 3])
    assert parameters == {"p0": b"P0", "p3": b"PP"}
    assert client.reply == ("exact", b"a0")
    assert quiet(b)


def test_what_a_screen_says_of_padding_it_says_of_its_member(bench):
    b = byzantine(bench)
    client = b.offer()
    raw = b.poll("w0")
    b.advance(6)
    respond(b, [raw, *[b.poll(f"w{i}") for i in range(1, 6)]])
    screen(b, "w7", wrong=[1])  # position 1 repeats member 0
    assert account(b, "suspicions") == {"w0": 1}
    assert client.reply == ("exact", b"a0")


def test_a_late_member_of_a_byzantine_group_does_not_hold_up_the_others(bench):
    b = byzantine(bench)
    clients = [b.offer(), b.offer()]
    jobs = hand_out(b, 7)
    respond(b, [jobs[0]])
    for i in range(2, 7):
        b.reply(jobs[i], [("prediction", b"PP")])
    assert b.poll("w0") is None
    b.advance(101)
    header, _ = screen(b, "w0")
    assert header["available"] == [0, 2, 3, 4, 5, 6]
    assert clients[0].reply == ("exact", b"a0")
    again(b, "w7", 1)  # the hedge
    again(b, "w8", 1)  # came after the screen: another worker checks it
    assert clients[1].reply == ("hedged", b"a1")
    assert quiet(b) is False, "w1 is still at it"
    b.answer(jobs[1], b"a1", prediction=b"P1")
    assert quiet(b)


def test_a_late_member_is_decoded_from_what_the_screen_found_right(bench):
    b = byzantine(bench, reconstruct=True, hedge=False)
    clients = [b.offer(), b.offer()]
    jobs = hand_out(b, 7)
    respond(b, [jobs[0]])
    for i in range(2, 7):
        b.reply(jobs[i], [("prediction", b"PP")])
    b.advance(101)
    screen(b, "w0", wrong=[3])
    decode = b.poll("w8")
    assert b.job(decode)[0]["available"] == [0, 2, 4, 5, 6]
    answers = {"1": {"section": "answer1", "status": 200}}
    b.reply(decode, [("answer1", b"d1")], answers=answers)
    assert clients[1].reply == ("reconstructed", b"d1")
    assert clients[1].verified == "screened"
    b.answer(jobs[1], b"a1", prediction=b"P1")
    assert b.poll("w8") is None
    assert quiet(b)


def test_nothing_is_decoded_for_a_client_from_answers_that_were_not_screened(bench):
    b = parity_check(bench, reconstruct=True, hedge=False)
    clients = [b.offer() for _ in range(3)]
    jobs = hand_out(b)
    respond(b, [jobs[0], jobs[1]])
    b.reply(jobs[3], [("prediction", b"PP")])
    b.advance(101)
    assert b.poll("w4") is None
    assert not any(client.replies for client in clients)


def test_suspected_members_may_be_decoded_from_the_others_and_the_liar_is_still_confirmed(bench):
    b = byzantine(bench, on_wrong="reconstruct")
    clients = [b.offer(), b.offer()]
    respond(b, hand_out(b, 7), lies={1})
    screen(b, "w7", wrong=[1, 4], suspected=[1])
    assert clients[0].reply == ("exact", b"a0")
    decode = b.poll("w7")
    header, _ = b.job(decode)
    assert (header["kind"], header["available"]) == ("decode", [0, 2, 3, 5, 6])
    assert [member["index"] for member in header["members"]] == [1]
    b.reply(decode, [("answer1", b"d1")], answers={"1": {"section": "answer1", "status": 200}})
    assert clients[1].reply == ("reconstructed", b"d1")
    again(b, "w7", 1)
    compare(b, "w0", agree=False)
    again(b, "w8", 1)
    assert account(b) == {"w1": 1}
    assert quiet(b)


@pytest.mark.parametrize("how", ["error", "item", "death", "garbage"])
def test_where_a_suspected_member_cannot_be_decoded_other_workers_answer_it(bench, how):
    b = byzantine(bench, on_wrong="reconstruct")
    clients = [b.offer(), b.offer()]
    respond(b, hand_out(b, 7), lies={1})
    screen(b, "w7", wrong=[1], suspected=[1])
    decode = b.poll("w7")
    if how == "error":
        b.reply(decode, error={"status": 503, "message": "not recoverable"})
    elif how == "item":
        b.reply(decode, answers={"1": {"error": {"status": 503, "message": "not recoverable"}}})
    elif how == "death":
        b.die(decode)
    else:
        b.raw_reply(decode, b"garbage")
    again(b, "w7", 1)
    compare(b, "w0", agree=False)
    again(b, "w8", 1)
    assert clients[1].reply == ("hedged", b"a1")
    assert account(b) == {"w1": 1}
    b.advance(3000)
    assert quiet(b)


def test_answers_of_others_decide_where_they_contradict_the_screen(bench):
    """A hedge and the first answer differ; that the first fits to the group does not settle it."""
    b = byzantine(bench, workers=10)
    clients = [b.offer(), b.offer()]
    jobs = hand_out(b, 7)
    b.advance(101)
    hedge = b.poll("w7")
    respond(b, jobs, lies={0})
    mine = clients[0].proxy if hedge.client().request() == clients[0].proxy.request() else None
    member = 0 if mine else 1
    b.answer(hedge, f"b{member}".encode(), prediction=b"OTHER")
    pending = [b.poll(w) for w in ("w8", "w9")]
    kinds = sorted(job.kind() for job in pending)
    assert kinds == ["compare", "screen"]
    for job in pending:
        if job.kind() == "compare":
            b.reply(job, agree=False)
        else:
            b.reply(job, wrong=[], suspected=[])
    assert not clients[member].replies
    assert clients[1 - member].reply[0] == "exact"
