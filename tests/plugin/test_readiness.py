"""What a probe is told: ready, loading, draining, scaled to 0, quarantined, refused."""

import pytest

WELL = {"registered": True, "wanted": 3, "needed": 2, "live": 3, "usable": 3}


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        ({}, "ready", None),
        ({"live": 2, "usable": 2}, "ready", None),
        ({"wanted": 0, "needed": 1, "live": 1, "usable": 1}, "ready", None),
        ({"live": 1, "usable": 1}, "loading", "1 workers of the 2 that are needed"),
        ({"live": 0, "usable": 0}, "loading", "0 workers of the 2"),
        ({"usable": 1}, "quarantined", "of 3 live workers 2 in quarantine, and 2 others"),
        ({"live": 1, "usable": 0}, "loading", "1 workers of the 2"),
        ({"wanted": 0, "needed": 1, "live": 0, "usable": 0}, "scaled to 0", "0 workers"),
        ({"registered": False}, "draining", "unregistered"),
        ({"registered": False, "wanted": 0, "live": 0, "usable": 0}, "draining", "unregistered"),
    ],
)
def test_states_are_told_apart(core, change, state, reason):
    found = core.Readiness.of(*(WELL | change).values())
    assert str(found.state()) == state
    assert found.ready() is (state == "ready")
    said = found.reason()
    assert (said is None) if reason is None else (reason in str(said))


def test_a_refused_version_says_why(core):
    found = core.Readiness.refused("no plan")
    assert (str(found.state()), found.ready(), str(found.reason())) == ("refused", False, "no plan")


def quarantined(b):
    return {str(worker) for worker in b.router.quarantined()}


def test_who_is_in_quarantine(bench):
    b = bench()
    b.live("9000", "9001", "9002", "9003")
    b.router.quarantine("9001")
    b.router.quarantine("9002")
    assert quarantined(b) == {"9001", "9002"}
    b.router.readmit("9001")
    b.live("9000", "9001", "9003")
    assert quarantined(b) == set(), "who was scaled away is nobody"


def confirm_wrong(b, liar, others, times):
    """Two others agree against the liar, so often."""
    for _ in range(times):
        b.offer()
        jobs = {worker: b.poll(worker) for worker in (liar, others[0])}
        for worker, job in jobs.items():
            b.answer(job, worker.encode(), prediction=worker.encode())
        compare = b.poll(others[1])
        assert compare.kind() == "compare"
        b.reply(compare, agree=False)
        third = b.poll(others[1])
        b.answer(third, others[0].encode(), prediction=others[0].encode())


def test_scaling_down_to_those_in_quarantine_leaves_the_least_bad(bench):
    b = bench(check="pair", quarantine={"wrong": 2, "of": 10, "clean": 2})
    b.live("9000", "9001", "9002", "9003")
    b.watch_restarts()
    confirm_wrong(b, "9000", ("9002", "9003"), 2)
    confirm_wrong(b, "9001", ("9002", "9003"), 2)
    assert quarantined(b) == {"9000", "9001"}
    b.live("9000", "9001", "9002")
    assert quarantined(b) == {"9000", "9001"}, "somebody is left"
    b.live("9000", "9001")
    assert len(quarantined(b)) == 1
    (back,) = {"9000", "9001"} - quarantined(b)
    b.offer()
    assert b.poll(back) is not None, "clients are served"


def test_whom_an_operator_wants_to_stay_comes_after_others(bench):
    b = bench(check="pair", quarantine={"wrong": 2, "of": 10, "clean": 2})
    b.live("9000", "9001", "9002", "9003")
    b.watch_restarts()
    confirm_wrong(b, "9001", ("9002", "9003"), 2)
    assert str(b.router.quarantine("9000")) == "DONE"
    b.live("9000", "9001")
    assert quarantined(b) == {"9000"}
    b.live("9000")
    assert quarantined(b) == set(), "nor does an operator leave nobody"


def test_the_last_worker_is_not_quarantined_again(bench):
    b = bench()
    b.live("9000", "9001")
    b.router.quarantine("9000")
    b.live("9000")
    assert quarantined(b) == set()
    assert str(b.router.quarantine("9000")) == "REFUSED"


def test_without_workers_there_is_nobody_to_readmit(bench):
    b = bench()
    b.live("9000", "9001")
    b.router.quarantine("9000")
    b.live()
    b.live("9000", "9001")
    assert quarantined(b) == set()
