"""A minute of random faults under load; `make chaos` runs the same for ten minutes each."""

import psutil
import pytest

from approxifer_torchserve.bench.chaos_run import Variant

pytestmark = pytest.mark.server


def chaos(lab, policy, schedule, seconds):
    """Runs a schedule and checks what holds whatever the policy is."""
    run = lab.run(Variant(policy), schedule, seconds, seed=7)
    assert len(run.attempts) > 0.7 * seconds * lab.size.rate
    kinds = {event.kind for event in run.events}
    assert kinds == {"kill", "freeze", "slow", "garbage"}, "some fault was never brought about"
    broken = [f"{check.what}: {check.says}" for check in run.checks() if not check.ok]
    assert not broken, broken
    # Not worker_deaths: a worker that is killed between two jobs takes nobody's request with it.
    killed = [event for event in run.events if event.kind == "kill"]
    assert not any(psutil.pid_exists(event.pid) for event in killed)
    if schedule == "A":
        assert all(attempt.status == 200 for attempt in run.attempts)
    else:
        assert run.most_at_once() > lab.size.stragglers
    # It was chaos. Which fault hits a worker at work is luck: idle ones get the next job last.
    counters = run.after["counters"]
    assert counters["erasures"] + counters["worker_deaths"] + counters["late"] > 0
    return run


@pytest.fixture(scope="module")
def hedging(lab):
    with lab.serving("hedge"):
        yield lab


@pytest.mark.parametrize(("schedule", "seconds"), [("A", 18), ("B", 16)])
def test_no_answer_is_lost_or_wrong_while_workers_fail(hedging, schedule, seconds):
    run = chaos(hedging, "hedge", schedule, seconds)
    assert run.after["counters"]["hedges"] > 0
    assert not run.errors, "nobody asked for reconstruction"


def test_a_model_that_is_coded_throughout_keeps_the_same_promises(lab):
    with lab.serving("classic"):
        a = chaos(lab, "classic", "A", 12)
        b = chaos(lab, "classic", "B", 8)
    # A query whose group broke goes alone and is exact; all others are reconstructed.
    for run in (a, b):
        assert len(run.errors) > 0.5 * len(run.attempts)
