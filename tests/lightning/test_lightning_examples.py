"""The examples that the docs name, cut short."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from approxifer_torchserve.examples import train_cifar10, train_with_callback
from approxifer_torchserve.examples.reproduce_approxifer import plots, tables
from approxifer_torchserve.examples.reproduce_approxifer.experiments import experiments


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
