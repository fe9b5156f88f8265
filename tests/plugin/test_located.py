"""`check: locate`: a fully coded code whose decode job leaves out what it finds wrong."""

import pytest
from screen_bench import account, compare, quiet


@pytest.fixture
def located(bench):
    """K=2, S=1, E=1: seven coded queries, a quorum of six."""

    def make(workers=8, **options):
        b = bench(
            mode="coded",
            check="locate",
            code={"name": "approxifer", "stragglers": 1, "byzantine": 1},
            queries=2,
            num_workers=7,
            quorum=6,
            **options,
        )
        b.live(*(f"w{i}" for i in range(workers)))
        b.watch_restarts()
        return b

    return make


def encoded(b, worker="w0"):
    clients = [b.offer(), b.offer()]
    encode(b, worker)
    return clients


def encode(b, worker="w0", **header):
    job = b.poll(worker)
    assert job.kind() == "encode"
    b.reply(job, [(f"coded{i}", f"c{i}".encode()) for i in range(7)], **header)


def decode(b, worker, wrong=(), available=range(7)):
    job = b.poll(worker)
    header, _ = b.job(job)
    assert (header["kind"], header["available"]) == ("decode", list(available))
    answers = {str(m["index"]): {"section": f"answer{m['index']}"} for m in header["members"]}
    sections = [(f"answer{m['index']}", f"a{m['index']}".encode()) for m in header["members"]]
    b.reply(job, sections, answers=answers, wrong=list(wrong))


def predict(b, jobs, leave=()):
    for i, job in enumerate(jobs):
        if i not in leave:
            b.reply(job, [("prediction", f"p{i}".encode())])


DECODED = [("reconstructed", b"a0"), ("reconstructed", b"a1")]


def test_coded_jobs_go_to_distinct_workers_even_when_the_first_has_answered(located):
    b = located()
    clients = encoded(b)
    for i in range(7):
        job = b.poll(f"w{i}")
        assert b.job(job)[0]["coded"] == i
        b.reply(job, [("prediction", b"p")])
        if i < 6:
            assert b.poll(f"w{i}") is None
    decode(b, "w7")
    assert [client.reply for client in clients] == DECODED
    assert quiet(b)


def test_what_the_decode_job_found_wrong_is_suspected_and_no_more(located):
    b = located()
    for _ in range(4):
        encoded(b)
        predict(b, [b.poll(f"w{i}") for i in range(7)])
        decode(b, "w7", wrong=[3])
    assert account(b, "suspicions") == {"w3": 4}
    assert account(b) == {}
    assert b.state("w3") == "ok"


def test_a_suspects_probe_is_brought_forward_and_proves_the_lie(located):
    b = located(workers=0, probe_every_s=3600)
    b.probe_with(b"KNOWN")
    b.live(*(f"w{i}" for i in range(8)))
    for worker in b.workers:
        b.answer(b.poll(worker), prediction=b"KNOWN")
    for _ in range(2):
        b.advance(600)
        encoded(b)
        predict(b, [b.poll(f"w{i}") for i in range(7)])
        decode(b, "w7", wrong=[3])
        probe = b.poll("w3")
        assert probe.kind() == "probe"
        b.answer(probe, prediction=b"WRONG")
        compare(b, "w7", agree=False)
    assert b.state("w3") == "quarantined"


def test_a_quorum_decodes_once_a_coded_job_is_late(located):
    b = located()
    clients = encoded(b)
    jobs = [b.poll(f"w{i}") for i in range(7)]
    predict(b, jobs, leave={2})
    assert b.poll("w7") is None
    b.advance(101)
    decode(b, "w7", available=[0, 1, 3, 4, 5, 6])
    assert [client.reply for client in clients] == DECODED


def test_a_missing_worker_is_not_waited_for(located):
    b = located(workers=7)
    assert str(b.router.quarantine("w6")) == "DONE"
    clients = encoded(b)
    predict(b, [b.poll(f"w{i}") for i in range(6)])
    decode(b, "w0", available=range(6))
    assert [client.reply for client in clients] == DECODED
    b.poll("w0")
    assert quiet(b)


def answer_alone(b, workers, clients):
    """Workers answer what is sent raw; returns how many did, over all."""
    count = 0
    for worker in workers:
        while (job := b.poll(worker)) is not None:
            i = [c.proxy.request() for c in clients].index(job.client().request())
            b.answer(job, f"own{i}".encode(), prediction=f"P{i}".encode())
            count += 1
    return count


