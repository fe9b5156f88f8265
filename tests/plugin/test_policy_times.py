"""What the policy learns of service times, and what it calls late."""

import pytest

MS = 10**6
CLIENTS = 0


@pytest.fixture
def policy(core):
    return core.policy


@pytest.fixture
def times(policy):
    return policy.ServiceTimes(CLIENTS)


def teach(times, kind, ms, count=20):
    for _ in range(count):
        times.taught(kind, int(ms * MS))


def test_a_class_is_what_is_computed_and_the_power_of_two_of_the_bytes(policy):
    kind = policy.ServiceTimes.kind
    assert kind(CLIENTS, 4096) == kind(CLIENTS, 8191) != kind(CLIENTS, 8192)
    assert kind(CLIENTS, 4096) != kind(1, 4096)
    assert kind(CLIENTS, 0) == kind(CLIENTS, 1), "a request may have no body"
    assert kind(CLIENTS, 2**31) + 1 == kind(CLIENTS, 2**32), "a batch of large ones"


def test_a_class_counts_from_twenty_answers(policy, times):
    kind = policy.ServiceTimes.kind(CLIENTS, 1000)
    teach(times, kind, 50, 19)
    assert times.lateAfter(kind) == policy.ServiceTimes.UNKNOWN
    assert times.early(kind) == 50 * MS, "to compare workers, the first will do"
    teach(times, kind, 50, 1)
    assert times.median(kind) == 50 * MS
    assert times.lateAfter(kind) == 75 * MS


@pytest.mark.parametrize(
    ("slow", "factor", "late"),
    [(0, 1, 1.5), (8, 2, 1.5), (16, 2, 2), (16, 20, 3), (100, 20, 3)],
)
def test_late_is_between_one_and_a_half_and_three_medians(policy, times, slow, factor, late):
    kind = policy.ServiceTimes.kind(CLIENTS, 1000)
    teach(times, kind, 10, 256 - slow)
    teach(times, kind, 10 * factor, slow)
    assert times.lateAfter(kind) == pytest.approx(late * 10 * MS)


def test_the_last_256_answers_count(policy, times):
    kind = policy.ServiceTimes.kind(CLIENTS, 1000)
    teach(times, kind, 20, 1000)
    teach(times, kind, 120, 256)
    assert times.median(kind) == 120 * MS


def test_what_is_asked_of_all_classes_follows_sooner(policy, times):
    kind = policy.ServiceTimes.kind(CLIENTS, 1000)
    teach(times, kind, 20, 1000)
    teach(times, kind, 120, 64)
    assert times.median() == times.mean() == 120 * MS
    assert times.median(kind) == 20 * MS
    teach(times, policy.ServiceTimes.kind(1, 1000), 1, 64)
    assert times.median() == 120 * MS, "decoding is no client's service"


def test_an_unknown_class_is_told_by_a_larger_one_else_by_a_smaller_one(policy, times):
    def kind(size):
        return policy.ServiceTimes.kind(CLIENTS, 2**size)

    teach(times, kind(10), 40)
    assert times.median(kind(9)) == times.median(kind(8)) == 40 * MS
    assert times.median(kind(7)) == policy.ServiceTimes.UNKNOWN, "more than two steps"
    assert times.median(kind(12)) == 160 * MS
    assert times.median(policy.ServiceTimes.kind(1, 2**10)) == policy.ServiceTimes.UNKNOWN
    teach(times, kind(13), 99)
    assert times.median(kind(12)) == 99 * MS


# ---------------------------------------------------------------- overtaking


@pytest.mark.parametrize(
    ("begun", "ended", "now", "overtaken"),
    [
        (0, (10, 40), 100, True),
        (0, (10, 60), 100, False),  # it needed more than half
        (10, (10, 40), 100, False),  # it began no later
        (20, (10, 40), 200, False),
    ],
)
def test_a_job_is_overtaken_by_one_begun_later_in_half_its_time(
    policy, begun, ended, now, overtaken
):
    one = policy.Overtaking()
    other, took = ended
    one.ended(7, other * MS, took * MS)
    assert one.overtaken(7, begun * MS, now * MS) == overtaken
    assert not one.overtaken(8, begun * MS, now * MS), "of another class"


def test_overtaking_is_what_all_jobs_that_ended_say(policy):
    import random

    draw = random.Random(4)
    one, ended = policy.Overtaking(), []
    for now in range(0, 3000, 3):
        took = draw.randint(1, 60)
        ended.append((now - took, took))
        one.ended(1, now - took, took)
        begun = now - draw.randint(0, 100)
        expected = any(b > begun and 2 * t <= now - begun for b, t in ended)
        assert one.overtaken(1, begun, now) == expected


# -------------------------------------------------------------------- load


def test_load_is_the_busy_share_of_the_workers(policy):
    load = policy.Load()
    for _ in range(50):
        load.ended(1, 50 * MS)
    for _ in range(5000):
        load.arrived(3, 9)
    assert load.load() == pytest.approx(1 / 3, abs=0.01)


def test_batches_of_one_leave_room_where_eight_take_no_longer(policy):
    load = policy.Load()
    for _ in range(100):
        load.ended(8, 50 * MS)
    for _ in range(1000):
        load.ended(1, 50 * MS)
    for _ in range(5000):
        load.arrived(9, 9)
    assert load.load() == pytest.approx(1 / 8, abs=0.01)
    assert load.largest() == 8
    assert load.fill() == pytest.approx(1, abs=0.01)


# ---------------------------------------------------------------- deadline


def test_no_deadline_unless_one_is_asked_for(policy, times):
    none, auto, fixed = map(policy.Deadline, ("none", "auto", "250"))
    assert none.nanos(times) == auto.nanos(times) == policy.Deadline.NONE
    assert fixed.nanos(times) == fixed.patience(times) == 250 * MS
    assert none.patience(times) == 2000 * MS, "something has to be done some time"
    teach(times, policy.ServiceTimes.kind(CLIENTS, 1000), 300)
    assert auto.nanos(times) == none.patience(times) == 3000 * MS
    assert none.nanos(times) == policy.Deadline.NONE


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("none", True), ("auto", True), ("3.5", True), ("0", False), ("-1", False), ("soon", False)],
)
def test_what_a_deadline_may_be(policy, given, wanted):
    assert policy.Deadline.wanted(given) == wanted
