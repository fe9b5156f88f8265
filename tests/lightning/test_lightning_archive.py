"""From training with the callback to an archive that serves the code that was measured."""

from __future__ import annotations

import argparse
import functools
import json
import zipfile
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning_models import trainer
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

from approxifer_torchserve.artifacts.models import load_model
from approxifer_torchserve.cli.main import app
from approxifer_torchserve.lightning import DegradedAccuracy

MODEL = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return torch.tanh(self.linear(x))
"""
HANDLER = """
import torch
from ts.torch_handler.base_handler import BaseHandler


class TinyHandler(BaseHandler):
    def preprocess(self, data):
        return torch.tensor([row.get("data") or row.get("body") for row in data])
"""


class Training(L.LightningModule):
    """The served model under another name, beside weights that are not served."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.save_hyperparameters({"lr": 0.1})
        self.inner = torch.nn.ModuleDict({"model": model})
        self.extra = torch.nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inner["model"](inputs)

    def validation_step(self, batch: object, batch_idx: int) -> None:
        pass


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "handler.py").write_text(HANDLER)
    return tmp_path


@pytest.fixture
def checkpoint(files: Path) -> Path:
    names: dict[str, object] = {}
    exec(MODEL, names)
    model = names["Tiny"]()  # type: ignore[operator]
    inputs = torch.randn(64, 4)
    with torch.no_grad():
        targets = model(inputs).argmax(1)
    degraded = DegradedAccuracy(
        ["approxifer", "replication", "uncoded"],
        queries=4, stragglers=[1, 2], max_cost=None, summary=False,
    )  # fmt: skip
    run = trainer(degraded)
    run.validate(
        Training(model), DataLoader(TensorDataset(inputs, targets), batch_size=16), verbose=False
    )
    run.save_checkpoint(files / "best.ckpt")
    return files / "best.ckpt"


def archive(files: Path, *words: object) -> tuple[int, str]:
    given = [
        "archive", "--model-name", "tiny", "--model-file", files / "model.py",
        "--handler", files / "handler.py", "--from-checkpoint", files / "best.ckpt",
        "--output", files / "tiny.mar", "--json", *words,
    ]  # fmt: skip
    done = CliRunner().invoke(app, [str(word) for word in given], env={"COLUMNS": "250"})
    return done.exit_code, done.output


def test_the_archive_holds_weights_code_and_report(files: Path, checkpoint: Path):
    code, output = archive(files, "--policy", "on_late=[hedge, reconstruct]")
    assert code == 0, output
    plan = json.loads(output)["plan"]
    assert plan["code"] == {
        "name": "approxifer", "queries": 4, "stragglers": 1, "byzantine": 0, "systematic": True,
    }  # fmt: skip
    with zipfile.ZipFile(files / "tiny.mar") as mar:
        report = json.loads(mar.read("approxifer/report.json"))
        (name,) = [name for name in mar.namelist() if name.endswith(".pt")]
        with mar.open(name) as packed:
            weights = torch.load(packed, weights_only=True)
    saved = torch.load(checkpoint, weights_only=True)
    assert set(weights) == {"linear.weight", "linear.bias"}
    assert torch.equal(weights["linear.weight"], saved["state_dict"]["inner.model.linear.weight"])
    state = next(v for k, v in saved["callbacks"].items() if k.startswith("DegradedAccuracy"))
    measured = state["table"]["val"]["cases"][0]["scores"]["output"]["lost_only"]
    key = "approxifer(byzantine=0,queries=4,stragglers=1,systematic=True)"
    assert report["codes"][key]["A_d"] == measured
    # The archive can be evaluated again.
    again, _ = load_model(str(files / "tiny.mar"))
    assert torch.equal(again.state_dict()["linear.weight"], weights["linear.weight"])  # type: ignore[attr-defined]
    # What serving makes of it: 0.8 of a model that is always right here.
    assert plan["policy"]["reconstruct"] == (measured >= 0.8)
    assert f"A_d {measured:.3f}" in plan["policy"]["reconstruct_reason"]


class Own:
    """A hyperparameter of a class that the archive's machine does not have."""

    def __init__(self) -> None:
        self.size = 3


class Mapping(dict):
    """What cannot be left out of a checkpoint."""


class Runs:
    """Runs a program when it is unpickled."""

    def __reduce__(self) -> object:
        return exec, ("raise SystemExit('the checkpoint ran code')",)


@pytest.mark.parametrize(
    "value",
    [
        Path("data"), np.float32(0.1), np.ones(3), argparse.Namespace(lr=0.1), Own(), Runs(),
        torch.nn.CrossEntropyLoss(), functools.partial(torch.optim.SGD, lr=0.1),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_hyperparameters_of_any_class_are_left_out(files: Path, checkpoint: Path, value: object):
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({**saved, "hyper_parameters": {"value": value, "again": [value]}}, checkpoint)
    code, output = archive(files)
    assert code == 0, output


def test_what_cannot_be_left_out_is_refused_with_a_way_out(files: Path, checkpoint: Path):
    saved = torch.load(checkpoint, weights_only=True)
    for broken in ({**saved, "hyper_parameters": Mapping(lr=0.1)}, None):
        if broken is None:
            checkpoint.write_bytes(b"no checkpoint at all")
        else:
            torch.save(broken, checkpoint)
        code, output = archive(files)
        assert code == 1
        words = " ".join(output.split())
        assert "give the weights by --serialized-file" in words
        assert "the report by --report" in words


def test_another_measured_code_may_be_chosen_and_an_unmeasured_one_not(
    files: Path, checkpoint: Path
):
    code, output = archive(files, "--code", "replication", "--stragglers", "2")
    assert code == 0, output
    plan = json.loads(output)["plan"]
    assert (plan["code"]["name"], plan["code"]["stragglers"]) == ("replication", 2)
    code, output = archive(files, "--stragglers", "3", "--force")
    assert code == 1
    assert "no code with {'stragglers': 3} was measured" in output


def test_checkpoints_without_a_measurement_or_with_other_weights_are_refused(
    files: Path, checkpoint: Path
):
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({**saved, "callbacks": {}}, checkpoint)
    code, output = archive(files)
    assert code == 1
    assert "expected a result of the callback DegradedAccuracy" in output
    torch.save({**saved, "state_dict": {"other.weight": torch.ones(2)}}, checkpoint)
    code, output = archive(files)
    assert code == 1
    assert "do not fit" in output
    code, output = archive(files, "--serialized-file", checkpoint)
    assert code == 2
