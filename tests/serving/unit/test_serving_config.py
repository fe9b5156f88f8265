"""handler.approxifer in model-config.yaml, and the plan it becomes."""

import json
from pathlib import Path

import pytest

from approxifer_torchserve.artifacts.report import AccuracyReport
from approxifer_torchserve.serving.archive.inspection import Capability
from approxifer_torchserve.serving.archive.planning import build_plan
from approxifer_torchserve.serving.config import ApproxiferConfig, ConfigError, load_config
from approxifer_torchserve.serving.plan import PLAN_FILE, Plan

STAGED = Capability(staged=True, codable=True)


def config(**section):
    return load_config({"handler": {"approxifer": section}})


@pytest.mark.parametrize("model_yaml", [None, {}, {"handler": None}, {"handler": {"profile": 1}}])
def test_defaults(model_yaml):
    found = load_config(model_yaml)
    assert found == ApproxiferConfig()
    assert found.enabled
    assert (found.code.name, found.code.queries, found.code.stragglers) == ("approxifer", 8, 1)
    assert found.code.settings()["systematic"] is True
    assert found.policy.late_after_ms == "auto"
    assert found.policy.on_late == ("hedge",)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kode": 1}, "handler.approxifer.kode: unknown key"),
        ({"policy": {"late": 1}}, "handler.approxifer.policy.late: unknown key"),
        (
            {"policy": {"late_after_ms": 0}},
            "handler.approxifer.policy.late_after_ms: expected 'auto' or a number of "
            "milliseconds above 0, got 0",
        ),
        ({"policy": {"late_after_ms": "soon"}}, "policy.late_after_ms: expected 'auto'"),
        ({"policy": {"late_after_ms": True}}, "policy.late_after_ms: expected 'auto'"),
        ({"policy": {"on_late": ["retry"]}}, "handler.approxifer.policy.on_late.0"),
        ({"policy": {"max_extra_load": 2}}, "handler.approxifer.policy.max_extra_load"),
        ({"policy": {"deadline_ms": 0}}, "handler.approxifer.policy.deadline_ms"),
        ({"policy": {"deadline_ms": "soon"}}, "handler.approxifer.policy.deadline_ms"),
        ({"code": {"queries": 0}}, "handler.approxifer.code.queries"),
        ({"envelope": "body"}, "handler.approxifer.envelope"),
        ({"enabled": "perhaps"}, "handler.approxifer.enabled"),
    ],
)
def test_errors_name_the_whole_key(section, said):
    with pytest.raises(ConfigError) as error:
        config(**section)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("model_yaml", "said"),
    [
        ({"handler": []}, "handler: expected a mapping, got list"),
        ({"handler": {"approxifer": "on"}}, "handler.approxifer: expected a mapping, got str"),
    ],
)
def test_sections_that_are_no_mappings(model_yaml, said):
    with pytest.raises(ConfigError, match=said):
        load_config(model_yaml)


def test_the_plan_of_the_protocol(tmp_path):
    plan = build_plan(config(), STAGED, None, "digits_handler.py")
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan
    assert json.loads((tmp_path / PLAN_FILE).read_text()) == {
        "format": 1,
        "package": plan.package,
        "enabled": True,
        "mode": "systematic",
        "code": {
            "name": "approxifer",
            "queries": 8,
            "stragglers": 1,
            "byzantine": 0,
            "systematic": True,
        },
        "queries": 8,
        "num_workers": 9,
        "quorum": 8,
        "copies": 1,
        "systematic": [0, 1, 2, 3, 4, 5, 6, 7, None],
        "models": ["base"] * 9,
        "check": "none",
        "agree": 1,
        "screen_quorum": None,
        "policy": {
            "late_after_ms": "auto",
            "hedge": True,
            "reconstruct": False,
            "reconstruct_reason": "handler.approxifer.policy.on_late does not list reconstruct",
            "group_delay_ms": 5,
            "deadline_ms": "none",
            "prefer_exact_ms": 0,
            "max_extra_load": 0.25,
            "idempotent": True,
            "verify": "none",
            "verify_wait": True,
            "on_wrong": "reexecute",
            "probe_every_s": 0,
            "quarantine": {"wrong": 2, "of": 10, "clean": 3},
        },
        "worker": {
            "handler": "digits_handler.py",
            "envelope": "none",
            "staged": True,
            "workers": 9,
            "tolerance": {"rtol": 0.001, "atol": 0.0001},
            "locator": None,
            "locator_fingerprint": None,
            "weights": {},
            "warm_up": None,
            "unwrapped": {"configFile": None},
        },
    }


@pytest.mark.parametrize(
    ("accuracy", "least", "expected", "reason"),
    [
        (None, 0.8, False, "no report in the archive"),
        (0.71, 0.8, False, "A_d 0.710, needed 0.720"),
        (0.72, 0.8, True, "A_d 0.720, needed 0.720"),
        (0.1, 0, True, "the user insists"),
        (None, 0, True, "the user insists"),
    ],
)
def test_reconstruction_needs_a_report_or_an_insisting_user(accuracy, least, expected, reason):
    settings = config(policy={"on_late": ["hedge", "reconstruct"], "min_degraded_accuracy": least})
    report = None
    if accuracy is not None:
        codes = {settings.code.key(): {"A_d": accuracy}}
        report = AccuracyReport.model_validate({"base_accuracy": 0.9, "codes": codes})
    policy = build_plan(settings, STAGED, report).policy
    assert policy.reconstruct is expected
    assert reason in policy.reconstruct_reason


