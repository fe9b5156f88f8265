"""Groups: closing, parities, reconstruction, fully coded flow, quorum."""

import pytest


def systematic(bench, **options):
    return bench(mode="systematic", reconstruct=True, hedge=False, **options)


def coded(bench, **options):
    return bench(mode="coded", **options)


def test_a_lost_prediction_is_decoded_from_the_others_and_the_parity(bench):
    b = systematic(bench)
    clients = [b.offer(f"q{i}".encode()) for i in range(3)]
    jobs = [b.poll(f"900{i}") for i in range(3)]
    assert b.job(jobs[0])[0] == {"kind": "raw", "want": True}
    assert b.poll("9002") is None, "the parity goes to a worker that holds no member of the group"
    parity = b.poll("9003")
    header, parameters = b.job(parity)
    assert (header["kind"], header["coded"], header["size"]) == ("parity", 3, 3)
    assert parameters == {"m0/body": b"q0", "m1/body": b"q1", "m2/body": b"q2"}
    b.reply(parity, [("prediction", b"P3")])
    b.answer(jobs[0], b"a0", prediction=b"P0")
    b.answer(jobs[1], b"a1", prediction=b"P1")
    assert b.poll("9000") is None, "nothing is late yet"
    b.advance(101)
    decode = b.poll("9000")
    header, parameters = b.job(decode)
    assert header["kind"] == "decode"
    assert header["available"] == [0, 1, 3]
    assert [member["index"] for member in header["members"]] == [2]
    assert parameters == {"p0": b"P0", "p1": b"P1", "p3": b"P3", "m2/body": b"q2"}
    answers = {"2": {"section": "answer2", "status": 200, "contentType": "text/plain"}}
    b.reply(decode, [("answer2", b"a2")], answers=answers)
    b.answer(jobs[2], b"too late")
    assert [client.reply for client in clients] == [
        ("exact", b"a0"),
        ("exact", b"a1"),
        ("reconstructed", b"a2"),
    ]


def test_two_losses_are_more_than_one_parity_recovers(bench):
    b = systematic(bench)
    for _ in range(3):
        b.offer()
    jobs = [b.poll(f"900{i}") for i in range(3)]
    b.reply(b.poll("9003"), [("prediction", b"P3")])
    b.answer(jobs[0], prediction=b"P0")
    b.advance(200)
    assert b.poll("9004") is None


def test_a_parity_that_nobody_needs_any_more_is_dropped(bench):
    b = systematic(bench)
    for _ in range(3):
        b.offer()
    for job in [b.poll(f"900{i}") for i in range(3)]:
        b.answer(job, prediction=b"P")
    assert b.poll("9003") is None
    assert b.router.report()["dropped_jobs"] == 1


def test_a_short_group_closes_after_the_delay_and_its_padding_follows_its_member(bench):
    b = systematic(bench)
    clients = [b.offer(), b.offer()]  # position 2 repeats member 0
    jobs = [b.poll("9000"), b.poll("9001")]
    assert b.poll("9002") is None
    b.advance(6)
    parity = b.poll("9002")
    assert b.job(parity)[0]["size"] == 2
    b.reply(parity, [("prediction", b"P3")])
    b.answer(jobs[0], prediction=b"P0")  # positions 0 and 2, and the parity: a quorum of 3
    b.advance(100)
    assert b.poll("9003").kind() == "decode"
    assert not clients[1].replies


def test_a_lost_member_that_pads_counts_twice(bench):
    b = systematic(bench)
    b.offer(), b.offer()
    jobs = [b.poll("9000"), b.poll("9001")]
    b.advance(6)
    b.reply(b.poll("9002"), [("prediction", b"P3")])
    b.answer(jobs[1], prediction=b"P1")  # member 0 is lost, and with it positions 0 and 2
    b.advance(200)
    assert b.poll("9003") is None


def test_decode_comes_before_raw_and_raw_before_parity(bench):
    b = systematic(bench, late_after_ms=50)
    for _ in range(3):
        b.offer()
    jobs = [b.poll(f"900{i}") for i in range(3)]
    b.reply(b.poll("9003"), [("prediction", b"P3")])
    b.answer(jobs[0], prediction=b"P0")
    b.answer(jobs[1], prediction=b"P1")
    for _ in range(3):
        b.offer()
    b.advance(60)
    kinds = [b.poll(f"901{i}").kind() for i in range(5)]
    assert kinds == ["decode", "raw", "raw", "raw", "parity"]


