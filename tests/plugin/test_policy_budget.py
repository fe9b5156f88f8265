"""What copies may cost, whom the policy blames, and whom it lets in."""

import pytest

MS = 10**6


@pytest.fixture
def policy(core):
    return core.policy


# ------------------------------------------------------------------- budget


def figures(budget, load=0.0):
    return {str(key): float(value) for key, value in budget.report(load).items()}


def copy(budget, took=1.0, saved=0.0):
    budget.started(1.0)
    budget.ended(took, 1.0)
    if saved:
        budget.saved(saved)


def test_a_bucket_of_ten_services_for_nine_workers(policy):
    budget = policy.HedgeBudget(0.25)
    for _ in range(10):
        assert budget.affords()
        budget.started(1.0)
    assert not budget.affords()
    budget = policy.HedgeBudget(0.25)
    budget.workers(18)
    for _ in range(20):
        assert budget.affords()
        budget.started(1.0)
    assert not budget.affords()


def test_fewer_workers_than_nine_have_the_same_bucket(policy):
    budget = policy.HedgeBudget(0.25)
    budget.workers(3)
    for _ in range(10):
        budget.started(1.0)
    assert figures(budget)["fill"] == 0


def test_the_emptier_the_bucket_the_higher_the_price(policy):
    budget = policy.HedgeBudget(0.25)
    assert budget.price() == 1
    for _ in range(5):
        budget.started(1.0)
    assert budget.price() == 2
    for _ in range(9):
        budget.started(1.0)
    assert budget.price() == 3, "no more than that, whatever is owed"


def test_a_copy_is_charged_what_it_took_at_most_ten_medians(policy):
    budget = policy.HedgeBudget(0.25)
    copy(budget, took=4.0)
    assert figures(budget)["fill"] == pytest.approx(0.6)
    copy(budget, took=100.0)
    assert figures(budget)["fill"] == pytest.approx(-0.4)


def test_useless_copies_close_the_budget_and_useful_ones_open_it(policy):
    budget = policy.HedgeBudget(0.25)
    assert budget.payoff() == 2
    assert budget.share(0.0) == 0.25
    for _ in range(200):
        copy(budget)
    assert budget.payoff() < 0.01
    assert budget.share(0.0) == 0.01, "never less: it would not be seen that they are of use again"
    for _ in range(64):
        copy(budget, saved=10)
    assert budget.payoff() > 5
    assert budget.share(0.0) == 0.25


def test_one_event_does_not_decide(policy):
    budget = policy.HedgeBudget(0.25)
    for _ in range(500):
        copy(budget)
    budget.saved(10_000)
    assert budget.payoff() <= 20 / 31


@pytest.mark.parametrize(("load", "share"), [(0.0, 0.25), (0.5, 0.25), (0.75, 0.125), (1.0, 0.01)])
def test_the_share_falls_where_workers_have_no_room(policy, load, share):
    assert policy.HedgeBudget(0.25).share(load) == pytest.approx(share)


def test_a_user_may_forbid_extra_work(policy):
    budget = policy.HedgeBudget(0.0)
    for _ in range(10):
        budget.started(1.0)
    for _ in range(10_000):
        budget.earned(1.0, 0.0)
    assert not budget.affords()


def test_originals_fill_the_bucket(policy):
    budget = policy.HedgeBudget(0.25)
    for _ in range(10):
        budget.started(1.0)
    for _ in range(4):
        assert not budget.affords()
        budget.earned(1.0, 0.0)
    assert budget.affords()
    for _ in range(1000):
        budget.earned(1.0, 0.0)
    assert figures(budget)["fill"] == 1


# -------------------------------------------------------------------- blame


def test_two_of_the_last_eight(policy):
    blame = policy.Blame()
    assert not blame.did("a", True)
    for _ in range(7):
        assert not blame.did("a", False)
    assert not blame.did("a", True), "the first is forgotten"
    for _ in range(6):
        assert not blame.did("a", False)
    assert blame.did("a", True)
    blame.forgive("a")
    assert not blame.did("a", True)
    assert not blame.did("b", True), "of another worker"


def test_retries_are_a_fifth_of_the_requests(policy):
    blame = policy.Blame()
    assert sum(blame.mayRetry() for _ in range(20)) == 10, "at first"
    retried = 0
    for _ in range(1000):
        blame.arrived()
        retried += blame.mayRetry()
    assert retried == pytest.approx(200, abs=1)


# ----------------------------------------------------------------- overload


def test_a_wait_is_predicted_from_who_waits(policy):
    overload = policy.Overload()
    assert overload.predicted(18, 1.0, 50 * MS, 9.0) == 100 * MS
    assert overload.predicted(16, 8.0, 50 * MS, 1.0) == 100 * MS
    assert overload.predicted(1, 1.0, 50 * MS, 0.0) == 50 * MS, "somebody will be there"


def test_predictions_that_are_too_short_are_corrected(policy):
    overload = policy.Overload()
    for _ in range(1000):
        overload.waited(300 * MS, overload.predicted(18, 1.0, 50 * MS, 9.0))
    assert overload.correction() == pytest.approx(3, rel=0.05)
    for _ in range(1000):
        overload.waited(10_000 * MS, 100 * MS)
    assert overload.correction() == 4
    for _ in range(1000):
        overload.waited(1 * MS, 100 * MS)
    assert overload.correction() == 1


def admits(overload, wait_ms, waiting=1, places=9, now=0):
    return overload.admits(wait_ms * MS, 50 * MS, 2000 * MS, waiting, places, now)


def test_who_cannot_be_answered_in_half_of_its_deadline_is_refused(policy):
    overload = policy.Overload()
    assert admits(overload, 950)
    assert not admits(overload, 951)


def test_once_somebody_has_waited_for_a_whole_deadline_places_are_bounded(policy):
    overload = policy.Overload()
    overload.observe(1, 0)
    assert admits(overload, 100, waiting=500, now=1999 * MS)
    assert not admits(overload, 100, waiting=32, now=2000 * MS)
    assert admits(overload, 100, waiting=31, now=2000 * MS)
    assert admits(overload, 100, waiting=71, places=72, now=2000 * MS), "a batch for each worker"
    overload.observe(0, 2100 * MS)
    overload.observe(5, 2200 * MS)
    assert admits(overload, 100, waiting=500, now=2300 * MS), "the queue has been empty"


@pytest.mark.parametrize(("ms", "seconds"), [(0, 1), (1, 1), (1000, 1), (1001, 2), (7300, 8)])
def test_retry_after_is_in_whole_seconds(policy, ms, seconds):
    assert policy.Overload.seconds(ms * MS) == seconds
