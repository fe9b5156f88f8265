"""Which check an archive's plan asks for, and which wishes are refused with what reason."""

import pytest

from approxifer_torchserve.artifacts.report import AccuracyReport
from approxifer_torchserve.serving.archive.inspection import Capability
from approxifer_torchserve.serving.archive.planning import build_plan
from approxifer_torchserve.serving.config import ConfigError, load_config

STAGED = Capability(staged=True, codable=True)
WHOLE = Capability(staged=False, codable=False, reasons=["handle() of its own"])
PAIRS = {"name": "pairs", "queries": 4, "stragglers": 0}
CLASSIC = {"queries": 2, "stragglers": 0, "byzantine": 1, "systematic": False}
VOTE = {"name": "replication", "queries": 1, "stragglers": 1, "byzantine": 1}
MANY = {"name": "pairs", "queries": 8, "stragglers": 2, "byzantine": 2}
VERIFY = r"handler\.approxifer\.policy\.verify: "
BYZANTINE = r"handler\.approxifer\.code\.byzantine: "


def plan(code=None, capability=STAGED, report=None, enabled=True, **policy):
    section = {"code": code or {}, "policy": policy, "enabled": enabled}
    return build_plan(load_config({"handler": {"approxifer": section}}), capability, report)


@pytest.mark.parametrize(
    ("code", "policy", "check", "agree", "screen_quorum"),
    [
        ({}, {}, "none", 1, None),
        ({}, {"verify": "pair"}, "pair", 2, None),
        ({"name": "uncoded", "stragglers": 0}, {"verify": "pair"}, "pair", 2, None),
        ({}, {"verify": "parity"}, "screen", 2, 9),
        ({"stragglers": 3}, {"verify": "parity"}, "screen", 2, 9),
        (PAIRS, {"verify": "parity"}, "screen", 2, 5),
        (VOTE, {}, "vote", 2, None),
        ({**VOTE, "byzantine": 2}, {}, "vote", 3, None),
        ({"byzantine": 1}, {}, "screen", 2, 18),
        ({**PAIRS, "stragglers": 1, "byzantine": 1}, {}, "screen", 2, 10),
        ({**PAIRS, "byzantine": 1}, {"verify": "parity"}, "screen", 2, 10),
        (CLASSIC, {}, "locate", 2, None),
    ],
)
def test_the_check_follows_from_code_and_policy(code, policy, check, agree, screen_quorum):
    made = plan(code, **policy)
    assert (made.check, made.agree, made.screen_quorum) == (check, agree, screen_quorum)
    assert made.policy.on_wrong == "reexecute"


def test_copies_and_quorum_are_enough_for_the_promise():
    vote = plan(VOTE)
    assert (vote.mode, vote.copies) == ("replicated", 4)  # S + 2E + 1
    located = plan(CLASSIC)
    assert (located.num_workers, located.quorum) == (6, 6)


def test_copies_vote_for_a_handler_that_cannot_be_coded():
    assert plan(VOTE, WHOLE).check == "vote"


def test_nothing_is_checked_or_refused_where_the_model_is_served_plainly():
    made = plan({**CLASSIC}, WHOLE, enabled=False, verify="pair", on_wrong="reconstruct")
    assert (made.enabled, made.check, made.agree) == (False, "none", 1)


@pytest.mark.parametrize(
    ("code", "capability", "policy", "said"),
    [
        (VOTE, STAGED, {"verify": "pair"}, VERIFY + "pair and code.byzantine: 1 are two ways"),
        ({"byzantine": 1}, STAGED, {"verify": "pair"}, VERIFY + "pair and code.byzantine"),
        (VOTE, STAGED, {"verify": "parity"}, VERIFY + "parity needs a systematic.*to none"),
        (CLASSIC, STAGED, {"verify": "parity"}, VERIFY + "parity needs a systematic.*to none"),
        ({"systematic": False}, STAGED, {"verify": "parity"}, VERIFY + "parity .* use one of"),
        ({"name": "replication"}, STAGED, {"verify": "parity"}, VERIFY + "parity .*; use pair"),
        ({"name": "uncoded", "stragglers": 0}, STAGED, {"verify": "parity"}, VERIFY + ".*use pair"),
        ({}, WHOLE, {"verify": "parity"}, VERIFY + "parity .*handle.. of its own.*; use pair"),
        ({"queries": 1}, STAGED, {"verify": "parity"}, VERIFY + "parity needs at least three"),
        ({"byzantine": 1}, WHOLE, {}, BYZANTINE + ".*handle.. of its own.*replication"),
        (MANY, STAGED, {}, BYZANTINE + "no number of answers of pairs .* lower"),
        ({}, STAGED, {"verify": "parity", "on_wrong": "reconstruct"}, r"policy\.on_wrong: recon"),
        (VOTE, STAGED, {"on_wrong": "reconstruct"}, r"policy\.on_wrong: reconstruct needs a syst"),
        ({"byzantine": 1}, STAGED, {"on_wrong": "reconstruct"}, r"on_wrong.*--report"),
        ({}, STAGED, {"verify": "parity", "idempotent": False}, VERIFY + ".*screen.*idempotent"),
        ({"byzantine": 1}, STAGED, {"idempotent": False}, VERIFY + ".*screen.*idempotent"),
        (VOTE, STAGED, {"idempotent": False}, VERIFY + ".*vote.*idempotent"),
    ],
)
def test_what_cannot_be_is_refused_and_the_key_named(code, capability, policy, said):
    with pytest.raises(ConfigError, match=said):
        plan(code, capability, **policy)


def test_a_code_that_locates_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"code"):
        plan({"name": "spline", "queries": 2, "stragglers": 1, "byzantine": 1})
    with pytest.raises(ConfigError, match=r"code: byzantine must be 0 for code 'uncoded'"):
        plan({"name": "uncoded", "stragglers": 0, "byzantine": 1})


@pytest.mark.parametrize(
    ("accuracy", "least", "allowed"), [(0.9, 0.8, True), (0.5, 0.8, False), (None, 0, True)]
)
def test_suspected_answers_are_decoded_only_where_that_is_known_to_be_good(
    accuracy, least, allowed
):
    code, report = {**PAIRS, "byzantine": 1}, None
    settings = load_config({"handler": {"approxifer": {"code": code}}}).code
    if accuracy is not None:
        codes = {settings.key(): {"A_d": accuracy}}
        report = AccuracyReport.model_validate({"base_accuracy": 0.9, "codes": codes})
    wish = {"on_wrong": "reconstruct", "min_degraded_accuracy": least}
    if allowed:
        assert plan(code, report=report, **wish).policy.on_wrong == "reconstruct"
    else:
        with pytest.raises(ConfigError, match=r"A_d 0\.500, needed 0\.720"):
            plan(code, report=report, **wish)
