"""Answers that cannot be used, and deaths, while other copies of a query are stuck."""

import pytest

TWO = {"code": {"name": "test", "stragglers": 2, "byzantine": 0}}


def test_a_hedge_that_is_garbage_is_followed_by_another_while_the_first_worker_is_frozen(bench):
    b = bench()
    client = b.offer()
    b.poll("frozen")
    b.advance(101)
    b.raw_reply(b.poll("garbled"), b"garbage")
    b.answer(b.poll("well"), b"cat")
    assert client.reply == ("hedged", b"cat")


def test_a_hedge_whose_worker_dies_is_followed_by_another_while_the_first_is_frozen(bench):
    b = bench()
    client = b.offer()
    b.poll("frozen")
    b.advance(101)
    b.die(b.poll("dying"))
    b.answer(b.poll("well"), b"cat")
    assert client.reply == ("hedged", b"cat")


def test_a_copy_that_is_not_late_yet_is_waited_for(bench):
    b = bench()
    client = b.offer()
    first = b.poll("9000")
    b.advance(101)
    hedge = b.poll("9001")
    b.raw_reply(first, b"garbage")
    assert b.poll("9002") is None
    b.answer(hedge, b"cat")
    assert client.reply == ("hedged", b"cat")


def test_with_two_stragglers_two_workers_may_answer_garbage(bench):
    b = bench(**TWO)
    client = b.offer()
    for worker in ("9000", "9001"):
        b.raw_reply(b.poll(worker), b"garbage")
    assert not client.replies
    assert b.poll("9000") is None, "neither of them is asked again at once"
    assert b.poll("9001") is None
    b.answer(b.poll("9002"), b"cat")
    assert client.reply == ("hedged", b"cat")


def test_garbage_from_more_workers_than_the_code_allows_for_is_503(bench):
    b = bench(**TWO)
    client = b.offer()
    for worker in ("9000", "9001", "9002"):
        b.raw_reply(b.poll(worker), b"garbage")
    assert client.reply[0] == 503


def test_where_there_is_no_other_worker_the_same_one_is_asked_again(bench):
    b = bench()
    client = b.offer()
    b.raw_reply(b.poll("9000"), b"garbage")
    assert b.poll("9000") is None
    b.advance(300)
    b.answer(b.poll("9000"), b"cat")
    assert client.reply == ("hedged", b"cat")


def garble(b, worker, times):
    for _ in range(times):
        b.offer()
        b.raw_reply(b.poll(worker), b"garbage")
        b.answer(b.poll("helper"))


@pytest.mark.parametrize(("times", "state"), [(1, "suspected"), (2, "garbled")])
def test_a_worker_whose_answers_are_garbage_again_and_again_is_known(bench, times, state):
    b = bench()
    b.live("bad", "helper", "third")
    garble(b, "bad", times)
    assert dict(b.router.report()["workers"]["bad"])["state"] == state


def test_one_usable_answer_clears_its_name(bench):
    b = bench()
    b.live("bad", "helper", "third")
    garble(b, "bad", 3)
    b.offer()
    b.answer(b.poll("bad"))
    assert dict(b.router.report()["workers"]["bad"])["state"] == "ok"
