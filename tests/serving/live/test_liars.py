"""Workers that answer wrong: what reaches clients, who is kept from them."""

import time

import pytest
from live_server import png, same

from approxifer_torchserve.serving.cluster import ClusterError

LIE = {"lie": "permuted"}


@pytest.fixture
def room(live):
    """Four places for workers; the models of other tests wait meanwhile."""
    live.cluster.scale("classic", 0)
    live.cluster.scale("mending", 0)
    yield
    live.fault({})
    for model in ("probed", "checked"):
        live.cluster.unregister(model)
    live.cluster.scale("classic", 3)
    live.cluster.scale("mending", 2)


def workers(live, model):
    return live.state(model)["workers"]


def id_of(live, model, pid):
    return next(w.id for w in live.cluster.describe(model)[0].workers if w.pid == pid)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return time.monotonic()
        time.sleep(0.05)
    raise AssertionError("it did not come about in time")


def wrong(light):
    return sum(not same(r.json(), n) for n, r, _ in light.answers if r.status_code == 200)


def test_without_tolerance_wrong_answers_reach_clients(live, load):
    """What the other tests of this file are for; without it they could pass on no lie at all."""
    live.fault({live.pids("tiny")[0]: LIE})
    try:
        with load("tiny", clients=3, pause=0) as light:
            light.wait_for(200)
    finally:
        live.fault({})
    assert wrong(light) > 5


def test_a_pair_lets_no_wrong_answer_through_and_the_liar_is_quarantined(live, load, room):
    live.cluster.register("checked.mar")
    liar = live.pids("checked")[1]
    name = id_of(live, "checked", liar)
    live.fault({liar: LIE})
    with load("checked", clients=3) as light:
        until(lambda: workers(live, "checked")[name]["state"] == "quarantined")
        # The restarted worker is another process, which nobody told to lie: it heals.
        until(lambda: workers(live, "checked")[name]["state"] == "ok", 30)
        light.wait_for(100)
    assert set(light.statuses) == {200}
    assert wrong(light) == 0
    assert {r.headers["x-approxifer-verified"] for _, r, _ in light.answers} == {"true"}
    state = live.quiet("checked")
    honest = [w for i, w in state["workers"].items() if i != name]
    convicted = [w for w in honest if w["confirmed_wrong"] or w["state"] == "quarantined"]
    assert not convicted, (name, state["workers"], live.log("unlike", "quarantined", "probe"))
    assert state["counters"]["disagreements"] >= 1


def test_probes_find_a_silent_liar_and_one_that_cannot_be_healed_is_kept_out(live, load, room):
    live.cluster.register("probed.mar")
    name = id_of(live, "probed", live.pids("probed")[0])

    def lie_wherever_it_runs():
        """The device lies, not the process: its restarts lie too."""
        pids = {w.id: w.pid for w in live.cluster.describe("probed")[0].workers}
        if pids.get(name, -1) > 1:
            live.fault({pids[name]: LIE})

    lie_wherever_it_runs()
    with load("probed", clients=2) as light:
        until(lambda: workers(live, "probed")[name]["state"] == "quarantined")
        quarantined_at = len(light.answers)

        def kept_out():
            lie_wherever_it_runs()
            return workers(live, "probed")[name]["state"] == "kept out"

        until(kept_out, 60)
    after = light.answers[quarantined_at + 10 :]
    assert after
    assert all(same(r.json(), n) for n, r, _ in after), "quarantined workers get no client work"
    others = [w for i, w in workers(live, "probed").items() if i != name]
    assert all(w["state"] != "quarantined" and w["confirmed_wrong"] == 0 for w in others)
    # An operator has changed the device.
    live.fault({})
    live.cluster.readmit("probed", name)
    assert workers(live, "probed")[name]["state"] in ("ok", "restarted")
    live.post("probed", png(1))
    live.quiet("probed")


def test_quarantine_by_hand(live):
    name = id_of(live, "tiny", live.pids("tiny")[2])
    live.cluster.quarantine("tiny", name)
    try:
        before = workers(live, "tiny")[name]["handed"]
        assert workers(live, "tiny")[name]["state"] == "quarantined"
        with pytest.raises(ClusterError, match="half of the workers") as refused:
            live.cluster.quarantine("tiny", id_of(live, "tiny", live.pids("tiny")[0]))
        assert refused.value.status == 409
        with pytest.raises(ClusterError, match="has a worker 1"):
            live.cluster.quarantine("tiny", "1")
        for number in range(20):
            assert live.post("tiny", png(number)).status_code == 200
        assert workers(live, "tiny")[name]["handed"] == before
    finally:
        live.cluster.readmit("tiny", name)
    live.recovered("tiny", 3)
    assert workers(live, "tiny")[name]["state"] in ("ok", "restarted")