def test_a_coded_group_is_encoded_spread_and_decoded_when_all_is_in(bench):
    b = coded(bench)
    clients = [b.offer(f"q{i}".encode()) for i in range(3)]
    encode = b.poll("9000")
    header, parameters = b.job(encode)
    assert header["kind"] == "encode"
    assert parameters == {"m0/body": b"q0", "m1/body": b"q1", "m2/body": b"q2"}
    b.reply(encode, [(f"coded{i}", f"c{i}".encode()) for i in range(4)])
    jobs = [b.poll("9000")]
    assert b.poll("9000") is None, "coded jobs of a group go to distinct workers"
    jobs += [b.poll(f"900{i}") for i in (1, 2, 3)]
    assert [b.job(job)[1]["coded"] for job in jobs] == [b"c0", b"c1", b"c2", b"c3"]
    for i in (0, 1, 2):
        b.reply(jobs[i], [("prediction", f"p{i}".encode())])
    assert b.poll("9004") is None, "a quorum decodes only once the rest is late"
    b.reply(jobs[3], [("prediction", b"p3")])
    decode = b.poll("9001")
    header, parameters = b.job(decode)
    assert header["available"] == [0, 1, 2, 3]
    assert parameters["p3"] == b"p3"
    assert parameters["m1/body"] == b"q1"
    decode_all(b, decode)
    assert [client.reply for client in clients] == [
        ("reconstructed", f"a{i}".encode()) for i in range(3)
    ]


def decode_all(b, decode, indices=(0, 1, 2)):
    answers = {str(i): {"section": f"answer{i}", "status": 200} for i in indices}
    b.reply(decode, [(f"answer{i}", f"a{i}".encode()) for i in indices], answers=answers)


def encoded(b, n=3):
    clients = [b.offer() for _ in range(n)]
    b.reply(b.poll("9000"), [(f"coded{i}", b"c") for i in range(4)])
    return clients, [b.poll(f"900{i}") for i in range(4)]


def test_a_quorum_will_do_once_a_coded_job_is_late(bench):
    b = coded(bench)
    clients, jobs = encoded(b)
    for i in (0, 1, 3):
        b.reply(jobs[i], [("prediction", b"p")])
    b.advance(101)
    decode = b.poll("9004")
    assert b.job(decode)[0]["available"] == [0, 1, 3]
    decode_all(b, decode)
    assert all(client.reply[0] == "reconstructed" for client in clients)


def test_a_coded_prediction_with_nan_is_an_erasure_and_the_quorum_decodes_at_once(bench):
    b = coded(bench)
    _, jobs = encoded(b)
    for i in (0, 1, 3):
        b.reply(jobs[i], [("prediction", b"p")])
    b.reply(jobs[2], [("prediction", b"p")], erasure="prediction holds NaN or Inf")
    assert b.job(b.poll("9004"))[0]["available"] == [0, 1, 3]


def test_a_dead_workers_coded_job_is_sent_again_once(bench):
    b = coded(bench)
    _, jobs = encoded(b)
    b.die(jobs[2])
    again = b.poll("9005")
    assert b.job(again)[0]["coded"] == 2
    for i in (0, 1, 3):
        b.reply(jobs[i], [("prediction", b"p")])
    b.die(again)
    b.advance(150)
    assert b.poll("9006").kind() == "decode"


def test_bad_input_is_answered_and_the_group_goes_on_without_it(bench):
    b = coded(bench)
    clients = [b.offer() for _ in range(3)]
    b.reply(
        b.poll("9000"),
        [(f"coded{i}", b"c") for i in range(4)],
        errors={"1": {"status": 400, "message": "not an image"}},
        alone=[2],
    )
    assert clients[1].reply == (400, "not an image")
    alone = b.poll("9000")
    assert alone.kind() == "raw"
    b.answer(alone, b"alone")
    assert clients[2].reply == ("exact", b"alone")
    for i in range(4):
        b.reply(b.poll(f"900{i}"), [("prediction", b"p")])
    decode = b.poll("9001")
    assert [member["index"] for member in b.job(decode)[0]["members"]] == [0]
    decode_all(b, decode, [0])
    assert clients[0].reply == ("reconstructed", b"a0")


def test_members_of_an_encode_job_that_killed_its_worker_go_alone(bench):
    b = coded(bench)
    clients = [b.offer() for _ in range(3)]
    b.die(b.poll("9000"))
    jobs = [b.poll(f"900{i}") for i in (1, 2, 3)]
    assert [job.kind() for job in jobs] == ["raw"] * 3
    poison = clients[0].proxy.request().getRequestId()
    for job in jobs:
        if job.client().request().getRequestId() == poison:
            b.die(job)
        else:
            b.answer(job, b"fine")
    assert clients[0].reply[0] == 500
    assert [client.reply[1] for client in clients[1:]] == [b"fine"] * 2


