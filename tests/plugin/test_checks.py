"""Verification by pairs, probes, ledger and quarantine."""

import pytest


@pytest.fixture
def pair(bench):
    def make(workers=4, **options):
        b = bench(check="pair", **options)
        b.live(*(f"900{i}" for i in range(workers)))
        b.watch_restarts()
        return b

    return make


def compare(b, worker, agree):
    job = b.poll(worker)
    assert job.kind() == "compare"
    b.reply(job, agree=agree)
    return job


def test_two_workers_that_say_the_same_answer_the_client(pair):
    b = pair()
    client = b.offer()
    first = b.poll("9000")
    assert b.job(first)[0] == {"kind": "raw", "want": True}
    assert b.poll("9000") is None, "the second copy goes to another worker"
    second = b.poll("9001")
    b.answer(first, b"cat", prediction=b"P")
    assert not client.replies, "one answer proves nothing"
    b.answer(second, b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")
    assert b.poll("9002") is None, "equal bytes need no comparison"


def test_a_client_that_wants_the_models_own_answer_gets_it_checked(pair):
    b = pair()
    client = b.offer(exact_only=True)
    first, second = b.poll("9000"), b.poll("9001")
    b.answer(first, b"cat", prediction=b"P")
    assert not client.replies
    b.answer(second, b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")


def test_bytes_that_differ_are_compared_with_tolerance_by_a_third_worker(pair):
    b = pair()
    client = b.offer()
    first, second = b.poll("9000"), b.poll("9001")
    b.answer(first, b"cat", prediction=b"P1")
    b.answer(second, b"cat2", prediction=b"P2")
    assert b.poll("9000") is None, "a party does not compare"
    assert b.poll("9001") is None
    job = compare(b, "9002", agree=True)
    assert b.job(job)[1] == {"first": b"P1", "second": b"P2"}
    assert client.reply == ("exact", b"cat")


def test_on_disagreement_a_third_worker_decides_and_the_liar_is_confirmed(pair):
    b = pair()
    client = b.offer()
    liar, honest = b.poll("9000"), b.poll("9001")
    b.answer(liar, b"dog", prediction=b"LIE")
    b.answer(honest, b"cat", prediction=b"P")
    compare(b, "9002", agree=False)
    assert not client.replies
    assert b.poll("9000") is None, "neither of the two is asked again"
    third = b.poll("9003")
    b.answer(third, b"cat", prediction=b"P")  # the bytes of the second: nothing to compare
    assert client.reply == ("exact", b"cat")
    workers = b.router.report()["workers"]
    assert workers["9000"]["confirmed_wrong"] == 1
    assert workers["9001"]["confirmed_wrong"] == workers["9003"]["confirmed_wrong"] == 0
    assert workers["9001"]["suspicions"] == 1, "a suspicion, and no more"
    assert b.counters["disagreements"] == 1


def lie(b, liar="9000", honest=("9001", "9003"), comparer="9002"):
    client = b.offer()
    jobs = {liar: b.poll(liar), honest[0]: b.poll(honest[0])}
    b.answer(jobs[liar], b"dog", prediction=b"LIE")
    b.answer(jobs[honest[0]], b"cat", prediction=b"P")
    compare(b, comparer, agree=False)
    b.answer(b.poll(honest[1]), b"cat", prediction=b"P")
    return client


def test_a_worker_confirmed_wrong_twice_gets_no_client_work_and_is_restarted(pair):
    b = pair()
    for _ in range(2):
        assert lie(b).reply == ("exact", b"cat")
    assert b.state("9000") == "quarantined"
    assert b.restarted == ["9000"]
    b.offer()
    assert b.poll("9000") is None
    assert b.poll("9001") is not None
    assert [b.state(w) for w in ("9001", "9002", "9003")] == ["ok"] * 3


def test_without_probes_a_restarted_worker_is_readmitted_after_a_while(pair):
    b = pair()
    for _ in range(2):
        lie(b)
    b.advance(10_100)
    b.guard()
    assert b.state("9000") == "ok"


def test_the_timer_of_an_earlier_stay_does_not_end_a_later_one(pair):
    b = pair()
    for _ in range(2):
        lie(b)
    b.advance(6_000)
    assert str(b.router.readmit("9000")) == "DONE"
    for _ in range(2):
        lie(b)
    assert b.state("9000") == "quarantined"
    b.advance(5_000)
    b.guard()
    assert b.state("9000") == "quarantined"
    b.advance(5_100)
    b.guard()
    assert b.state("9000") == "ok"


def test_no_timer_ends_a_stay_that_an_operator_asked_for(pair):
    b = pair()
    for _ in range(2):
        lie(b)
    assert str(b.router.quarantine("9000")) == "DONE"
    b.advance(10_100)
    b.guard()
    assert b.state("9000") == "quarantined"


def test_all_three_different_is_an_error_and_confirms_nobody_wrong(pair):
    b = pair()
    client = b.offer()
    jobs = [b.poll("9000"), b.poll("9001")]
    b.answer(jobs[0], b"a", prediction=b"A")
    b.answer(jobs[1], b"b", prediction=b"B")
    compare(b, "9002", agree=False)
    b.answer(b.poll("9003"), b"c", prediction=b"C")
    compare(b, "9002", agree=False)
    compare(b, "9002", agree=False)
    assert client.reply[0] == 503
    assert all(w["confirmed_wrong"] == 0 for w in b.router.report()["workers"].values())


def test_audit_answers_at_once_and_finds_the_liar_afterwards(pair):
    b = pair(verify_wait=False)
    client = b.offer()
    liar, honest = b.poll("9000"), b.poll("9001")
    b.answer(liar, b"dog", prediction=b"LIE")
    assert client.reply == ("exact", b"dog")
    b.answer(honest, b"cat", prediction=b"P")
    compare(b, "9002", agree=False)
    b.answer(b.poll("9003"), b"cat", prediction=b"P")
    assert b.router.report()["workers"]["9000"]["confirmed_wrong"] == 1
    assert len(client.replies) == 1


def test_the_copy_of_a_dead_worker_is_replaced(pair):
    b = pair()
    client = b.offer()
    first, second = b.poll("9000"), b.poll("9001")
    b.die(first)
    b.answer(second, b"cat", prediction=b"P")
    b.answer(b.poll("9002"), b"cat", prediction=b"P")
    assert client.reply[1] == b"cat"


def test_in_an_audit_the_copy_of_a_dead_worker_is_replaced_too(pair):
    b = pair(verify_wait=False)
    client = b.offer()
    liar, dying = b.poll("9000"), b.poll("9001")
    b.answer(liar, b"dog", prediction=b"LIE")
    b.die(dying)
    b.answer(b.poll("9002"), b"cat", prediction=b"P")
    compare(b, "9001", agree=False)
    b.answer(b.poll("9003"), b"cat", prediction=b"P")
    assert b.router.report()["workers"]["9000"]["confirmed_wrong"] == 1
    assert len(client.replies) == 1


def test_a_frozen_hedge_does_not_keep_a_third_worker_from_deciding(pair):
    b = pair(workers=5)
    client = b.offer()
    b.poll("9000")  # frozen for good
    liar = b.poll("9001")
    b.advance(101)
    b.answer(b.poll("9002"), b"cat", prediction=b"P")
    b.answer(liar, b"dog", prediction=b"LIE")
    compare(b, "9003", agree=False)
    b.answer(b.poll("9003"), b"cat", prediction=b"P")
    assert client.reply[1] == b"cat"


def test_a_worker_in_quarantine_is_not_waited_for_when_all_others_differ(pair):
    b = pair(workers=4)
    assert str(b.router.quarantine("9003")) == "DONE"
    client = b.offer()
    for worker, prediction in (("9000", b"A"), ("9001", b"B")):
        b.answer(b.poll(worker), prediction=prediction)
    compare(b, "9002", agree=False)
    b.answer(b.poll("9002"), prediction=b"C")
    b.advance(101)  # no impartial worker is left
    compare(b, "9000", agree=False)
    compare(b, "9000", agree=False)
    assert client.reply[0] == 503


def test_nobody_works_for_a_client_that_has_left(pair):
    b = pair()
    client = b.offer()
    first = b.poll("9000")
    client.hung_up = True
    b.guard()
    assert b.poll("9001") is None
    b.answer(first, b"cat", prediction=b"P")
    assert b.poll("9002") is None
    assert not client.replies


def test_bad_input_is_answered_by_the_first_worker_that_says_so(pair):
    b = pair()
    client = b.offer()
    first = b.poll("9000")
    b.poll("9001")
    b.answer(first, error={"status": 400, "message": "not an image"})
    assert client.reply == (400, "not an image")


def test_the_only_worker_answers_unverified(pair):
    b = pair(workers=1)
    client = b.offer()
    b.answer(b.poll("9000"), b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")


@pytest.fixture
def probing(bench):
    b = bench(probe_every_s=60)
    b.probe_with(b"KNOWN")
    b.watch_restarts()
    b.live("9000", "9001", "9002")
    return b


def probe_round(b, wrong=(), comparer="9001"):
    """Answers the probe of every worker; those in `wrong` answer something else."""
    for worker in b.workers:
        job = b.poll(worker)
        if job is None:
            continue
        assert job.kind() == "probe"
        b.answer(job, b"x", prediction=b"WRONG" if worker in wrong else b"KNOWN")
        if worker in wrong:
            compare(b, comparer, agree=False)


def test_every_worker_is_probed_at_its_rate(probing):
    b = probing
    jobs = [b.poll(w) for w in b.workers]
    assert [job.kind() for job in jobs] == ["probe"] * 3
    for job in jobs:
        b.answer(job, b"x", prediction=b"KNOWN")
    b.advance(30_000)
    b.guard()
    assert b.poll("9000") is None
    b.advance(31_000)
    b.guard()
    assert b.poll("9000").kind() == "probe"


def test_a_probe_never_comes_before_a_clients_query(probing):
    probing.offer()
    assert probing.poll("9000").kind() == "raw"


def test_silent_corruption_is_caught_by_probes_and_clean_probes_readmit(probing):
    b = probing
    probe_round(b, wrong={"9000"})
    assert b.state("9000") == "ok"
    b.advance(61_000)
    b.guard()
    probe_round(b, wrong={"9000"})
    assert b.state("9000") == "quarantined"
    assert b.restarted == ["9000"]
    for _ in range(2):
        b.advance(600)
        b.guard()
        probe_round(b)
    assert b.state("9000") == "ok"


def test_a_worker_whose_answer_is_no_number_is_probed_soon_and_the_client_may_be_the_cause(probing):
    b = probing
    probe_round(b)
    b.advance(600)
    for wrong, state in (((), "ok"), (("9000",), "ok"), (("9000",), "quarantined")):
        client = b.offer()
        b.answer(b.poll("9000"), b"nan", erasure="prediction holds NaN or Inf")
        b.answer(b.poll("9001"), b"cat", prediction=b"P")
        assert client.reply == ("hedged", b"cat")
        probe_round(b, wrong)
        assert b.state("9000") == state
        b.advance(600)


def test_a_worker_that_restarts_do_not_heal_is_kept_out_until_readmitted(probing):
    b = probing
    for _ in range(2):
        probe_round(b, wrong={"9000"})
        b.advance(61_000)
        b.guard()
    for _ in range(4):
        b.advance(600)
        b.guard()
        probe_round(b, wrong={"9000"})
    assert b.state("9000") == "kept out"
    assert b.restarted == ["9000"] * 3
    assert str(b.router.readmit("9000")) == "DONE"
    assert b.state("9000") == "ok"


def test_never_more_than_half_of_the_workers_are_quarantined(bench):
    b = bench()
    b.live("9000", "9001", "9002")
    assert str(b.router.quarantine("9000")) == "DONE"
    assert str(b.router.quarantine("9001")) == "REFUSED"
    assert (b.state("9000"), b.state("9001")) == ("quarantined", "ok")
    assert str(b.router.quarantine("9999")) == "UNKNOWN"


def test_quarantine_by_hand_lasts_until_readmission_by_hand(probing):
    b = probing
    assert str(b.router.quarantine("9000")) == "DONE"
    for _ in range(5):
        b.advance(600)
        b.guard()
        probe_round(b)
    assert b.state("9000") == "quarantined"
    assert str(b.router.readmit("9000")) == "DONE"
    assert b.state("9000") == "ok"


def test_a_hedge_that_answers_while_two_are_compared_changes_no_verdict(pair):
    b = pair(workers=5)
    client = b.offer()
    first, second = b.poll("9000"), b.poll("9001")
    b.answer(first, b"dog", prediction=b"LIE")
    b.advance(101)
    hedge = b.poll("9002")
    b.answer(second, b"cat", prediction=b"P")
    comparing = b.poll("9003")
    b.answer(hedge, b"cat", prediction=b"P")
    assert not client.replies
    b.reply(comparing, agree=False)
    assert client.reply[1] == b"cat"
    assert b.router.report()["workers"]["9000"]["confirmed_wrong"] == 1
    assert b.counters["disagreements"] == 0


def test_a_vote_that_nobody_compared_confirms_nobody_wrong(pair):
    """Two honest workers differ in the last digits, and a third, a hedge, answers meanwhile."""
    b = pair(workers=5)
    client = b.offer()
    first, second = b.poll("9000"), b.poll("9001")
    b.answer(first, b"cat", prediction=b"P1")
    b.advance(101)
    hedge = b.poll("9002")
    b.answer(second, b"cat", prediction=b"P2")
    comparing = b.poll("9003")
    b.answer(hedge, b"cat", prediction=b"P3")
    b.reply(comparing, agree=True)
    assert client.reply[1] == b"cat"
    assert all(w["confirmed_wrong"] == 0 for w in b.router.report()["workers"].values())


def test_a_comparison_that_failed_confirms_nobody_wrong(pair):
    """On a busy machine a comparison may be late three times; that says nothing of the answers."""
    b = pair(workers=5)
    client = b.offer()
    first, second = b.poll("9000"), b.poll("9001")
    b.answer(first, b"cat", prediction=b"P1")
    b.answer(second, b"cat", prediction=b"P2")
    for comparer in ("9002", "9003", "9004"):
        job = b.poll(comparer)
        assert job.kind() == "compare"
        b.die(job)
    third = b.poll("9003")
    assert third.kind() == "hedge"
    b.answer(third, b"cat", prediction=b"P1")
    assert client.reply[1] == b"cat"
    assert all(w["confirmed_wrong"] == 0 for w in b.router.report()["workers"].values())
