"""Whatever a worker sends back ends in an answer for its client and leaves nothing behind."""

import threading
import time

import jpype
import pytest
from router_bench import frame
from screen_bench import parity_check, quiet, respond

ODD_HEADERS = [
    {"error": {}},
    {"error": {"status": "bad", "message": "no"}},
    {"error": {"status": -1, "message": "no"}},
    {"error": {"status": 400}},
    {"error": {"status": 400, "message": {}}},
    {"error": "no"},
    {"erasure": {}},
    {"erasure": [1]},
    {"errors": [1]},
    {"errors": {"x": {"status": 400, "message": "no"}}},
    {"alone": {}},
    {"answers": [1]},
    {"agree": {}},
    {"wrong": {"0": 1}},
    {"unloaded": {}},
]


def odd(header):
    return ", ".join(f"{key}={value}" for key, value in header.items())


@pytest.mark.parametrize("header", ODD_HEADERS, ids=odd)
def test_a_raw_reply_with_a_field_of_another_type_is_an_erasure(bench, header):
    b = bench()
    b.live("9000", "9001")
    client = b.offer()
    b.raw_reply(b.poll("9000"), frame(sections=[("answer", b"odd")], kind="raw", **header))
    assert not client.replies
    assert b.counters["erasures"] == 1
    b.answer(b.poll("9001"), b"cat")
    assert client.reply == ("hedged", b"cat")
    assert quiet(b)


@pytest.mark.parametrize(
    "text", [b"null", b"[]", b"7", b'{"sections": 3}', b'{"sections": [["a"]]}']
)
def test_a_header_that_is_no_object_is_an_erasure(bench, text):
    b = bench()
    b.live("9000", "9001")
    client = b.offer()
    b.raw_reply(b.poll("9000"), b"AXF1" + len(text).to_bytes(4, "big") + text)
    b.answer(b.poll("9001"), b"cat")
    assert client.reply == ("hedged", b"cat")
    assert quiet(b)


ODD_ANSWERS = [
    {"status": -5},
    {"status": 0},
    {"status": 1000},
    {"phrase": "Fine\r\nset-cookie: a=b"},
    {"content_type": "text/plain\r\nset-cookie: a=b"},
    {"headers": {"x-mine": "one\r\ntwo: 2"}},
    {"headers": {"x-mine\r\n": "one"}},
    {"headers": {"": "one"}},
]


@pytest.mark.parametrize("answer", ODD_ANSWERS, ids=str)
@pytest.mark.parametrize("framed", [True, False])
def test_an_answer_that_is_not_http_is_an_erasure(bench, answer, framed):
    b = bench()
    b.live("9000", "9001")
    client = b.offer(codable=framed, framed=framed)
    body = frame(sections=[("answer", b"odd")], kind="raw") if framed else b"{}"
    b.raw_reply(b.poll("9000"), body, **answer)
    assert not client.replies
    again = b.poll("9001")
    b.answer(again, b"cat") if framed else b.raw_reply(again, b"{}")
    assert client.reply == ("hedged" if framed else "exact", b"cat" if framed else b"{}")
    assert quiet(b)


def coded(bench):
    b = bench(mode="coded")
    b.live(*(f"900{i}" for i in range(6)))
    return b, [b.offer() for _ in range(3)]


def answer_alone(b):
    for worker in b.workers:
        while (job := b.poll(worker)) is not None:
            assert job.kind() == "raw"
            b.answer(job, b"own")


BLOBS = [(f"coded{i}", b"c") for i in range(4)]


@pytest.mark.parametrize(
    ("sections", "header"),
    [
        (BLOBS[:3], {}),
        (BLOBS, {"errors": {"7": {"status": 400, "message": "no"}}}),
        (BLOBS, {"errors": {"1": {}}}),
        (BLOBS, {"errors": {"1": {"status": -1, "message": "no"}}}),
        (BLOBS, {"alone": [3]}),
        (BLOBS, {"alone": [-1]}),
        (BLOBS, {"alone": ["one"]}),
        (BLOBS, {"alone": [None]}),
    ],
)
def test_members_go_alone_after_an_encode_reply_that_is_not_one(bench, sections, header):
    b, clients = coded(bench)
    b.reply(b.poll("9000"), sections, **header)
    answer_alone(b)
    assert [client.reply for client in clients] == [("exact", b"own")] * 3
    assert quiet(b)


def items(**change):
    made = {str(i): {"section": f"answer{i}", "status": 200} for i in range(3)}
    made["1"].update(change)
    return made


