"""Workers that answer wrong: what reaches clients, who is kept from them."""

import pytest
from live_server import WELL, png, same, until

from approxifer_torchserve.serving.server.cluster import ClusterError

LIE = {"lie": "permuted"}
# Gets client work again; how fast it is on this machine is another matter.


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


def wrong(light):
    return sum(not same(r.json(), n) for n, r, _ in list(light.answers) if r.status_code == 200)


def test_without_tolerance_wrong_answers_reach_clients(live, load):
    """What the other tests of this file are for; without it they could pass on no lie at all."""
    liar, *others = live.pids("tiny")
    live.fault({liar: LIE} | {pid: {"delay_s": 0.03} for pid in others})  # so that it is asked
    try:
        with load("tiny", clients=3, pause=0) as light:
            until(lambda: wrong(light) > 5)
    finally:
        live.fault({})


def test_a_pair_lets_no_wrong_answer_through_and_the_liar_is_quarantined(live, load, room):
    live.cluster.register("checked.mar")
    liar = live.pids("checked")[1]
    name = live.id_of("checked", liar)
    live.fault({liar: LIE})
    with load("checked", clients=3) as light:
        until(lambda: live.quarantined("checked", name))
        # The restarted worker is another process, which nobody told to lie: it heals.
        until(lambda: live.workers("checked")[name]["state"] in WELL)
        light.wait_for(100)
    assert set(light.statuses) == {200}
    assert wrong(light) == 0
    assert {r.headers["x-approxifer-verified"] for _, r, _ in light.answers} == {"true"}
    state = live.quiet("checked")
    honest = [w for i, w in state["workers"].items() if i != name]
    blamed = [w for w in honest if w["confirmed_wrong"] or w["state"] == "quarantined"]
    assert not blamed, (name, state["workers"], live.log("unlike", "quarantined", "probe"))
    assert state["counters"]["disagreements"] >= 1


def test_probes_find_a_silent_liar_and_one_that_cannot_be_healed_is_kept_out(live, load, room):
    live.cluster.register("probed.mar")
    name = live.id_of("probed", live.pids("probed")[0])

    # The device lies, not the process: its restarts lie too, from their first answer on.
    live.fault({"*": LIE} | {pid: {} for pid in live.pids("probed")[1:]})
    with load("probed", clients=2) as light:
        until(lambda: live.quarantined("probed", name))
        quarantined_at = len(light.answers)
        until(lambda: live.workers("probed")[name]["state"] == "kept out")
    after = light.answers[quarantined_at + 10 :]
    assert after
    assert all(same(r.json(), n) for n, r, _ in after), "quarantined workers get no client work"
    others = [w for i, w in live.workers("probed").items() if i != name]
    assert all(w["state"] != "quarantined" and w["confirmed_wrong"] == 0 for w in others)
    # An operator has changed the device.
    live.fault({})
    live.cluster.readmit("probed", name)
    assert live.workers("probed")[name]["state"] in WELL
    live.post("probed", png(1))
    live.quiet("probed")


def test_quarantine_by_hand(live):
    name = live.id_of("tiny", live.pids("tiny")[2])
    live.cluster.quarantine("tiny", name)
    try:
        before = live.workers("tiny")[name]["handed"]
        assert live.workers("tiny")[name]["state"] == "quarantined"
        with pytest.raises(ClusterError, match="half of the workers") as refused:
            live.cluster.quarantine("tiny", live.id_of("tiny", live.pids("tiny")[0]))
        assert refused.value.status == 409
        with pytest.raises(ClusterError, match="has a worker 1"):
            live.cluster.quarantine("tiny", "1")
        for number in range(20):
            assert live.post("tiny", png(number)).status_code == 200
        assert live.workers("tiny")[name]["handed"] == before
    finally:
        live.cluster.readmit("tiny", name)
    live.recovered("tiny", 3)
    assert live.workers("tiny")[name]["state"] in WELL