def test_an_encode_job_that_killed_two_workers_was_one_job(bench):
    """A machine stalls, the job is late and sent again, and both copies hold what kills workers."""
    b = coded(bench)
    clients = [b.offer() for _ in range(3)]
    copies = [b.poll("9000")]
    b.advance(101)
    copies.append(b.poll("9001"))
    for copy in copies:
        assert copy.kind() == "encode"
        b.die(copy)
    assert not any(client.replies for client in clients), "innocent, as far as anybody knows"
    for worker in ("9002", "9003", "9004"):
        b.answer(b.poll(worker), b"raw")
    assert [client.reply[1] for client in clients] == [b"raw"] * 3


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_a_late_encode_or_decode_job_is_sent_to_another_worker(bench, stage):
    b = coded(bench)
    if stage == "encode":
        clients = [b.offer() for _ in range(3)]
    else:
        clients, jobs = encoded(b)
        for job in jobs:
            b.reply(job, [("prediction", b"p")])
    stuck = b.poll("9000")
    assert stuck.kind() == stage
    b.advance(101)
    assert b.poll("9000") is None
    again = b.poll("9005")
    assert again.kind() == stage
    if stage == "decode":
        decode_all(b, again)
        decode_all(b, stuck)
        assert [client.reply[0] for client in clients] == ["reconstructed"] * 3


def test_encode_jobs_sent_again_stay_within_the_budget_when_everything_is_slow(bench):
    b = coded(bench, late_after_ms=10, deadline_ms=10**6, limit=10_000)
    for group in range(40):
        for _ in range(3):
            b.offer()
        assert b.poll(str(9000 + group)).kind() == "encode"
    b.advance(50)
    again = 0
    while (job := b.poll(f"spare{again}")) is not None:
        assert job.kind() == "encode"
        again += 1
    assert again == 10, "what the budget holds"


def test_a_failed_decode_sends_the_members_alone(bench):
    b = coded(bench)
    clients, jobs = encoded(b)
    for job in jobs:
        b.reply(job, [("prediction", b"p")])
    b.reply(b.poll("9004"), error={"status": 503, "message": "Prediction failed"})
    for i in range(3):
        b.answer(b.poll(f"900{i}"), b"raw")
    assert [client.reply for client in clients] == [("exact", b"raw")] * 3


def lost_member(bench, expires=None, **options):
    """A systematic group whose member 2 has been decoded: (bench, clients, its raw job)."""
    b = systematic(bench, **options)
    b.live(*(f"900{i}" for i in range(5)))
    until = {} if expires is None else {"expires": b.now // 1_000_000 + expires}
    clients = [b.offer(**until) for _ in range(3)]
    jobs = [b.poll(f"900{i}") for i in range(3)]
    b.reply(b.poll("9003"), [("prediction", b"P3")])
    for i in (0, 1):
        b.answer(jobs[i], prediction=b"P")
    b.advance(101)
    decode_all(b, b.poll("9004"), [2])
    return b, clients, jobs[2]


def test_a_reconstruction_waits_for_an_exact_answer_on_its_way(bench):
    b, clients, raw = lost_member(bench, prefer_exact_ms=40)
    assert not clients[2].replies
    b.advance(20)
    b.answer(raw, b"exact")
    b.advance(40)
    assert clients[2].reply == ("exact", b"exact")


def test_but_no_longer_than_the_policy_says(bench):
    b, clients, raw = lost_member(bench, prefer_exact_ms=40)
    b.advance(41)
    b.answer(raw, b"exact")
    assert clients[2].reply == ("reconstructed", b"a2")


@pytest.mark.parametrize("end", ["deadline", "expiry", "unregistered", "no worker", "deaths"])
def test_whatever_ends_the_wait_the_client_gets_the_best_there_is(bench, end):
    expires = 400 if end == "expiry" else None
    deadline = 300 if end == "deadline" else 5000
    b, clients, raw = lost_member(
        bench, expires=expires, prefer_exact_ms=10_000, deadline_ms=deadline
    )
    assert not clients[2].replies
    if end == "deaths":
        b.die(raw)
        again = b.poll("9004")
        assert not clients[2].replies
        b.die(again)
    elif end == "unregistered":
        b.guard(registered=False)
        b.advance(600)
        b.guard(registered=False)
    else:
        if end == "no worker":
            b.live()
        b.advance(310)
        b.guard()
    assert clients[2].reply == ("reconstructed", b"a2")


def test_a_client_that_wants_an_exact_answer_is_kept_out_of_coded_groups(bench):
    b = coded(bench)
    client = b.offer(exact_only=True)
    b.offer()
    job = b.poll("9000")
    assert job.kind() == "raw"
    b.answer(job, b"own")
    assert client.reply == ("exact", b"own")


def test_parities_stay_within_their_share_of_the_load(bench):
    b = systematic(bench, max_extra_load=0.1, deadline_ms=10**6, limit=10_000)
    for _ in range(300):
        b.offer()
    raws = 0
    kinds = []
    while (job := b.poll(f"w{raws}")) is not None:
        raws += 1
        kinds.append(job.kind())
    assert kinds.count("raw") == 300
    assert 10 <= kinds.count("parity") <= 10 + 0.1 * 300
