"""Thousands of queries with random lies, deaths, delays and departures, for every check."""

import json

import pytest
from liars_world import World
from plans import plan_json

SCREEN = {"mode": "systematic", "check": "screen", "queries": 2, "num_workers": 7}
E1 = {
    **SCREEN,
    "code": {"name": "approxifer", "stragglers": 1, "byzantine": 1},
    "quorum": 6,
    "screen_quorum": 6,
}
PLANS = {
    "pair": {"check": "pair"},
    "vote": {
        "mode": "replicated",
        "check": "vote",
        "copies": 4,
        "agree": 2,
        "code": {"name": "replication", "stragglers": 1, "byzantine": 1},
    },
    "parity": {"mode": "systematic", "check": "screen", "screen_quorum": 4},
    "byzantine": E1,
    "decoding": {**E1, "on_wrong": "reconstruct", "reconstruct": True},
    "locate": {**E1, "mode": "coded", "check": "locate"},
}


def play(bench, name, seed, queries, **options):
    plan = {**PLANS[name], "limit": 10_000, "deadline_ms": 5000, **options}
    b = bench(**plan)
    plan.pop("limit")
    b.plan_json = json.loads(plan_json(**plan))
    b.waits = b.plan_json["policy"]["verify_wait"]
    world = World(b, seed, byzantine=0 if name == "parity" else 1)
    world.run(queries)
    return world.check()


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", PLANS)
def test_no_wrong_answer_reaches_a_client_that_waits(bench, name, seed):
    often = {"quarantine": {"wrong": 11, "of": 10, "clean": 2}} if seed > 1 else {}
    right, confirmed, counters = play(bench, name, seed, 400, **often)
    assert right > 0.9 * 400, counters
    assert name == "locate" or confirmed, "the liar has been found"
    if name in ("parity", "byzantine", "decoding"):
        assert counters["screens"] > 20
        assert counters["suspected"] > 0 or not often


@pytest.mark.parametrize("name", ["pair", "vote", "parity", "byzantine"])
def test_an_audit_finds_the_liar(bench, name):
    right, confirmed, _ = play(bench, name, 3, 300, verify_wait=False)
    assert right > 0.5 * 300
    assert confirmed


def test_without_a_check_lies_reach_clients(bench):
    """What the other tests would see if the check did nothing."""
    with pytest.raises(AssertionError, match="lie"):
        play(bench, "pair", 1, 200, check="none")
