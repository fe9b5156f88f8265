"""What makes a plan, and how a wrong one is refused."""

import json

import pytest
from plans import plan_json


def refusal(core, text):
    with pytest.raises(Exception, match=r"plan\.json: ") as refused:
        core.Plan.parse(text)
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, '"format": expected 1, found 2'),
        ({"queries": 9}, "queries=9"),
        ({"mode": "psychic"}, '"mode": expected one of systematic, coded, replicated, uncoded'),
        ({"mode": "psychic"}, 'found "psychic"'),
        ({"quorum": 0}, "quorum=0"),
        ({"copies": 0}, '"copies"'),
        ({"copies": 1.5}, '"copies": expected a whole number, found 1.5'),
        ({"enabled": "yes"}, '"enabled": expected true or false, found "yes"'),
        ({"late_after_ms": "soon"}, '"policy.late_after_ms": expected a number or "auto"'),
        ({"late_after_ms": -1}, '"policy.late_after_ms"'),
        ({"deadline_ms": None}, '"policy.deadline_ms": expected a number or a word such as "auto"'),
        ({"deadline_ms": "soon"}, '"policy.deadline_ms": expected a positive number, "auto" or'),
        ({"deadline_ms": 0}, '"policy.deadline_ms"'),
        ({"models": "base"}, '"models": expected a list'),
        ({"mode": "systematic", "systematic": [0, 1, None, 2]}, '"systematic"'),
        ({"quarantine": {"wrong": 2, "of": 10}}, '"policy.quarantine.clean"'),
        ({"check": "pair", "agree": 1}, "agree=1"),
    ],
)
def test_a_wrong_plan_is_refused_by_key(core, change, words):
    assert words in refusal(core, plan_json(**change))


def keys(plan, path=()):
    for key, value in plan.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, (*path, key))


@pytest.mark.parametrize(
    "path", [p for p in keys(json.loads(plan_json())) if p != ("code", "name")], ids=".".join
)
def test_no_key_has_a_default(core, path):
    plan = json.loads(plan_json())
    inner = plan
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    assert f'key "{".".join(path)}"' in refusal(core, json.dumps(plan))


@pytest.mark.parametrize("text", ["", "[]", "null", "{"])
def test_what_is_no_plan_at_all_is_refused(core, text):
    refusal(core, text)


def test_what_the_archive_makes_is_a_plan(core):
    from approxifer_torchserve.serving.archive.inspection import Capability
    from approxifer_torchserve.serving.archive.planning import build_plan
    from approxifer_torchserve.serving.config import ApproxiferConfig

    made = build_plan(ApproxiferConfig(), Capability(staged=True, codable=True), None)
    core.Plan.parse(made.model_dump_json())