def test_where_too_few_workers_are_there_members_go_alone_and_are_checked_by_pairs(located):
    b = located(workers=8)
    clients = encoded(b)
    for worker in ("w5", "w6", "w7"):
        assert str(b.router.quarantine(worker)) == "DONE"
    predict(b, [b.poll(f"w{i}") for i in range(5)])
    assert answer_alone(b, ["w0", "w1"], clients) == 4
    assert [client.reply[1] for client in clients] == [b"own0", b"own1"]
    assert {client.verified for client in clients} == {"true"}
    assert quiet(b)


def test_what_too_few_workers_could_decode_is_not_encoded(located):
    b = located(workers=5)
    clients = [b.offer(), b.offer()]
    assert answer_alone(b, ["w0", "w1"], clients) == 4
    assert [client.reply[1] for client in clients] == [b"own0", b"own1"]
    assert {client.verified for client in clients} == {"true"}
    assert b.counters["jobs"]["encode"] == b.counters["jobs"]["coded"] == 0
    assert quiet(b)


def test_when_more_are_lost_than_the_code_allows_for_members_are_checked_by_pairs(located):
    b = located()
    clients = encoded(b)
    jobs = [b.poll(f"w{i}") for i in range(7)]
    for job in jobs[:2]:
        b.raw_reply(job, b"garbage")
    first = b.poll("w7")
    b.answer(first, b"lie", prediction=b"LIE")
    assert not any(client.replies for client in clients), "one answer proves nothing"
    predict(b, jobs[2:], leave={})
    assert answer_alone(b, ["w0"], clients) >= 1
    compare(b, "w1", agree=False)
    answer_alone(b, ["w1", "w2"], clients)
    assert sorted(client.reply[1] for client in clients) == [b"own0", b"own1"]
    assert account(b) == {"w7": 1}
    assert quiet(b)


def test_a_failed_decode_leaves_the_members_to_pairs(located):
    b = located()
    clients = encoded(b)
    predict(b, [b.poll(f"w{i}") for i in range(7)])
    b.reply(b.poll("w7"), error={"status": 503, "message": "too many are wrong"})
    assert answer_alone(b, ["w0", "w1"], clients) == 4
    assert {client.verified for client in clients} == {"true"}


def test_a_member_that_cannot_be_coded_is_checked_by_a_pair(located):
    b = located(workers=10)
    clients = [b.offer(), b.offer()]
    encode(b, alone=[1])
    raw = b.poll("w0")
    assert raw.kind() == "raw"
    assert b.job(raw)[0]["want"] is True
    b.answer(raw, b"own1", prediction=b"P1")
    assert not clients[1].replies
    again = b.poll("w8")
    assert again.kind() == "hedge"
    b.answer(again, b"own1", prediction=b"P1")
    assert (clients[1].reply[1], clients[1].verified) == (b"own1", "true")
    predict(b, [b.poll(f"w{i}") for i in range(1, 8)])
    decode(b, "w8")
    assert clients[0].reply == ("reconstructed", b"a0")
    assert quiet(b)


def test_a_client_that_wants_the_models_own_answer_is_checked_by_a_pair(located):
    b = located()
    client = b.offer(exact_only=True)
    jobs = [b.poll("w0"), b.poll("w1")]
    for job in jobs:
        assert not client.replies
        b.answer(job, b"own", prediction=b"P")
    assert client.reply == ("exact", b"own")


def test_a_coded_job_of_a_dead_worker_goes_to_one_that_had_none(located):
    b = located(workers=9)
    clients = encoded(b)
    jobs = [b.poll(f"w{i}") for i in range(7)]
    b.die(jobs[0])
    assert b.poll("w1") is None
    again = b.poll("w8")
    assert b.job(again)[0]["coded"] == 0
    b.reply(again, [("prediction", b"p0")])
    predict(b, jobs, leave={0})
    decode(b, "w0")
    assert [client.reply for client in clients] == DECODED


def test_a_wrong_that_makes_no_sense_harms_nobody(located):
    b = located()
    clients = encoded(b)
    predict(b, [b.poll(f"w{i}") for i in range(7)])
    decode(b, "w7", wrong=[70])
    assert [client.reply for client in clients] == DECODED
    assert account(b, "suspicions") == {}
    assert quiet(b)
