"""A minute of random faults under load; `make chaos` runs the same for ten minutes each."""

import psutil
import pytest

from approxifer_torchserve.bench.chaos.faults import KINDS
from approxifer_torchserve.bench.chaos.run import GRACE_S, Variant

pytestmark = pytest.mark.server


def happened(run):
    """What luck and the machine have to bring about before a run can show anything."""
    counters = run.after["counters"]
    missing = {
        "some kind of fault": {event.kind for event in run.events} != set(KINDS),
        # Which fault hits a worker at work is luck: idle ones get the next job last.
        "a job that was hit": counters["erasures"] + counters["worker_deaths"] == 0,
        "a job that was late": counters["late"] == 0,
        "many faults at once": run.schedule == "B" and run.most_at_once() <= run.size.stragglers,
        # A process that cannot run sees its own stalls: losses and latencies say nothing then.
        "a client that keeps up": run.late_sending_s >= GRACE_S / 2,
    }
    return [what for what, is_missing in missing.items() if is_missing]


def chaos(lab, policy, schedule, seconds):
    """Runs a schedule until it shows something, and checks what holds whatever the policy is."""
    for seed in range(7, 12):
        run = lab.run(Variant(policy), schedule, seconds, seed=seed)
        assert not run.wrong
        assert not run.damaged
        if not (missing := happened(run)):
            break
    assert not missing
    assert len(run.attempts) > 0.7 * seconds * lab.size.rate
    broken = [f"{check.what}: {check.says}" for check in run.checks() if not check.ok]
    assert not broken, broken
    # Not worker_deaths: a worker that is killed between two jobs takes nobody's request with it.
    killed = [event for event in run.events if event.kind == "kill"]
    assert not any(psutil.pid_exists(event.pid) for event in killed)
    if schedule == "A":
        assert all(attempt.status == 200 for attempt in run.attempts)
    return run


@pytest.fixture(scope="module")
def hedging(lab):
    with lab.served.serving("hedge", lab.size.workers):
        yield lab


@pytest.mark.parametrize(("schedule", "seconds"), [("A", 18), ("B", 16)])
def test_no_answer_is_lost_or_wrong_while_workers_fail(hedging, schedule, seconds):
    run = chaos(hedging, "hedge", schedule, seconds)
    assert run.after["counters"]["hedges"] > 0
    assert not run.errors, "nobody asked for reconstruction"


def test_a_model_that_is_coded_throughout_keeps_the_same_promises(lab):
    with lab.served.serving("classic", lab.size.workers):
        a = chaos(lab, "classic", "A", 12)
        b = chaos(lab, "classic", "B", 8)
    # A query whose group broke goes alone and is exact; all others are reconstructed.
    assert len(a.errors) > 0.5 * len(a.attempts)
    assert b.errors