@pytest.mark.parametrize(
    "answers",
    [
        {},
        [],
        {"0": {"section": "answer0"}},
        {**items(), "3": {"section": "answer0"}},
        {**items(), "x": {"section": "answer0"}},
        items(section=None),
        items(section="answer9"),
        items(status=-1),
        items(status="bad"),
        items(status={}),
        items(headers=[1]),
        items(headers={"x-mine": "a\nb"}),
        items(headers={"x-mine": {}}),
        items(phrase={}),
        items(contentType="text/plain\n"),
        items(error={}),
        items(error={"status": 0, "message": "no"}),
    ],
    ids=str,
)
def test_members_go_alone_after_a_decode_reply_that_is_not_one(bench, answers):
    b, clients = coded(bench)
    b.reply(b.poll("9000"), BLOBS)
    for job in [b.poll(f"900{i}") for i in range(4)]:
        b.reply(job, [("prediction", b"p")])
    decode = b.poll("9004")
    assert decode.kind() == "decode"
    b.reply(decode, [(f"answer{i}", b"a") for i in range(3)], answers=answers)
    assert not any(client.replies for client in clients), "all or none"
    answer_alone(b)
    assert [client.reply for client in clients] == [("exact", b"own")] * 3
    assert quiet(b)


def test_no_solo_members_prediction_is_taken_for_a_coded_one(bench):
    b, clients = coded(bench)
    b.reply(b.poll("9000"), BLOBS, alone=[2])
    b.answer(b.poll("9004"), b"own", prediction=b"RAW")
    assert clients[2].reply == ("exact", b"own")
    jobs = [b.poll(f"900{i}") for i in range(4)]
    for i in (0, 1):
        b.reply(jobs[i], [("prediction", b"p")])
    b.advance(101)
    assert b.poll("9005") is None, "two predictions of four are no quorum"
    b.reply(jobs[3], [("prediction", b"p")])
    header, parameters = b.job(b.poll("9005"))
    assert header["available"] == [0, 1, 3]
    assert b"RAW" not in parameters.values()


@pytest.mark.parametrize("agree", [{}, [], "perhaps not", None, 2])
def test_a_comparison_that_says_neither_is_made_again(bench, agree):
    b = bench(check="pair")
    b.live(*(f"900{i}" for i in range(5)))
    client = b.offer()
    for worker, prediction in (("9000", b"P1"), ("9001", b"P2")):
        b.answer(b.poll(worker), b"cat", prediction=prediction)
    b.reply(b.poll("9002"), agree=agree)
    assert not client.replies
    b.reply(b.poll("9003"), agree=True)
    assert client.reply == ("exact", b"cat")
    assert quiet(b)


@pytest.mark.parametrize("how", [{"wrong": 1}, {"wrong": [None]}, {"suspected": {}}, {"error": {}}])
def test_a_screen_that_makes_no_sense_is_made_again(bench, how):
    b = parity_check(bench)
    clients = [b.offer() for _ in range(3)]
    respond(b, [b.poll(f"w{i}") for i in range(4)])
    b.reply(b.poll("w4"), **{"wrong": [], "suspected": [], **how})
    assert not any(client.replies for client in clients)
    b.reply(b.poll("w5"), wrong=[], suspected=[])
    assert [client.reply[1] for client in clients] == [b"a0", b"a1", b"a2"]
    assert quiet(b)


@pytest.mark.parametrize("header", [{"error": {}}, {"erasure": {}}, {"sections": 1}])
def test_a_probe_that_makes_no_sense_is_sent_again_at_its_turn(bench, header):
    b = bench(probe_every_s=1)
    b.probe_with(b"KNOWN")
    b.live("9000", "9001")
    probe = b.poll("9000")
    b.reply(probe, **header) if "sections" not in header else b.raw_reply(probe, b"AXF1")
    b.advance(1001)
    b.guard()
    assert b.poll("9000").kind() == "probe"


def test_an_answer_that_the_client_cannot_be_sent_is_followed_by_an_error(bench):
    b = bench()
    client = b.offer()
    client.refuses = True
    b.answer(b.poll("9000"), b"cat")
    status, message = client.reply
    assert status == 500
    assert "could not be sent" in message
    assert quiet(b)


def held(b, body):
    """How long an answer took, and the longest that another thread waited meanwhile, in s."""
    b.offer()
    job = b.poll("9000")
    answer = b.core.Answer(jpype.JArray(jpype.JByte)(body), "text/plain", 200, None, None)
    longest, begin = 0, time.perf_counter()
    thread = threading.Thread(target=lambda: b.router.answered(job, answer))
    thread.start()
    while thread.is_alive():
        asked = time.perf_counter()
        b.router.capacity()
        longest = max(longest, time.perf_counter() - asked)
    return time.perf_counter() - begin, longest


def test_a_long_header_is_read_while_others_go_on(bench):
    b = bench()
    b.live("9000")
    body = frame(sections=[("answer", b"cat")], kind="raw", wrong=list(range(500_000)))
    times = [held(b, body) for _ in range(8)]
    assert any(longest < took / 2 for took, longest in times), times
    assert quiet(b)