def test_a_report_on_another_code_does_not_count():
    settings = config(policy={"on_late": ["reconstruct"]})
    report = AccuracyReport.model_validate({"base_accuracy": 0.9, "codes": {"parm": {"A_d": 1}}})
    plan = build_plan(settings, STAGED, report)
    assert not plan.policy.hedge
    assert not plan.policy.reconstruct
    assert "says nothing of approxifer(byzantine=0" in plan.policy.reconstruct_reason


def test_nodes_alone_mean_the_classic_code_as_everywhere_else():
    plan = build_plan(config(code={"nodes": "authors"}), STAGED, None)
    assert plan.mode == "coded"
    assert plan.code.model_extra == {"nodes": "authors", "systematic": False}
    with pytest.raises(ConfigError, match=r"handler\.approxifer\.code: nodes"):
        build_plan(config(code={"nodes": "authors", "systematic": True}), STAGED, None)


def test_a_coded_code_always_reconstructs():
    plan = build_plan(config(code={"systematic": False}), STAGED, None)
    assert (plan.mode, plan.policy.reconstruct) == ("coded", True)
    assert plan.systematic == (None,) * 9


def test_what_cannot_be_coded_is_hedged_with_the_workers_the_code_wants():
    capability = Capability(staged=False, codable=False, reasons=["handle() of its own"])
    plan = build_plan(config(), capability, None)
    assert (plan.mode, plan.copies) == ("uncoded", 1)
    assert plan.worker.workers == 9
    assert plan.policy.reconstruct_reason == "not coded: handle() of its own"
    replicated = build_plan(config(code={"name": "replication"}), capability, None)
    assert (replicated.mode, replicated.copies) == ("replicated", 2)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ({"name": "nope"}, "handler.approxifer.code: name must be one of"),
        ({"colour": "red"}, "colour"),
        ({"nodes": "mine"}, "nodes"),
    ],
)
def test_codes_that_are_none(code, said):
    with pytest.raises(ConfigError) as error:
        build_plan(config(code=code), STAGED, None)
    assert said in str(error.value)
    assert str(error.value).startswith("handler.approxifer.code")


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": 2}'])
def test_a_worker_refuses_plans_it_does_not_know(tmp_path, text):
    if text is not None:
        (tmp_path / PLAN_FILE).parent.mkdir()
        (tmp_path / PLAN_FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"archive (it|the model) again"):
        Plan.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": None}, "mode: Field required"),
        ({"modes": 1}, "modes: unknown key"),
        ({"check": "twice"}, "check: .*'none', 'pair'.*, got 'twice'"),
        ({"policy": {"hedge": "often"}}, "policy.hedge: .*bool.*, got 'often'"),
        ({"policy": {"hurry": True}}, "policy.hurry: unknown key"),
        ({"worker": {"workers": 0}}, "worker.workers: .*greater.*, got 0"),
        ({"models": ["base"]}, "expected num_workers = 9 entries .* got 9 and 1"),
    ],
)
def test_a_plan_that_is_wrong_names_key_expectation_and_value(change, said):
    plan = json.loads(build_plan(config(), STAGED, None).model_dump_json())
    for key, value in change.items():
        plan[key] = {**plan[key], **value} if isinstance(value, dict) else value
        if value is None:
            del plan[key]
    with pytest.raises(ConfigError, match=rf"(?s)plan\.json: {said}.*; archive the model again"):
        Plan.parse(json.dumps(plan))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"code": {"systematic": False}}, "several workers"),
        ({"code": {"name": "replication"}}, "several workers"),
        ({"policy": {"on_late": ["hedge", "reconstruct"]}}, "on_late"),
    ],
)
def test_what_must_not_run_twice_goes_to_one_worker_only(section, said):
    build_plan(config(**section), STAGED, None)
    policy = {**section.get("policy", {}), "idempotent": False}
    with pytest.raises(ConfigError, match=r"policy\.idempotent: false") as error:
        build_plan(config(**{**section, "policy": policy}), STAGED, None)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {
                "policy": {"verify": "pair"},
                "code": {"name": "approxifer", "queries": 2, "stragglers": 1, "systematic": False},
            },
            "handler.approxifer.policy.verify: pair needs a code",
        ),
        ({"policy": {"verify": "pair", "idempotent": False}}, "policy.idempotent: false forbids"),
    ],
)
def test_verification_that_cannot_be_is_refused(section, said):
    with pytest.raises(ConfigError, match=said):
        build_plan(config(**section), STAGED, None)


def test_the_plan_in_the_protocols_page_is_one():
    page = Path(__file__).parents[3] / "docs" / "protocol.md"
    example = page.read_text(encoding="utf-8").split("```json\n")[1].split("```")[0]
    plan = Plan.parse(example)
    assert (plan.mode, plan.num_workers, plan.worker.workers) == ("systematic", 9, 9)
    assert json.loads(plan.model_dump_json()) == json.loads(example)
