"""The life of a single query: hand-out, deaths, erasures, deadlines, settle once."""

import struct

import pytest
from router_bench import frame


def test_an_answer_settles_once(bench):
    b = bench()
    client = b.offer()
    job = b.poll("9000")
    b.answer(job, b"cat")
    b.answer(job, b"dog")
    b.die(job)
    b.router.returned(job)
    assert client.reply == ("exact", b"cat")
    assert b.counters["duplicate_callbacks"] == 2
    assert b.router.report()["in_flight"] == 0


def test_the_query_of_a_dead_worker_is_sent_again_at_once(bench):
    b = bench()
    client = b.offer()
    b.die(b.poll("9000"))
    again = b.poll("9001")
    b.answer(again, b"cat")
    assert client.reply == ("hedged", b"cat")


def test_a_query_in_flight_at_two_deaths_is_answered_500_and_never_sent_again(bench):
    b = bench()
    poison, other = b.offer(), b.offer()
    batch = [b.poll("9000"), b.more("9000")]
    for job in batch:
        b.die(job)
    first = b.poll("9001")
    assert b.more("9001") is None, "what may kill workers never shares a batch again"
    second = b.poll("9002")
    jobs = {bytes(job.client().request().getRequestId().encode()): job for job in (first, second)}
    b.die(jobs[poison.proxy.request().getRequestId().encode()])
    b.answer(jobs[other.proxy.request().getRequestId().encode()], b"fine")
    assert other.reply == ("hedged", b"fine")
    status, message = poison.reply
    assert status == 500
    assert "2 worker deaths" in message
    assert b.poll("9003") is None


def test_a_death_is_final_for_requests_that_must_not_run_twice(bench):
    b = bench(idempotent=False)
    client = b.offer()
    b.die(b.poll("9000"))
    assert client.reply[0] == 500
    assert "idempotent" in client.reply[1]


def test_what_a_worker_was_sent_before_it_was_scaled_away_must_not_run_twice_either(bench):
    b = bench(idempotent=False)
    b.live("9000", "9001")
    put_back, forgotten = b.offer(), b.offer()
    b.router.returned(b.poll("9000"))
    assert put_back.reply[0] == 500
    assert "idempotent" in put_back.reply[1]
    b.poll("9000")
    b.advance(600)
    b.live("9001")  # gone, and TorchServe never said so
    assert forgotten.reply[0] == 500
    assert "idempotent" in forgotten.reply[1]
    assert b.poll("9001") is None


def test_a_job_that_scale_down_puts_back_goes_to_the_next_worker_and_stays_exact(bench):
    b = bench()
    client = b.offer()
    job = b.poll("9000")
    b.router.returned(job)
    b.die(job)  # TorchServe sometimes calls both
    b.answer(b.poll("9001"), b"cat")
    assert client.reply == ("exact", b"cat")


def test_a_job_whose_worker_is_gone_is_sent_again_although_nobody_called_back(bench):
    b = bench()
    b.live("9000", "9001")
    client = b.offer()
    b.poll("9000")
    b.advance(600)
    b.live("9001")
    b.answer(b.poll("9001"), b"cat")
    assert client.reply[1] == b"cat"
    assert b.counters["unreturned"] == 1


def test_a_reply_that_is_no_frame_is_an_erasure(bench):
    b = bench()
    client = b.offer()
    b.raw_reply(b.poll("9000"), b"AXF1\xff\xff\xff\xff")
    assert not client.replies
    assert b.poll("9000") is None, "another worker first"
    b.raw_reply(b.poll("9001"), b"garbage")
    status, message = client.reply
    assert status == 503
    assert "malformed" in message


@pytest.mark.parametrize("size", [0, 1, 250, 12345])
def test_an_answer_alone_in_its_frame_is_taken_out_whole(bench, size):
    b = bench()
    client = b.offer()
    b.raw_reply(b.poll("9000"), frame(kind="raw", sections=[("answer", b"x" * size)]))
    assert client.reply == ("exact", b"x" * size)


@pytest.mark.parametrize(
    "declared", ["3", "5", "-4", "4.0", "", "99999999999", '4],["more",0', "4 "]
)
def test_the_usual_frame_is_not_trusted_further_than_any_other(bench, declared):
    b = bench()
    client = b.offer()
    text = b'{"kind":"raw","sections":[["answer",%s]]}' % declared.encode()
    b.raw_reply(b.poll("9000"), b"AXF1" + struct.pack(">I", len(text)) + text + b"4444")
    if "more" in declared or declared in ("4 ", "4.0"):
        assert client.reply == ("exact", b"4444"), "unusual, but right"
    else:
        assert not client.replies, "an erasure: another worker is asked"


def test_the_usual_jobs_are_worded_as_workers_know_them(bench):
    b = bench(mode="systematic", reconstruct=True)
    b.offer()
    header = str(b.poll("9000").payload().getHeaders()["x-approxifer-job"])
    assert header.split(" ", 2)[2] == '{"kind":"raw","want":true}'
    b = bench()
    b.offer()
    header = str(b.poll("9000").payload().getHeaders()["x-approxifer-job"])
    assert header.split(" ", 2)[2] == '{"kind":"raw","want":false}'


