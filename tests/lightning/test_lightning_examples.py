"""The examples that the docs name, cut short."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from approxifer_torchserve.artifacts import weights as own_weights
from approxifer_torchserve.artifacts.report import code_key, load_report
from approxifer_torchserve.bench.digits.model import DigitsNet
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.examples import (
    parm_digits,
    parm_frozen,
    train_cifar10,
    train_with_callback,
)
from approxifer_torchserve.examples.reproduce_approxifer import plots, tables
from approxifer_torchserve.examples.reproduce_approxifer.experiments import experiments
from approxifer_torchserve.serving.config import CodeConfig


def test_digits_train_with_the_callback(tmp_path: Path):
    best = train_with_callback.train(tmp_path, epochs=2)
    assert Path(best).is_file()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = [float(row[train_with_callback.MONITOR]) for row in rows if row["val_accuracy"]]
    assert len(values) == 2
    state = torch.load(best, weights_only=True)["callbacks"]
    assert any(key.startswith("DegradedAccuracy") for key in state)


def test_cifar10_trains_from_an_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    draw = np.random.default_rng(0)
    np.savez(
        tmp_path / "few.npz",
        images=draw.integers(0, 256, (600, 32, 32, 3), dtype=np.uint8),
        labels=draw.integers(0, 10, 600),
    )
    few = str(tmp_path / "few.npz")
    words = ["--train", few, "--test", few, "--epochs", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["train_cifar10", *words])
    train_cifar10.main()
    saved = torch.load(tmp_path / "out" / "best.ckpt", weights_only=True)
    assert saved["epoch"] == 0


def test_parm_goes_from_training_to_weights_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["--base-epochs", "2", "--epochs", "2", "--groups", "20", "--queries", "2"]
    monkeypatch.setattr("sys.argv", ["parm_digits", *words, "--out", str(tmp_path)])
    parm_digits.main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["code"] for row in report["rows"]] == ["parm", "approxifer", "uncoded"]
    assert all(0 <= row["A_d"] <= row["A_o"] <= row["base"] for row in report["rows"][2:])
    # The files are what evaluation, and an archive, take.
    net = DigitsNet()
    net.load_state_dict(torch.load(tmp_path / "digits.pt", weights_only=True))
    about = own_weights.describe(make_code("parm", queries=2, stragglers=1), "parity")
    parity = own_weights.load(tmp_path / "k2" / "parity.safetensors", net, "cpu", about)
    assert not torch.equal(parity.layers[0].weight, net.layers[0].weight)
    (key,) = (k for k in load_report(tmp_path / "k2" / "report.json").codes if "parm" in k)
    assert key == code_key("parm", CodeConfig(name="parm", queries=2).settings())
    shown = capsys.readouterr().out
    assert "sending its query again would give it base" in " ".join(shown.split())


def test_parm_for_a_frozen_model_repeats_with_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    draw, found = np.random.default_rng(0), []
    for name, count in (("train", 64), ("test", 40)):
        images = draw.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=draw.integers(0, 3, count))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU())
    torch.jit.script(model.append(torch.nn.Linear(8, 3))).save(str(tmp_path / "model.pt"))
    for out in ("one", "two"):
        words = ["--epochs", "2", "--groups", "5", "--queries", "2,4", "--batch-size", "16"]
        for name in ("train", "test"):
            words += [f"--{name}", str(tmp_path / f"{name}.npz")]
        words += ["--model", str(tmp_path / "model.pt"), "--out", str(tmp_path / out)]
        monkeypatch.setattr("sys.argv", ["parm_frozen", *words])
        parm_frozen.main()
        found.append(json.loads((tmp_path / out / "report.json").read_text()))
        for part in found[-1]["trained"].values():
            del part["seconds"]
    assert found[0]["rows"] == found[1]["rows"]
    assert found[0]["trained"] == found[1]["trained"]
    digests = [
        own_weights.digest(tmp_path / o / "k4" / "parity.safetensors") for o in ("one", "two")
    ]
    assert digests[0] == digests[1]


def test_the_reproduction_s_tables_take_what_its_experiments_give(tmp_path: Path):
    results = {}
    for experiment in experiments(groups=3):
        cases = [
            {
                "code": case.spec.label,
                "s": case.lost,
                "scores": {"output": {"healthy": 0.9, "overall": 0.8, "lost_only": 0.4}},
            }
            for case in experiment.settings.cases
        ]
        results[experiment.name] = {"base": {"output": 1.0}, "cases": cases}
    text = tables.comparison("mnist", results)
    assert "| approxifer:nodes=authors | 1 | 0.800 | 0.897 | -0.097 | 0.881 |" in text
    assert "| 12 | 0.900 / 0.900 / 0.900 | 0.800 / 0.800 / 0.800 |" in tables.grid(results)
    assert tables.options(results).count("0.400 / 0.400 / 0.400") == 8
    assert tables.splines(results).count("\n") == 1 + 20
    plots.draw("mnist", results, tmp_path / "mnist.png")
    assert (tmp_path / "mnist.png").read_bytes().startswith(b"\x89PNG")
