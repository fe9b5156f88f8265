"""Replication with a vote: E+1 answers that are the same settle a query."""

import pytest


@pytest.fixture
def vote(bench):
    """A bench of `workers` names; byzantine=E, stragglers=S, so S+2E+1 copies."""

    def make(byzantine=1, stragglers=0, workers=None, **options):
        copies = stragglers + 2 * byzantine + 1
        b = bench(
            mode="replicated",
            copies=copies,
            check="vote",
            agree=byzantine + 1,
            code={"name": "replication", "stragglers": stragglers, "byzantine": byzantine},
            **options,
        )
        b.live(*(f"w{i}" for i in range(workers or copies + 2)))
        b.watch_restarts()
        return b

    return make


def account(b, worker, key="confirmed_wrong"):
    return b.router.report()["workers"][worker][key]


def compare(b, worker, agree):
    job = b.poll(worker)
    assert job.kind() == "compare"
    b.reply(job, agree=agree)


def copies(b, n):
    jobs = [b.poll(f"w{i}") for i in range(n)]
    assert [job.kind() for job in jobs] == ["raw"] * n
    return jobs


def test_e_plus_one_equal_answers_settle_and_the_rest_is_not_waited_for(vote):
    b = vote()
    client = b.offer()
    jobs = copies(b, 3)
    assert b.poll("w3") is None, "S+2E+1 copies"
    b.answer(jobs[0], b"cat", prediction=b"P")
    assert not client.replies
    b.answer(jobs[1], b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")


def test_copies_that_no_worker_has_yet_are_dropped(vote):
    b = vote()
    client = b.offer()
    for worker in ("w0", "w1"):
        b.answer(b.poll(worker), b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")
    assert b.poll("w2") is None


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_liar_is_outvoted_and_confirmed_whenever_it_answers(vote, turn):
    b = vote()
    client = b.offer()
    jobs = copies(b, 3)
    for i in range(3):
        lies = i == turn
        b.answer(jobs[i], b"dog" if lies else b"cat", prediction=b"LIE" if lies else b"P")
        if i == max(turn, 1):  # the first that differs from one before it
            compare(b, "w3", agree=False)
    assert client.reply == ("exact", b"cat")
    assert account(b, f"w{turn}") == 1
    assert sum(account(b, f"w{i}") for i in range(5)) == 1


def test_a_liar_confirmed_twice_is_quarantined(vote):
    b = vote()
    for _ in range(2):
        b.offer()
        for job, prediction in zip(copies(b, 3), (b"LIE", b"P", b"P"), strict=True):
            b.answer(job, prediction=prediction)
        compare(b, "w3", agree=False)
    assert b.state("w0") == "quarantined"
    assert b.restarted == ["w0"]


def test_two_liars_that_say_the_same_do_not_win_where_e_is_two(vote):
    b = vote(byzantine=2)
    client = b.offer()
    jobs = copies(b, 5)
    b.answer(jobs[0], b"dog", prediction=b"LIE")
    b.answer(jobs[1], b"dog", prediction=b"LIE")
    assert not client.replies
    for job in jobs[2:4]:
        b.answer(job, b"cat", prediction=b"P")
    compare(b, "w5", agree=False)
    assert not client.replies, "two of each"
    b.answer(jobs[4], b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")
    assert [account(b, f"w{i}") for i in range(5)] == [1, 1, 0, 0, 0]


def test_two_liars_with_different_lies(vote):
    b = vote(byzantine=2)
    client = b.offer()
    jobs = copies(b, 5)
    for job, prediction in zip(jobs, (b"L1", b"L2", b"P", b"P", b"P"), strict=True):
        b.answer(job, b"cat" if prediction == b"P" else b"dog", prediction=prediction)
    compare(b, "w5", agree=False)  # L2 with L1
    compare(b, "w5", agree=False)  # the first honest answer with L1 …
    compare(b, "w5", agree=False)  # … and with L2
    assert client.reply == ("exact", b"cat")
    assert [account(b, f"w{i}") for i in range(5)] == [1, 1, 0, 0, 0]
    assert b.counters["disagreements"] == 0, "three were the same at once"


def test_noise_between_devices_is_no_lie(vote):
    b = vote()
    client = b.offer()
    jobs = copies(b, 3)
    b.answer(jobs[0], b"cat", prediction=b"P1")
    b.answer(jobs[1], b"cat", prediction=b"P2")
    compare(b, "w3", agree=True)
    assert client.reply == ("exact", b"cat")
    b.answer(jobs[2], b"cat", prediction=b"P3")
    compare(b, "w3", agree=True)
    assert all(account(b, f"w{i}") == 0 for i in range(5))


def test_without_a_majority_one_more_worker_is_asked(vote):
    b = vote(workers=5)
    client = b.offer()
    for job, prediction in zip(copies(b, 3), (b"L1", b"L2", b"P"), strict=True):
        b.answer(job, prediction=prediction)
    for _ in range(3):
        compare(b, "w4", agree=False)
    assert not client.replies
    fourth = b.poll("w3")
    assert fourth.kind() == "hedge"
    b.answer(fourth, prediction=b"P")
    assert client.reply[0] == "exact"
    assert b.counters["disagreements"] == 1


def test_where_all_differ_and_nobody_is_left_to_ask_none_is_believed(vote):
    b = vote(workers=3)
    client = b.offer()
    for job, prediction in zip(copies(b, 3), (b"A", b"B", b"C"), strict=True):
        b.answer(job, prediction=prediction)
    for _ in range(3):
        b.advance(101)  # a party may compare only where nobody else did for a while
        compare(b, "w0", agree=False)
    assert client.reply[0] == 503
    assert all(account(b, f"w{i}") == 0 for i in range(3))


def test_no_more_than_e_plus_one_further_workers_are_asked(vote):
    b = vote(workers=9)
    client = b.offer()
    for i in range(5):
        b.answer(b.poll(f"w{i}"), prediction=f"P{i}".encode())
        while (job := b.poll("w8")) is not None and job.kind() == "compare":
            b.reply(job, agree=False)
        if job is not None:
            b.router.returned(job)
    assert client.reply[0] == 503
    assert "5 workers" in client.reply[1]


def test_a_copy_that_is_late_is_not_waited_for(vote):
    b = vote(stragglers=1)
    client = b.offer()
    jobs = copies(b, 4)
    b.answer(jobs[0], prediction=b"LIE")
    b.answer(jobs[1], b"cat", prediction=b"P")
    compare(b, "w4", agree=False)
    b.advance(500)  # w3 is frozen
    b.answer(jobs[2], b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")


def test_an_answer_that_cannot_be_used_is_no_vote(vote):
    b = vote()
    client = b.offer()
    jobs = copies(b, 3)
    b.raw_reply(jobs[0], b"garbage")
    b.answer(jobs[1], b"cat", prediction=b"P")
    b.answer(jobs[2], b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")


@pytest.mark.parametrize("lost", [1, 2])
def test_copies_that_are_lost_are_replaced_when_the_others_do_not_agree(vote, lost):
    b = vote(workers=6)
    client = b.offer()
    jobs = copies(b, 3)
    for job in jobs[:lost]:
        b.raw_reply(job, b"garbage") if job is jobs[0] else b.router.returned(job)
    for job in jobs[lost:]:
        b.answer(job, b"cat", prediction=b"P")
    for i in range(3, 3 + lost):
        if not client.replies:
            b.answer(b.poll(f"w{i}"), b"cat", prediction=b"P")
    assert client.reply[1] == b"cat"


def test_one_worker_alone_is_not_believed(vote):
    b = vote(workers=1)
    client = b.offer()
    b.answer(b.poll("w0"), b"cat", prediction=b"P")
    assert client.reply[0] == 503


def test_clients_that_want_the_models_own_answer_are_voted_on_too(vote):
    b = vote()
    client = b.offer(exact_only=True)
    jobs = copies(b, 3)
    b.answer(jobs[0], b"cat", prediction=b"P")
    assert not client.replies
    b.answer(jobs[1], b"cat", prediction=b"P")
    assert client.reply == ("exact", b"cat")


@pytest.mark.parametrize(
    "wrong",
    [
        {"check": "vote", "agree": 5, "mode": "replicated", "copies": 3},
        {"check": "vote", "agree": 2},
        {"check": "locate"},
        {"check": "screen", "screen_quorum": 3, "mode": "systematic"},
        {"check": "screen", "screen_quorum": 4, "mode": "uncoded"},
        {"check": "guess"},
    ],
)
def test_a_plan_whose_check_does_not_fit_is_refused(bench, wrong):
    with pytest.raises(Exception, match=r"plan\.json"):
        bench(**wrong)
