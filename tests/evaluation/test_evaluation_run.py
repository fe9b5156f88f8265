from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import evaluation_models
import numpy as np
import pytest
import torch
import typer
from evaluation_linear import Linear
from evaluation_models import Small
from PIL import Image
from typer.testing import CliRunner

from approxifer_torchserve.artifacts import weights as own_weights
from approxifer_torchserve.artifacts.models import ModelError, load_model
from approxifer_torchserve.artifacts.report import code_key, load_report
from approxifer_torchserve.cli.main import app
from approxifer_torchserve.cli.model_options import split_roles
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.codes.locators.calibrate import random_groups
from approxifer_torchserve.evaluation import make_cases
from approxifer_torchserve.evaluation.data import load_data
from approxifer_torchserve.evaluation.inputs import DataError, Scaling
from approxifer_torchserve.evaluation.run import STATE_FILE, Settings, run
from approxifer_torchserve.serving.config import CodeConfig


def served_key(**code: object) -> str:
    """The key by which serving looks up a code of these settings."""
    config = CodeConfig(**code)
    return code_key(config.name, config.settings())


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 4, 4), dtype=np.uint8)


@pytest.fixture
def labels(images: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(images).float().div(255).unsqueeze(1)
    with torch.no_grad():
        return Small()(pixels).argmax(1).numpy()


@pytest.fixture
def npz(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    return tmp_path / "data.npz"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(Small().state_dict(), tmp_path / "small.pt")
    return tmp_path / "small.pt"


def archive_with_class(folder: Path, weights: Path) -> str:
    manifest = {"model": {"modelFile": "net.py", "serializedFile": "w.pt", "handler": "h.py"}}
    with zipfile.ZipFile(folder / "small.mar", "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        mar.write(evaluation_models.__file__, "net.py")
        mar.write(weights, "w.pt")
    return str(folder / "small.mar")


def archive_with_script(folder: Path, weights: Path) -> str:
    torch.jit.script(Small()).save(str(folder / "s.pt"))
    with zipfile.ZipFile(folder / "script.mar", "w") as mar:
        manifest = {"model": {"serializedFile": "s.pt", "handler": "image_classifier"}}
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        mar.write(folder / "s.pt", "s.pt")
    return str(folder / "script.mar")


def script(folder: Path, weights: Path) -> str:
    torch.jit.script(Small()).save(str(folder / "s.pt"))
    return str(folder / "s.pt")


@pytest.mark.parametrize("make", [archive_with_class, archive_with_script, script])
def test_models_come_from_files(tmp_path: Path, weights: Path, make: Callable[..., str]):
    model, _ = load_model(make(tmp_path, weights))
    inputs = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(model(inputs), Small()(inputs))


@pytest.mark.parametrize("prefix", ["", "net.", "module."])
def test_models_come_from_classes_and_checkpoints(tmp_path: Path, prefix: str):
    changed = {name: tensor + 1 for name, tensor in Small().state_dict().items()}
    state = {f"{prefix}{name}": tensor for name, tensor in changed.items()}
    if prefix == "net.":
        state["loss.weight"] = torch.ones(3)
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    model, mark = load_model("evaluation_models:Small", tmp_path / "last.ckpt")
    assert torch.equal(model.last.weight, changed["last.weight"])  # type: ignore[attr-defined]
    assert mark != load_model("evaluation_models:Small")[1]


def test_models_that_are_none_are_refused(tmp_path: Path, weights: Path):
    with pytest.raises(ModelError, match=r"expected a \.mar, a TorchScript file or module:Class"):
        load_model("nowhere.pt")
    with pytest.raises(ModelError, match="give --model module:Class --weights"):
        load_model(str(weights))
    with pytest.raises(ModelError, match="model: 'evaluation_models:Big' cannot be imported"):
        load_model("evaluation_models:Big")
    torch.save({"other": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"does not fit Small: expected names like .*got \['other"):
        load_model("evaluation_models:Small", tmp_path / "other.pt")


def test_npz_and_folder_hold_the_same_images(tmp_path: Path, npz: Path, images, labels):
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "tree" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "tree" / str(label) / f"{index:03}.png")
    scaling = Scaling((0.5,), (0.25,))
    from_npz, from_tree = load_data(str(npz), scaling), load_data(str(tmp_path / "tree"), scaling)
    assert from_npz.count == from_tree.count == 90
    order = sorted(range(90), key=lambda i: (labels[i], i))
    inputs, targets = from_npz.fetch(order)
    others, truth = from_tree.fetch(range(90))
    torch.testing.assert_close(inputs, others)
    assert torch.equal(targets, truth)
    expected = (torch.from_numpy(images[order[0]]).float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(inputs[0, 0], expected)
    resized, _ = load_data(str(tmp_path / "tree"), Scaling(size=6)).fetch([0])
    assert resized.shape == (1, 1, 6, 6)


def test_colour_images_become_channels_first(tmp_path: Path):
    image = np.random.default_rng(1).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    (tmp_path / "tree" / "cat").mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "tree" / "cat" / "0.png")
    np.savez(tmp_path / "one.npz", images=image[None], labels=np.zeros(1, dtype=np.int64))
    file = (tmp_path / "tree" / "cat" / "0.png").read_bytes()
    np.savez(
        tmp_path / "encoded.npz",
        jpeg=np.frombuffer(file, dtype=np.uint8),
        offsets=np.array([0, len(file)]),
        labels=np.zeros(1, dtype=np.int64),
    )
    expected = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    for source in ("tree", "one.npz", "encoded.npz"):
        inputs, _ = load_data(str(tmp_path / source)).fetch([0])
        torch.testing.assert_close(inputs[0], expected)


def test_data_may_come_from_a_function_and_errors_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mydata.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n"
        "def rows():\n    return TensorDataset(torch.rand(5, 3), torch.arange(5))\n"
        "def nothing():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    data = load_data("mydata:rows")
    inputs, targets = data.fetch([4, 0])
    assert (inputs.shape, targets.tolist()) == ((2, 3), [4, 0])
    with pytest.raises(DataError, match="to return a dataset"):
        load_data("mydata:nothing")
    with pytest.raises(DataError, match=r"data: expected an \.npz file"):
        load_data("nothing.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder for each class"):
        load_data(str(tmp_path / "empty"))
    np.savez(tmp_path / "odd.npz", pixels=np.zeros(3))
    with pytest.raises(DataError, match=r"got \['pixels'\]"):
        load_data(str(tmp_path / "odd.npz"))


def test_groups_use_every_query_once_before_any_twice():
    groups = random_groups(10, 3, 7, torch.manual_seed(1))
    assert groups.shape == (7, 3)
    assert len(set(groups[:3].flatten().tolist())) == 9
    assert all(len(set(group)) == 3 for group in groups.tolist())


def test_data_short_of_one_group_are_refused(npz: Path):
    few = dataclasses.replace(load_data(str(npz)), count=3)
    with pytest.raises(ValueError, match="at least queries=4 beside calibration, got 3"):
        run(Small().eval(), few, settings())


def settings(**options: object) -> Settings:
    cases = make_cases(["approxifer", "replication", "uncoded"], 4, [1, 2])
    return Settings(cases, **{"groups": 40, "chunk": 4, **options})  # type: ignore[arg-type]


def test_an_interrupted_run_goes_on_and_ends_the_same(
    tmp_path: Path, npz: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("approxifer_torchserve.evaluation.run._SAVE_EVERY_S", -1.0)
    data, model = load_data(str(npz)), Small().eval()
    whole = run(model, data, settings(), identity="a")

    def interrupt(done: int, of: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, data, settings(), identity="a", folder=tmp_path, progress=interrupt)
    kept = tmp_path / STATE_FILE
    assert kept.is_file()
    shutil.copy(kept, tmp_path / "copy")
    seen: list[int] = []
    again = run(
        model, data, settings(), identity="a", folder=tmp_path,
        progress=lambda done, of: seen.append(done),
    )  # fmt: skip
    assert seen[0] == 16
    assert again == whole
    assert not kept.exists()
    # Another model, or other settings, start anew.
    for change, identity in (({}, "b"), ({"seed": 3}, "a")):
        shutil.copy(tmp_path / "copy", kept)
        seen.clear()
        run(
            model, data, settings(**change), identity=identity, folder=tmp_path,
            progress=lambda done, of: seen.append(done),
        )  # fmt: skip
        assert seen[0] == 0


def test_no_code_guesses_the_mean_of_calibration_data(npz: Path, labels: np.ndarray):
    measured = run(Small().eval(), load_data(str(npz)), settings(groups=200, calibration=18))
    plain = next(c for c in measured["cases"] if c["mode"] == "uncoded" and c["s"] == 1)
    # The model is always right here, and a mean guesses one class for all.
    shares = np.bincount(labels, minlength=3) / len(labels)
    found = plain["scores"]["output"]["lost_only"]
    assert min(abs(found - shares)) < 0.05
    assert measured["base"] == {"output": 1.0}
    assert plain["scores"]["output"]["overall"] == pytest.approx(0.75 + found / 4)


def test_calibration_queries_are_in_no_group(npz: Path):
    calls: list[torch.Tensor] = []

    def model(inputs: torch.Tensor) -> torch.Tensor:
        calls.append(inputs.flatten(1))
        return Small()(inputs)

    plain = dataclasses.replace(settings(calibration=18), cases=make_cases(["uncoded"], 4, [1]))
    run(model, load_data(str(npz)), plain)
    guessed, grouped = calls[0], torch.cat(calls[1:])
    assert len(guessed) == 18
    assert (torch.cdist(guessed, grouped) > 0).all()


@pytest.mark.parametrize("order", ["similarity", "grouped"])
def test_an_order_places_queries_with_their_targets(npz: Path, order: str):
    measured = run(Small().eval(), load_data(str(npz)), settings(order=order))
    assert measured["base"] == {"output": 1.0}


def test_settings_are_checked():
    with pytest.raises(ValueError, match="groups: expected at least 1, got 0"):
        dataclasses.replace(settings(), groups=0)


def test_the_command_writes_a_report_that_serving_reads(tmp_path: Path, npz: Path, weights: Path):
    out = tmp_path / "out"
    words = [
        "evaluate", "--model", "evaluation_models:Small", "--weights", str(weights),
        "--data", str(npz), "--codes", "approxifer,approxifer:nodes=authors,replication,uncoded",
        "--queries", "4", "--stragglers", "1,2", "--groups", "30", "--out", str(out),
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    written = json.loads((out / "report.json").read_text())
    assert printed == written
    assert written["base_accuracy"] == 1.0
    report = load_report(out / "report.json")
    exact = report.codes[served_key(name="replication", queries=4)]
    assert exact.A_d == 1.0
    systematic = report.codes[served_key(queries=4)]
    assert systematic.A_d < 0.9
    assert len(report.codes) == 6
    page = (out / "report.html").read_text()
    assert "no code" in page
    assert page.count("data:image/png;base64,") == 2
    assert {"accuracy.png", "positions.png"} <= {p.name for p in out.iterdir()}
    assert not (out / STATE_FILE).exists()

    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0
    assert "take" in shown.stdout
    assert "no code" in shown.stdout


def parity_files(folder: Path) -> dict[str, str]:
    """Weights for parm with K=4, S=1: perfect ones, the same as TorchScript, and for another K."""
    about = own_weights.describe(make_code("parm", queries=4, stragglers=1), "parity")
    own_weights.save(Linear(), folder / "p.safetensors", about)
    own_weights.save(Linear(), folder / "other.safetensors", {**about, "queries": "8"})
    torch.jit.script(Linear()).save(str(folder / "p.pt"))
    return {name: str(folder / name) for name in ("p.safetensors", "p.pt", "other.safetensors")}


def test_the_command_measures_a_code_with_weights_of_its_own(tmp_path: Path, npz: Path):
    files = parity_files(tmp_path)
    words = [
        "evaluate", "--model", "evaluation_linear:Linear", "--data", str(npz), "--codes",
        "parm,uncoded", "-k", "4", "-s", "1", "--groups", "10", "--out", str(tmp_path), "--json",
    ]  # fmt: skip
    found = []
    for name in ("p.safetensors", "p.pt"):
        done = CliRunner().invoke(app, [*words, "--weights", f"parity={files[name]}"])
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert report["weights"] == {"parity": own_weights.digest(Path(files[name]))}
        key = served_key(name="parm", queries=4)
        assert report["codes"][key]["A_d"] == report["base_accuracy"]
        found.append(report["measured"]["cases"])
    assert found[0] == found[1]
    for given, text in (
        ([], "--weights parity=FILE"),
        (["--weights", "parity=nowhere.pt"], "nowhere.pt: expected a file with weights"),
        (["--weights", f"parity={files['other.safetensors']}"], "'queries': '8'"),
        (["--weights", f"parity={npz}"], "expected TorchScript or safetensors"),
        (["--weights", "parity=a", "--weights", "student=b"], "got ['student'] too"),
    ):
        done = CliRunner().invoke(app, [*words, *given])
        assert done.exit_code == 1
        assert text in " ".join(done.output.replace("│", " ").split()), done.output


def test_the_model_s_weights_and_a_role_s_are_told_apart(tmp_path: Path, npz: Path, weights: Path):
    own, roles = split_roles([str(weights), "parity=a=b.pt"])
    assert (own, roles) == (weights, {"parity": Path("a=b.pt")})
    assert split_roles(["./a=b.pt"]) == (Path("a=b.pt"), {})
    assert split_roles(["base=a.pt"]) == (Path("a.pt"), {})
    assert split_roles(None) == (None, {})
    for given in (["a.pt", "b.pt"], ["parity=a", "parity=b"], ["parity="]):
        with pytest.raises(typer.BadParameter, match="expected one file for each"):
            split_roles(given)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (["--stragglers", "one"], 2, "expected numbers separated by commas"),
        (["--order", "random"], 2, "expected one of arrival"),
        (["--codes", "fountain"], 1, "name must be one of"),
        (["--data", "nowhere"], 1, "data: expected an .npz file"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, npz: Path, change: list[str], code: int, words: str):
    given = ["--model", "evaluation_models:Small", "--data", str(npz), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, ["evaluate", *given, *change])
    assert done.exit_code == code
    assert words in " ".join(done.output.replace("│", " ").split())
