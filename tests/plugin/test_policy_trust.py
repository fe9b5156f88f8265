"""Whom the policy trusts, and how a worker gets its trust back."""

import random

import jpype
import pytest

SECOND = 10**9
WORKERS = [f"w{i}" for i in range(9)]


@pytest.fixture
def trust(core):
    """Nine workers that have done ten jobs each, in their classes' median time."""
    trust = core.policy.Trust()
    for worker in WORKERS:
        trust.asked(worker)
        done(trust, worker, [1.0] * 11)
    return trust


def done(trust, worker, times, late=False):
    for relative in times:
        trust.answered(worker, relative, late)


def test_who_takes_twice_as_long_as_the_others_is_slow(trust):
    done(trust, "w0", [2.1, 2.1])
    assert trust.trusted("w0"), "the median of five is not slow yet"
    done(trust, "w0", [2.1])
    assert trust.state("w0").word() == "slow"
    assert trust.slow("w0")
    done(trust, "w0", [1.0] * 3)
    assert trust.trusted("w0")


def test_slow_is_relative_where_all_become_slower(trust):
    for _ in range(12):
        for worker in WORKERS:
            done(trust, worker, [6.0])
    assert all(trust.trusted(worker) for worker in WORKERS)


def test_where_more_than_a_quarter_would_be_slow_nobody_is(trust):
    for worker in WORKERS[:2]:
        done(trust, worker, [3.0] * 5)
    assert [trust.state(worker).word() for worker in WORKERS[:2]] == ["slow"] * 2
    done(trust, "w2", [3.0] * 5)
    assert all(trust.trusted(worker) for worker in WORKERS)


def test_one_of_two_may_be_slow(core):
    trust = core.policy.Trust()
    for worker in ("a", "b"):
        trust.asked(worker)
    done(trust, "a", [1.0] * 20)
    done(trust, "b", [9.0] * 4)
    assert trust.state("b").word() == "slow"


def test_the_first_answer_of_a_process_says_nothing_of_its_speed(trust):
    trust.left("w0")
    trust.asked("w0")
    assert trust.first("w0")
    done(trust, "w0", [60.0])
    assert not trust.first("w0")
    assert trust.trusted("w0")


def test_a_new_process_is_unproven_until_it_has_answered(trust):
    trust.left("w0")
    assert not trust.up("w0")
    trust.asked("w0")
    assert trust.state("w0").word() == "unproven"
    done(trust, "w0", [1.0])
    assert trust.trusted("w0")


def test_where_most_are_new_none_is_unproven(core):
    trust = core.policy.Trust()
    for worker in WORKERS:
        trust.asked(worker)
    for worker in WORKERS[:4]:
        done(trust, worker, [1.0])
        assert all(trust.trusted(other) for other in WORKERS)
    done(trust, "w4", [1.0])
    assert trust.state("w5").word() == "unproven"


def test_who_failed_is_suspected_until_it_does_one_well(trust):
    trust.failed("w0")
    assert trust.state("w0").word() == "suspected"
    done(trust, "w0", [1.0])
    assert trust.trusted("w0")
    trust.failed("w0")
    trust.cleared("w0")
    assert trust.trusted("w0"), "it was the request"


def test_an_ejected_worker_is_back_after_two_good_shadows_in_a_row(trust):
    assert trust.eject("w0")
    assert trust.state("w0").word() == "ejected"
    done(trust, "w0", [1.0] * 3)
    assert trust.state("w0").word() == "ejected"
    assert not trust.shadowEnded("w0", True, 0)
    assert not trust.shadowEnded("w0", False, 0)
    assert not trust.shadowEnded("w0", True, 0)
    assert trust.shadowEnded("w0", True, 0)
    assert trust.trusted("w0")


def test_all_but_one_may_be_ejected(trust):
    assert [bool(trust.eject(worker)) for worker in WORKERS] == [True] * 8 + [False]
    assert trust.trusted("w8")


def test_shadows_come_one_at_a_time_ever_more_seldom_until_one_is_good(trust):
    now = 100 * SECOND
    assert trust.shadowDue("w0", now), "at once"
    for gap in (1, 2, 4, 8, 8):
        trust.shadowed("w0")
        assert not trust.shadowDue("w0", now + 99 * SECOND), "one is on its way"
        trust.shadowEnded("w0", False, now)
        assert not trust.shadowDue("w0", now + gap * SECOND - 1)
        now += gap * SECOND
        assert trust.shadowDue("w0", now)
    trust.shadowed("w0")
    trust.shadowEnded("w0", True, now)
    assert trust.shadowDue("w0", now)
    trust.shadowEnded("w0", False, now)
    assert trust.shadowDue("w0", now + SECOND)


def test_a_slow_worker_gets_jobs_where_the_others_would_take_longer(trust):
    done(trust, "w0", [3.0] * 5)
    assert not trust.ownJob("w0", 49, 100), "three times as slow: less than 2 x 100 / 4"
    assert trust.ownJob("w0", 50, 100)
    assert trust.expected("w0", 100) == 300


def test_nobody_takes_the_risk_where_nobody_waits(trust):
    trust.failed("w0")
    assert not trust.ownJob("w0", 0, 100)
    assert trust.ownJob("w0", 25, 100)
    trust.eject("w0")
    assert not trust.ownJob("w0", 10**9, 100), "the ejected one never"


def test_a_slow_worker_counts_as_its_share_of_the_capacity(trust):
    assert trust.counted() == 9
    done(trust, "w0", [4.0] * 5)
    assert trust.counted() == pytest.approx(8.25)
    trust.failed("w1")
    trust.left("w2")
    assert trust.counted() == pytest.approx(6.25)


def test_who_was_scaled_away_is_forgotten(trust):
    live = jpype.java.util.HashSet(["w0", "w1"])
    trust.failed("w0")
    trust.keep(live)
    assert trust.up() == 2
    assert trust.counted() == 1
    assert not trust.up("w5")


@pytest.mark.parametrize("seed", range(4))
def test_the_count_is_made_anew_after_whatever_changes_it(core, seed):
    """It is kept between changes, since each admission asks for it."""
    trust, dice, now = core.policy.Trust(), random.Random(seed), 0
    count = trust.getClass().getDeclaredMethod("count")
    count.setAccessible(True)
    names = [f"w{i}" for i in range(6)]
    seen = set()
    for _ in range(3000):
        worker, now = dice.choice(names), now + SECOND
        slow = [dice.uniform(3, 9)] * 3
        what, *given = dice.choice(
            [
                ("asked", worker),
                ("asked", worker),
                ("left", worker),
                ("failed", worker),
                ("cleared", worker),
                ("eject", worker),
                ("shadowed", worker),
                ("shadowEnded", worker, dice.random() < 0.8, now),
                ("keep", jpype.java.util.HashSet(dice.sample(names, 5))),
                *[("answered", worker, took, False) for took in (0.0, 1.0, 1.0, 1.0, *slow)],
            ]
        )
        for _ in range(3 if what == "answered" else 1):
            getattr(trust, what)(*given)
        kept = trust.counted()
        assert kept == float(count.invoke(trust)), what
        seen.add(kept)
    assert len(seen) > 20, "slow ones count as their share"
