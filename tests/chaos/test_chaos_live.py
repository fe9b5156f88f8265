"""A minute of random faults under load; `make chaos` runs the same for ten minutes each."""

import psutil
import pytest

pytestmark = pytest.mark.server


@pytest.mark.parametrize(("schedule", "seconds"), [("A", 32), ("B", 28)])
def test_no_answer_is_lost_or_wrong_while_workers_fail(lab, schedule, seconds):
    run = lab.run(schedule, seconds, seed=7)
    assert len(run.attempts) > 0.7 * seconds * lab.size.rate
    kinds = {event.kind for event in run.events}
    assert kinds == {"kill", "freeze", "slow", "garbage"}, "some fault was never brought about"
    broken = [f"{check.what}: {check.says}" for check in run.checks() if not check.ok]
    assert not broken, broken
    # It was chaos: the plugin had to do something.
    assert run.after["counters"]["hedges"] > 0
    assert run.after["counters"]["erasures"] > 0
    # Not worker_deaths: a worker that is killed between two jobs takes nobody's request with it.
    killed = [event for event in run.events if event.kind == "kill"]
    assert not any(psutil.pid_exists(event.pid) for event in killed)
    if schedule == "A":
        assert all(attempt.status == 200 for attempt in run.attempts)
    else:
        assert run.most_at_once() > lab.size.stragglers
