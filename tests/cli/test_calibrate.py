"""approxifer calibrate: from inputs without labels to an archive whose worker uses the locator."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from approxifer_torchserve.artifacts.locator_file import load_locator
from approxifer_torchserve.cli.main import app
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.serving.plan import PLAN_FILE, Plan

DATA = Path(__file__).parent / "data"
FAST = ("--groups", 800, "--level", 0.02, "--steps", 40)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def inputs(tmp_path):
    rows = np.random.default_rng(0).normal(size=(3000, 4)).astype("float32")
    np.savez(tmp_path / "inputs.npz", inputs=rows)
    return tmp_path / "inputs.npz"


@pytest.fixture
def parts(tmp_path):
    sys.path.insert(0, str(DATA))
    try:
        from tiny_model import Tiny
    finally:
        sys.path.remove(str(DATA))
    torch.manual_seed(0)
    weights = tmp_path / "tiny.pt"
    torch.save(Tiny().state_dict(), weights)
    return (
        "--model-name", "tiny", "--model-file", DATA / "tiny_model.py",
        "--serialized-file", weights, "--handler", DATA / "tiny_handler.py",
    )  # fmt: skip


def test_from_a_coded_archive_to_one_with_its_locator(run, parts, inputs, tmp_path):
    first, locator = tmp_path / "first.mar", tmp_path / "made" / "l.safetensors"
    words = ("archive", *parts, "-k", 4, "--policy", "verify=parity")
    told = json.loads(run(*words, "-o", first, "--json").stdout)
    assert told["plan"]["check"] == "screen"
    assert "gross faults only" in told["warnings"][-1]

    result = run("calibrate", "--model", first, "--data", inputs, *FAST, "-o", locator, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads(locator.with_suffix(".json").read_text())
    code = {"name": "approxifer", "queries": 4, "stragglers": 1, "byzantine": 0}
    assert report["code"] == {**code, "systematic": True}
    assert report["fingerprint"] == load_locator(locator).fingerprint
    assert make_code(**code, locator=load_locator(locator)).num_workers == 5
    # Level 0.02; thresholds of 200 groups vary, and so do 1000 groups of 600 inputs.
    assert 0 <= report["clean_groups_suspected"] <= 0.06
    assert report["lies_found"]["huge"] == report["lies_found"]["nan"] == 1.0
    assert report["milliseconds_per_group"] > 0

    second = tmp_path / "second.mar"
    words = ("archive", "--mar", first, "--rewrap", "-k", 4, "--policy", "verify=parity")
    result = run(*words, "--locator", locator, "-o", second)
    assert result.exit_code == 0, result.output
    assert "screen: the answers of a group are compared with its parities, by a fitted" in (
        result.stdout
    )
    with zipfile.ZipFile(second) as archive:
        plan = Plan.parse(archive.read(PLAN_FILE))
        assert archive.read("approxifer/locator.safetensors") == locator.read_bytes()
    assert plan.worker.locator == "approxifer/locator.safetensors"


@pytest.mark.parametrize(
    ("options", "kind"),
    [(("-s", 0, "-e", 1, "--code", "pairs"), "network"), (("-e", 1), "gaussian")],
)
def test_a_model_and_a_code_by_options(run, inputs, tmp_path, options, kind):
    script = tmp_path / "net.pt"
    torch.jit.trace(torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.zeros(1, 4)).save(script)
    out = tmp_path / "l.safetensors"
    words = ("calibrate", "--model", script, "--data", inputs, *FAST, "-o", out, "-k", 2)
    result = run(*words, *options)
    assert result.exit_code == 0, result.output
    assert load_locator(out).kind == kind
    assert "honest groups suspected" in result.stdout
    # The command that it names next is one that works.
    (line,) = [text for text in result.stdout.splitlines() if text.startswith("approxifer archive")]
    assert "--byzantine 1" in line
    assert f"--locator {out}" in line


def test_a_folder_of_images_without_classes_and_a_function(run, tmp_path, monkeypatch):
    from approxifer_torchserve.evaluation.inputs import DataError, Scaling, load_inputs

    (tmp_path / "images" / "deeper").mkdir(parents=True)
    for index, folder in enumerate(("images", "images/deeper")):
        pixels = np.full((4, 6, 3), 51 * (index + 1), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / f"{index}.png")
    found = load_inputs(str(tmp_path / "images"), Scaling((0.2,), (2.0,), 5))
    assert found.count == 2
    images = found.fetch([0, 1])
    assert images.shape == (2, 3, 5, 5)
    torch.testing.assert_close(images[:, 0, 0, 0].sort().values, torch.tensor([0.0, 0.1]))

    (tmp_path / "sets.py").write_text(
        "import torch\n"
        "bare = [torch.full((2,), float(i)) for i in range(3)]\n"
        "labelled = lambda: [(x, 1) for x in bare]\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("bare", "labelled"):
        found = load_inputs(f"sets:{name}")
        assert (found.count, found.fetch([2]).tolist()) == (3, [[2.0, 2.0]])
    np.savez(tmp_path / "other.npz", labels=np.arange(3))
    for wrong in ("other.npz", "nowhere", "sets:nothing"):
        with pytest.raises(DataError, match="data"):
            load_inputs(wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected images"):
        load_inputs(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--code", "replication"), "replication takes no locator"),
        (("--code", "nope"), "name must be one of"),
        (("--level", 0.0001), "level must be in (0, 1)"),
        (("--limit", 12), "expected at least 40 inputs for groups of 8"),
        (("--data", "nowhere.npz"), "data: expected an .npz file"),
        (("--model", "nowhere.pt"), "model: expected a .mar"),
    ],
)
def test_what_cannot_be_says_why(run, inputs, tmp_path, options, said):
    script = tmp_path / "net.pt"
    torch.jit.trace(torch.nn.Linear(4, 3), torch.zeros(1, 4)).save(script)
    out = tmp_path / "l.safetensors"
    words = ("calibrate", "--model", script, "--data", inputs, *FAST, "-o", out, *options)
    result = run(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not out.exists()


def test_archive_describes_the_check(run, parts, tmp_path):
    for options, said in (
        ((), "none: a wrong answer is not noticed"),
        (("--policy", "verify=pair"), "pair: two workers"),
        (("--code", "replication", "-e", 1), "vote: 4 workers compute each query, 2 must agree"),
        (("-e", 1, "--option", "systematic=false"), "by the default: gross faults only"),
        (("-e", 1, "--disabled"), "none: served plainly"),
    ):
        result = run("archive", *parts, "-k", 2, *options, "-f", "-o", tmp_path / "a.mar")
        assert result.exit_code == 0, result.output
        assert said in result.stdout
    result = run("archive", *parts, "-e", 1, "--policy", "verify=pair", "-o", tmp_path / "b.mar")
    assert result.exit_code == 1
    assert "handler.approxifer.policy.verify: pair and code.byzantine" in result.stderr
