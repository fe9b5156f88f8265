"""The bench of bad days: its load, its order, and what the handler does under its faults."""

import json
import math
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from approxifer_torchserve.bench.worst import bench
from approxifer_torchserve.bench.worst.scenarios import QUICK, Promise, Size, policy, scenarios
from approxifer_torchserve.cli.main import app
from approxifer_torchserve.faults import VARIABLE, WorkerFaults
from approxifer_torchserve.serving.config import load_config

SIZE = Size()


def test_an_overload_is_followed_by_half_of_capacity():
    phase = scenarios(SIZE)["over-3"].phase(SIZE)
    times = phase.times(seed=1)
    assert times == sorted(times)
    assert times == phase.times(seed=1) != phase.times(seed=2)
    capacity = 9 / 0.05
    during = sum(at < 10 for at in times)
    # Standard deviations of these counts are 73 and 16.
    assert abs(during - 3 * capacity * 10) < 300
    assert abs(len(times) - during - 0.5 * capacity * 3) < 70
    assert times[-1] < 13


@pytest.mark.parametrize("size", [SIZE, QUICK])
def test_what_waits_for_first_calls_fits_into_the_queue(size):
    for name in ("first", "first-sample"):
        phase = scenarios(size)[name].phase(size)
        assert phase.turns == 1
        assert sum(at < size.first_call_s for at in phase.times(0)) < 100
        assert phase.slice_s > size.first_call_s


def test_a_shift_is_asked_what_slow_workers_can_bear():
    assert scenarios(SIZE)["shift"].phase(SIZE).rate == pytest.approx(0.6 * 9 / 0.12)


@pytest.mark.parametrize(("size", "seconds"), [(SIZE, 780), (QUICK, 110)])
def test_the_load_takes_no_longer_than_is_said(size, seconds):
    phases = [scenario.phase(size) for scenario, _, _ in bench.plan(size)]
    assert sum(p.slice_s + sum(s for _, s in p.then) for p in phases) < seconds


def test_models_are_served_one_after_another_and_first_calls_come_first():
    steps = bench.plan(SIZE)
    models = [scenario.model for scenario, _, _ in steps]
    assert [a for a, b in zip(models, [None, *models], strict=False) if a != b] == [
        "deadline", "none", "shift",
    ]  # fmt: skip
    for model in ("deadline", "shift"):
        own = [step for step in steps if step[0].model == model]
        assert [step[0].fault == "first" for step in own[:3]] == [True, True, False]
        assert sum(step[0].fault == "first" for step in own) == 2
    hang = [(turn, side) for scenario, turn, side in steps if scenario.name == "hang"]
    assert hang == [
        (0, "coded"), (0, "plain"), (1, "plain"), (1, "coded"), (2, "plain"), (2, "coded"),
    ]  # fmt: skip
    assert {step[0].name for step in bench.plan(SIZE, ["rare"])} == {"rare"}


@pytest.mark.parametrize("model", ["deadline", "none", "shift"])
def test_every_policy_is_one(model):
    section = {"policy": policy(model, SIZE)}
    deadline = load_config({"handler": {"approxifer": section}}).policy.deadline_ms
    assert deadline == (2000 if model == "deadline" else "none")


@pytest.mark.parametrize(
    ("promise", "kept"),
    [
        (Promise("p99 ms", 20), True),
        (Promise("p99 ms", 19.9), False),
        (Promise("p99 ms", 2, "times"), True),
        (Promise("p99 ms", 1.9, "times"), False),
        (Promise("p99 ms", 10, "beyond"), True),
        (Promise("p99 ms", 9, "beyond"), False),
        (Promise("p99 ms", 2, "times", at_least=True), True),
        (Promise("p99 ms", 2.1, "times", at_least=True), False),
        (Promise("lost %", 1, "times"), True),
        (Promise("clean s", 0.5, "beyond"), True),
        (Promise("clean s", 1, "times"), True),
        (Promise("held", 2), False),
    ],
)
def test_promises_are_bounds_and_the_unknown_keeps_none(promise, kept):
    coded = {"p99 ms": 20.0, "lost %": 0.0, "held": math.nan, "clean s": math.inf}
    plain = {"p99 ms": 10.0, "lost %": 0.0, "held": 1.0, "clean s": math.inf}
    assert promise.check(coded, plain)[0] is kept


def test_a_handler_starts_slowly_hangs_and_fails(tmp_path, monkeypatch):
    from approxifer_torchserve.bench.worst.worst_handler import WorstHandler

    path, held, slept = tmp_path / "faults.json", tmp_path / "held", []
    held.mkdir()
    monkeypatch.setenv(VARIABLE, str(path))

    context = SimpleNamespace(model_yaml_config={"handler": {"bench": {"held": str(held)}}})
    handler = WorstHandler()
    handler.initialize(context)
    handler.faults = WorkerFaults(sleep=slept.append)
    ordinary = torch.ones(1, 64)
    hanging = torch.cat([ordinary, -ordinary])
    path.write_text(json.dumps({"*": {"first_call_s": 3, "hang_s": 600}}))
    handler.inference(ordinary)
    handler.inference(ordinary)
    assert slept == [3]
    assert list(held.iterdir()) == []
    handler.inference(hanging)
    assert slept == [3, 600]
    assert [one.name for one in held.iterdir()] == [str(os.getpid())]
    path.write_text(json.dumps({str(os.getpid()): {"fail": 1}}))
    with pytest.raises(RuntimeError, match=VARIABLE):
        handler.inference(ordinary)
    path.unlink()
    assert handler.inference(ordinary).shape == (1, 10)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", SIZE),
        ("--quick --seed 4", replace(QUICK, seed=4)),
        (
            "--quick --workers 3 --turns 2 --first-call-s 1",
            replace(QUICK, workers=3, turns=2, first_call_s=1),
        ),
    ],
)
def test_options_reach_the_bench(words, expected, monkeypatch, tmp_path):
    asked = []

    def run_worst(out, size, only, console):
        asked.extend((size, list(only)))
        raise OSError("no server today")

    monkeypatch.setattr(bench, "run_worst", run_worst)
    words = [*words.split(), "--scenario", "hang", "--scenario", "slow", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["bench", "worst", *words])
    assert result.exit_code == 1
    assert "no server today" in result.output
    assert asked == [expected, ["hang", "slow"]]


def test_an_unknown_scenario_is_named(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    result = CliRunner().invoke(app, ["bench", "worst", "--scenario", "flood"])
    assert result.exit_code == 2
    assert "flood" in result.output
    assert "over-1.25" in result.output
