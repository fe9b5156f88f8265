"""The bench of lies before any server starts: its options, its network, its archives."""

import json
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from approxifer_torchserve.bench.byzantine import model as byzantine_model
from approxifer_torchserve.bench.byzantine.policies import SMALL, policies
from approxifer_torchserve.cli.main import app
from approxifer_torchserve.serving.plan import PLAN_FILE, Plan


@pytest.mark.parametrize(
    ("option", "names"), [("--layout", ("small", "full")), ("--policy", ("pair", "coded"))]
)
def test_an_unknown_name_is_answered_with_those_known(option, names, tmp_path):
    said = CliRunner().invoke(
        app, ["bench", "byzantine", "--out", str(tmp_path), option, "lucky"], terminal_width=200
    )
    assert said.exit_code == 2
    assert option in said.output
    assert all(name in said.output for name in (*names, "lucky"))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byzantine_model, "EPOCHS", 1)
        patch.setattr(byzantine_model, "GROUPS", 1000)
        patch.setattr(byzantine_model, "STEPS", 2)
        yield byzantine_model.Model(tmp_path_factory.mktemp("lies"))


def test_requests_are_no_calibration_data_and_have_the_networks_answers(model):
    unlabelled = {picture.numpy().tobytes() for picture in model._unlabelled}
    assert len(unlabelled) == byzantine_model.CALIBRATION
    assert len(model.bodies) > 200
    assert not unlabelled & set(model.bodies)
    pixels = np.frombuffer(model.bodies[7], np.float32)
    assert pixels.shape == (64,)
    assert 0 <= pixels.min() < pixels.max() <= 1
    right = model.right[7]
    assert right["class"] == int(np.argmax(right["scores"]))
    assert not byzantine_model.is_wrong(json.dumps(right).encode(), right)


def test_a_locator_is_fitted_once_and_goes_into_the_archive(model, tmp_path, monkeypatch):
    made = policies(SMALL[0], 40.0, 2.0)["coded"]
    path = model.locator(made.code)
    monkeypatch.setattr(byzantine_model, "calibrate", None)
    again = byzantine_model.Model(model.folder.parent)
    assert again.locator(made.code) == path
    again.archive(tmp_path, "lies", made, 10.0)
    with zipfile.ZipFile(tmp_path / "lies.mar") as archive:
        assert archive.read("approxifer/locator.safetensors") == path.read_bytes()
        plan = Plan.parse(archive.read(PLAN_FILE))
    assert (plan.check, plan.num_workers, plan.mode) == ("locate", 6, "coded")
    assert plan.policy.probe_every_s == 2.0


def test_a_code_that_cannot_locate_is_named(model):
    with pytest.raises(ValueError, match="locates"):
        model.locator(policies(SMALL[0], 40.0, 2.0)["vote"].code)