def test_nan_is_believed_only_when_a_second_worker_says_so_too(bench):
    b = bench()
    honest, nan = b.offer(), b.offer()
    first, second = b.poll("9000"), b.poll("9001")
    b.answer(first, b"NaN", erasure="prediction holds NaN or Inf")
    b.answer(second, b"NaN", erasure="prediction holds NaN or Inf")
    assert not honest.replies
    b.advance(300)
    jobs = [b.poll("9002"), b.poll("9003")]
    for job in jobs:
        if job.client().request().getRequestId() == honest.proxy.request().getRequestId():
            b.answer(job, b"1.5")
        else:
            b.answer(job, b"NaN", erasure="prediction holds NaN or Inf")
    assert honest.reply == ("hedged", b"1.5")
    assert nan.reply == ("hedged", b"NaN")


def test_an_error_of_the_item_is_its_answer(bench):
    b = bench()
    client = b.offer()
    b.answer(b.poll("9000"), error={"status": 400, "message": "not an image"})
    assert client.reply == (400, "not an image")


def test_a_full_queue_answers_503_in_our_own_words(bench):
    b = bench(limit=2)
    waiting = [b.offer(), b.offer()]
    status, message = b.offer().reply
    assert status == 503
    assert "jobQueueSize 2" in message
    assert not waiting[0].replies
    assert b.router.capacity() == 0


def test_deadline_and_client_expiry_are_answered_and_a_client_that_left_is_dropped(bench):
    b = bench(deadline_ms=300)
    b.live("9000")
    expired = b.offer(expires=b.now // 1_000_000 + 50)
    overdue, left = b.offer(), b.offer()
    left.hung_up = True
    b.advance(60)
    b.guard()
    assert expired.reply[0] == 504
    b.advance(300)
    b.guard()
    assert overdue.reply[0] == 503
    assert "deadline" in overdue.reply[1]
    assert not left.replies
    assert b.poll("9000") is None, "nobody waits for these any more"


def test_a_request_may_bring_its_own_deadline(bench):
    b = bench(deadline_ms=5000)
    b.live("9000")
    hurried, patient = b.offer(deadline_ms=100), b.offer()
    b.advance(110)
    b.guard()
    assert hurried.reply[0] == 503
    assert "100 ms" in hurried.reply[1]
    assert not patient.replies


def test_no_worker_and_unregistration_leave_no_client_hanging(bench):
    b = bench()
    b.live("9000")
    client = b.offer()
    b.live()
    b.advance(250)
    b.guard()
    assert client.reply[0] == 503
    b.live("9000")
    held = b.offer()
    b.poll("9000")
    b.live("9000", registered=False)
    assert b.offer().reply[0] == 503
    b.advance(600)
    b.live(registered=False)
    assert held.reply[0] == 503
    assert b.router.finished()


def test_a_model_that_torchserve_puts_back_is_served_again(bench):
    b = bench()
    b.live("9000", registered=False)
    assert b.offer().reply[0] == 503
    b.live("9000")
    client = b.offer()
    b.answer(b.poll("9000"), b"cat")
    assert client.reply == ("exact", b"cat")


def test_explain_goes_alone_and_describe_is_not_framed(bench):
    b = bench()
    b.offer()
    b.offer(codable=False)
    describe = b.offer(codable=False, framed=False)
    assert b.poll("9000").kind() == "raw"
    assert b.more("9000") is None
    b.poll("9001")
    job = b.poll("9002")
    assert "x-approxifer-job" not in dict(job.payload().getHeaders())
    b.raw_reply(job, b"{}")
    assert describe.reply == ("exact", b"{}")


def test_client_headers_of_ours_are_dropped_and_the_job_header_is_signed(bench):
    b = bench()
    b.offer(b"png", headers={"X-Approxifer-Job": "v1 forged {}", "accept": "text/plain"})
    payload = b.poll("9000").payload()
    assert set(map(str, payload.getHeaders())) == {"x-approxifer-job", "accept"}


def test_copies_of_a_replicated_query_go_to_distinct_workers(bench):
    b = bench(mode="replicated", copies=2, queries=1, num_workers=2, quorum=None)
    client = b.offer()
    first = b.poll("9000")
    assert b.poll("9000") is None
    second = b.poll("9001")
    b.answer(second, b"fast")
    b.answer(first, b"slow")
    assert client.reply == ("exact", b"fast")


def test_auto_lateness_follows_the_service_time_within_bounds(bench):
    b = bench(late_after_ms="auto", deadline_ms=2000)
    assert b.router.report()["late_after_ms"] == 200  # cold
    for _ in range(64):
        b.offer()
        job = b.poll("9000")
        b.advance(15)
        b.answer(job)
    assert b.router.report()["late_after_ms"] == pytest.approx(22.5)
    for _ in range(600):
        b.offer()
        job = b.poll("9000")
        b.answer(job)
    assert b.router.report()["late_after_ms"] == 5  # never less


def test_one_model_versions_service_time_says_nothing_of_anothers(bench):
    quick, other = (bench(late_after_ms="auto", deadline_ms=2000) for _ in range(2))
    for _ in range(64):
        quick.offer()
        quick.answer(quick.poll("9000"))
    assert quick.router.report()["late_after_ms"] == 5
    assert other.router.report()["late_after_ms"] == 200  # still cold


def test_only_what_the_plugin_could_not_answer_says_when_to_come_back(bench):
    b = bench(deadline_ms=100)
    b.live("w")
    broken, late = b.offer(), b.offer()
    b.answer(b.poll("w"), error={"status": 503, "message": "Prediction failed"})
    b.advance(150)
    b.guard()
    assert (broken.reply, broken.retry_after) == ((503, "Prediction failed"), None)
    assert (late.reply[0], late.retry_after) == (503, 1)
