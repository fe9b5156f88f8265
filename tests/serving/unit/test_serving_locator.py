"""The locator of an archive: checked, named in the plan, loaded by the worker or refused."""

import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from screening_harness import CLASSIC, ONE_LIAR, PARITY, Screened, file_of, served
from serving_harness import MODELS, Worker, archived, png

from approxifer_torchserve.artifacts.locator_file import load_locator
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.plan import Plan

NAME = "approxifer/locator.safetensors"


def wrap(tmp_path, approxifer=ONE_LIAR, source=None, **options):
    if source is None:
        options["handler"] = str(MODELS / "curved_handler.py")
        options["extra_files"] = [MODELS / "png_handler.py", *options.get("extra_files", ())]
        options["model_name"] = "m"
    return archived(tmp_path / "out", source, approxifer=approxifer, force=True, **options)


@pytest.mark.parametrize("approxifer", [ONE_LIAR, PARITY, CLASSIC])
def test_it_is_named_in_the_plan_and_used_by_the_worker(tmp_path, approxifer):
    worker, report = served(tmp_path, approxifer, calibrated=True)
    locator = load_locator(tmp_path / "fitted.safetensors")
    assert report.plan.worker.locator == NAME
    assert load_locator(worker.model_dir / NAME) == locator
    code = worker.service._entry_point.__self__.coded.coding.code
    assert code.locator == locator
    assert not [w for w in report.warnings if "locator" in w]


def test_without_one_the_archive_says_that_gross_faults_is_all(tmp_path):
    for approxifer in (ONE_LIAR, PARITY, CLASSIC):
        report = wrap(tmp_path, approxifer)
        assert "gross faults only" in " ".join(report.warnings)
        assert report.plan.worker.locator is None
    vote = {"code": {"name": "replication", "queries": 1, "stragglers": 0, "byzantine": 1}}
    for approxifer in (vote, {"policy": {"verify": "pair"}}, {}):
        assert "gross" not in " ".join(wrap(tmp_path, approxifer).warnings)


def test_wrapping_anew_forgets_the_locator(tmp_path):
    first = wrap(tmp_path, locator=file_of(tmp_path, ONE_LIAR))
    with zipfile.ZipFile(first.path) as packed:
        assert NAME in packed.namelist()
    second = wrap(tmp_path, {}, first.path, rewrap=True, model_name="again")
    with zipfile.ZipFile(second.path) as packed:
        assert NAME not in packed.namelist()
    third = wrap(tmp_path, ONE_LIAR, first.path, rewrap=True, locator=file_of(tmp_path, ONE_LIAR))
    assert third.plan.worker.locator == NAME


def test_a_file_of_the_users_with_that_name_is_not_written_over(tmp_path):
    name = "locator.safetensors"
    (tmp_path / name).write_text("mine")
    report = wrap(tmp_path, locator=file_of(tmp_path, ONE_LIAR), extra_files=[tmp_path / name])
    again = wrap(tmp_path, {}, report.path, rewrap=True)
    for made in (report, again):
        with zipfile.ZipFile(made.path) as packed:
            assert packed.read(name) == b"mine"


@pytest.mark.parametrize(
    ("approxifer", "said"),
    [
        ({}, "nothing in this archive would use it .*code.byzantine above 0 or policy.verify"),
        ({"policy": {"verify": "pair"}}, "nothing in this archive would use it .check: pair"),
        ({"code": {**ONE_LIAR["code"], "queries": 8}}, "is for another code"),
        ({"code": {**CLASSIC["code"], "queries": 4, "locator": "rational"}}, "names another one"),
    ],
)
def test_a_locator_that_does_not_belong_is_refused(tmp_path, approxifer, said):
    with pytest.raises(ConfigError, match=f"locator: .*{said}"):
        wrap(tmp_path, approxifer, locator=file_of(tmp_path, ONE_LIAR))


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_a_file_that_holds_no_locator_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"locator: .*x\.safetensors|locator: No such file"):
        wrap(tmp_path, locator=path)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def _other_numbers(path):
    """As a bad disk would: still a locator, but another one."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + torch.ones_like(tensors[name])
    save_file(tensors, str(path), metadata=metadata)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "cannot be used"),
        (lambda path: path.write_bytes(b""), "cannot be used"),
        (_truncate, "cannot be used"),
        (_other_numbers, "its numbers differ"),
    ],
)
def test_a_worker_does_not_start_with_a_broken_locator(tmp_path, damage, said):
    worker, _ = served(tmp_path, ONE_LIAR, calibrated=True)
    damage(worker.model_dir / NAME)
    with pytest.raises(ConfigError, match=rf"locator\.safetensors.*{said}"):
        Worker(worker.model_dir, "approxifer_handler.py")
    # As the user's own handler it needs no locator.
    plan = Plan.read(worker.model_dir)
    plan.model_copy(update={"enabled": False}).write(worker.model_dir)
    Worker(worker.model_dir, "approxifer_handler.py")


def test_a_sample_is_screened_too(tmp_path):
    sample = tmp_path / "sample.png"
    sample.write_bytes(png(1))
    _, report = served(tmp_path, PARITY, calibrated=True, sample=sample)
    assert set(report.sample.milliseconds) == {
        "raw", "encode", "coded", "parity", "screen", "decode"
    }  # fmt: skip


def test_a_locator_fitted_for_no_liars_screens(tmp_path):
    """``verify: parity``: a lie of usual size, which no look at sizes shows."""
    found = {}
    for calibrated in (False, True):
        folder = tmp_path / str(calibrated)
        folder.mkdir()
        worker, report = served(folder, PARITY, calibrated)
        found[calibrated] = 0
        for liar in range(5):
            group = Screened(worker, report.plan, start=20 * liar)
            found[calibrated] += bool(group.verdict(group.answers(liar, "element", 2.0))[1])
    assert found[True] == 5 > found[False]
