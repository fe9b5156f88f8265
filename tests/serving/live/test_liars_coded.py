"""Liars under the checks that come with a code: copies that vote, parities, a locator."""

import pytest
from live_server import WELL, expected, same, until

LIE = {"lie": "permuted"}
GROSS = {"lie": "huge"}
# Gets client work; how fast it is on this machine is another matter.
KEPT = ("quarantined", "kept out")


@pytest.fixture(scope="module")
def space(live):
    """Places for eight workers beside the plain model's; the models of other tests wait."""
    scaled = {"tiny": 3, "classic": 3, "mending": 2}
    for model in scaled:
        live.cluster.scale(model, 0)
    yield
    for model, workers in scaled.items():
        live.cluster.scale(model, workers)


@pytest.fixture
def room(live, space):
    """Registers a model, until the test is over."""
    registered = []

    def register(model):
        live.cluster.register(f"{model}.mar")
        registered.append(model)

    yield register
    live.fault({})
    for model in registered:
        live.cluster.unregister(model)


def lie(live, model, index, fault):
    """Makes one worker lie; returns its id."""
    worker = live.cluster.describe(model)[0].workers[index]
    live.fault({worker.pid: fault})
    return worker.id


def verified(light):
    return [r.headers["x-approxifer-verified"] for _, r, _ in list(light.answers)]


def wrong(light):
    return [n for n, r, _ in light.answers if r.status_code == 200 and not same(r.json(), n)]


def honest_are_unharmed(live, model, liar):
    state = live.quiet(model)
    honest = {i: w for i, w in state["workers"].items() if i != liar}
    harmed = {i: w for i, w in honest.items() if w["confirmed_wrong"] or w["state"] in KEPT}
    assert not harmed, (liar, harmed, live.log("unlike", "quarantined", "probe"))
    return state


def test_three_copies_that_vote_let_no_wrong_answer_through(live, load, room):
    room("voted")
    liar = lie(live, "voted", 1, LIE)
    with load("voted", clients=3) as light:
        until(lambda: live.quarantined("voted", liar))
        # The restarted worker is another process, which nobody told to lie: it heals.
        until(lambda: live.workers("voted")[liar]["state"] in WELL)
        light.wait_for(100)
    assert set(light.statuses) == {200}
    assert wrong(light) == []
    assert {r.headers["x-approxifer-verified"] for _, r, _ in light.answers} == {"true"}
    honest_are_unharmed(live, "voted", liar)


def test_a_gross_liar_among_screened_workers_reaches_nobody_and_is_quarantined(live, load, room):
    room("screened")
    with load("screened", clients=3) as light:
        # Honest so far: what a screen settled is most of the work where none is late.
        until(lambda: verified(light).count("screened") > 10)
        liar = lie(live, "screened", 2, GROSS)
        until(lambda: live.quarantined("screened", liar))
        until(lambda: live.workers("screened")[liar]["state"] in WELL)
        light.wait_for(len(light.answers) + 60)
    assert set(light.statuses) == {200}
    assert wrong(light) == []
    state = honest_are_unharmed(live, "screened", liar)
    assert state["counters"]["screened"] > 0
    assert state["counters"]["suspected"] > 0


def test_a_located_liar_is_left_out_and_suspected(live, load, room):
    room("located")
    liar = lie(live, "located", 3, GROSS)
    # One client: each group is one query in two places, so decoding is exact.
    with load("located", clients=1) as light:
        light.wait_for(5)
        until(lambda: live.workers("located")[liar]["suspicions"] > 0)
        until(lambda: live.quarantined("located", liar))
        until(lambda: live.workers("located")[liar]["state"] in WELL)
        light.wait_for(len(light.answers) + 20)
    assert set(light.statuses) == {200}
    assert wrong(light) == []
    outcomes = {r.headers["x-approxifer-outcome"] for _, r, _ in light.answers}
    assert "reconstructed" in outcomes
    honest_are_unharmed(live, "located", liar)
    # Groups of two queries: the lie is a million times an answer, decoding an approximation.
    lie(live, "located", 0, GROSS)
    with load("located", clients=4) as light:
        light.wait_for(40)
    assert set(light.statuses) == {200}
    largest = max(abs(s) for _, r, _ in light.answers for s in r.json()["scores"])
    assert largest < 20 * max(abs(s) for n in range(20) for s in expected(n)["scores"])
