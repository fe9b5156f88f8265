"""Wrapping archives and parts into one coded archive."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import yaml
from serving_harness import MODELS, Worker, archived, png, wrapped

from approxifer_torchserve.serving.archive.packing import ArchiveError
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.plan import PLAN_FILE, Plan

CLASSIC = {"code": {"queries": 4, "stragglers": 1, "systematic": False}}


@pytest.fixture
def parts(tmp_path):
    for name in ("weights.pt", "labels.json", "requirements.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "config.yaml").write_text("batchSize: 3\nhandler: {mine: 1}\nfoo: bar\n")
    return {
        "model_name": "pngs",
        "handler": str(MODELS / "png_handler.py"),
        "serialized_file": tmp_path / "weights.pt",
        "extra_files": [tmp_path / "labels.json"],
        "requirements_file": tmp_path / "requirements.txt",
        "config_file": tmp_path / "config.yaml",
        "version": "2.5",
    }


@pytest.fixture
def mar(tmp_path, parts):
    """An ordinary archive as torch-model-archiver itself makes it."""
    command = ["--model-name", "pngs", "--version", "2.5", "--handler", parts["handler"]]
    command += ["--serialized-file", str(parts["serialized_file"])]
    command += ["--extra-files", str(parts["extra_files"][0])]
    command += ["--requirements-file", str(parts["requirements_file"])]
    command += ["--config-file", str(parts["config_file"]), "--export-path", str(tmp_path)]
    code = "from model_archiver.model_packaging import generate_model_archive as g; g()"

    def make(form="default"):
        subprocess.run([sys.executable, "-c", code, *command, "--archive-format", form], check=True)
        suffix = {"default": ".mar", "tgz": ".tar.gz", "no-archive": ""}[form]
        return tmp_path / f"pngs{suffix}"

    return make


def contents(path):
    with zipfile.ZipFile(path) as packed:
        assert len(set(packed.namelist())) == len(packed.namelist())
        return {name: packed.read(name) for name in packed.namelist()}


def check(path, handler="png_handler.py"):
    files = contents(path)
    manifest = json.loads(files["MAR-INF/MANIFEST.json"])
    model = manifest["model"]
    assert model["handler"] == "approxifer_handler.py"
    assert (model["modelName"], model["modelVersion"]) == ("pngs", "2.5")
    assert (model["serializedFile"], model["requirementsFile"]) == (
        "weights.pt",
        "requirements.txt",
    )
    assert manifest["runtime"] == "python"
    plan = Plan.parse(files[PLAN_FILE])
    assert plan.worker.handler == handler
    assert files[handler] == (MODELS / handler).read_bytes()
    assert {"approxifer_handler.py", "labels.json", "weights.pt"} <= set(files)
    return files, plan, yaml.safe_load(files[model["configFile"]])


def test_nothing_is_set_that_was_not_asked_for(tmp_path, parts):
    report = archived(tmp_path / "out", **parts)
    files, _, _ = check(report.path)
    given = parts["config_file"].read_bytes()
    assert json.loads(files["MAR-INF/MANIFEST.json"])["model"]["configFile"] == "config.yaml"
    assert files["config.yaml"] == given
    assert report.changes == []
    assert not [name for name in files if name.endswith(".yaml") and name != "config.yaml"]


def test_what_was_changed_is_told_as_a_diff_beside_the_users_own_file(tmp_path, parts):
    report = archived(tmp_path / "out", settings={"batchSize": 5}, **parts)
    files, _, config = check(report.path)
    assert files["config.yaml"] == parts["config_file"].read_bytes()
    assert config["batchSize"] == 5
    assert report.changes[:2] == ["--- config.yaml", "+++ approxifer-model-config.yaml"]
    assert [line for line in report.changes[2:] if line[0] in "+-"] == [
        "-batchSize: 3",
        "+batchSize: 5",
    ]


def test_a_model_without_settings_gets_none(tmp_path):
    parts = {"model_name": "pngs", "handler": str(MODELS / "png_handler.py")}
    report = archived(tmp_path, **parts)
    files = contents(report.path)
    assert "configFile" not in json.loads(files["MAR-INF/MANIFEST.json"])["model"]
    assert not [name for name in files if name.endswith(".yaml")]
    settings = archived(tmp_path / "set", settings={"batchSize": 2}, **parts)
    assert settings.changes[:2] == ["--- /dev/null", "+++ approxifer-model-config.yaml"]


def test_files_of_the_users_keep_their_names_and_contents(tmp_path, parts):
    mine = {name: f"mine: {name}" for name in ("plan.json", "probe.json", "model-config.yaml")}
    for name, text in {**mine, "locator.safetensors": "mine", "probe.body": "mine"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "sample.png").write_bytes(png(1))
    parts["extra_files"] = [tmp_path / name for name in mine]
    report = archived(
        tmp_path / "out",
        sample=tmp_path / "sample.png",
        approxifer={"policy": {"probe_every_s": 10}},
        settings={"batchSize": 2},
        **{**parts, "config_file": None},
    )
    again = archived(tmp_path / "again", report.path, rewrap=True)
    for made in (report, again):
        files = contents(made.path)
        assert {name: files[name].decode() for name in mine} == mine


@pytest.mark.parametrize("name", ["approxifer_handler.py", "approxifer-model-config.yaml"])
def test_a_file_of_the_users_under_our_names_is_refused_by_name(tmp_path, parts, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ArchiveError, match=rf"the name {name} is taken.*rename yours"):
        archived(tmp_path / "out", **{**parts, "extra_files": [tmp_path / name]})


def test_parts(tmp_path, parts):
    out = tmp_path / "out"
    report = archived(out, approxifer=CLASSIC, **parts)
    assert report.path == out / "pngs.mar"
    _, plan, config = check(report.path)
    assert (plan.mode, plan.num_workers) == ("coded", 5)
    assert config == {
        "batchSize": 3,
        "handler": {"mine": 1, "approxifer": CLASSIC},
        "foo": "bar",
    }


@pytest.mark.parametrize("form", ["default", "tgz", "no-archive"])
def test_an_existing_archive_of_any_form(tmp_path, mar, form):
    source = mar(form)
    report = archived(tmp_path / "out", source, approxifer=CLASSIC, settings={"batchSize": 5})
    _, _, config = check(report.path)
    assert (config["batchSize"], config["foo"]) == (5, "bar")
    assert source.exists()


def test_wrapping_twice_needs_rewrap_and_leaves_no_trace_of_the_first(tmp_path, mar):
    first = archived(tmp_path / "1", mar(), approxifer=CLASSIC, settings={"jobQueueSize": 7})
    with pytest.raises(ArchiveError, match="set rewrap"):
        archived(tmp_path / "2", first.path)
    second = archived(tmp_path / "2", first.path, rewrap=True)
    direct = archived(tmp_path / "3", tmp_path / "pngs.mar")
    assert contents(second.path) == contents(direct.path)
    assert second.plan.num_workers == 9
    _, plan, config = check(second.path)
    assert plan.worker.handler == "png_handler.py"
    assert "jobQueueSize" not in config


def test_it_refuses_to_overwrite_unless_forced(tmp_path, parts):
    archived(tmp_path, **parts)
    with pytest.raises(ArchiveError, match="set force"):
        archived(tmp_path, **parts)
    archived(tmp_path, force=True, **parts)


def test_a_folder_named_like_the_model_in_the_temporary_directory_survives(tmp_path, parts):
    # torch-model-archiver on its own deletes it.
    with tempfile.TemporaryDirectory(prefix="approxifer-precious-") as precious:
        (Path(precious) / "file").write_text("x")
        name = Path(precious).name
        archived(tmp_path, **{**parts, "model_name": name})
        assert (Path(precious) / "file").exists()
    assert tempfile.gettempdir() == os.path.dirname(precious)


def test_the_printed_command_packs_the_same_files(tmp_path, parts):
    report = archived(tmp_path / "out", **parts)
    opened = tmp_path / "opened"
    with zipfile.ZipFile(report.path) as packed:
        packed.extractall(opened, [n for n in packed.namelist() if not n.startswith("MAR-INF")])
    words = shlex.split(report.archiver_command)
    assert words[0] == "torch-model-archiver"
    code = "from model_archiver.model_packaging import generate_model_archive as g; g()"
    subprocess.run([sys.executable, "-c", code, *words[1:]], cwd=opened, check=True)
    again, ours = contents(opened / "pngs.mar"), contents(report.path)
    manifests = [json.loads(files.pop("MAR-INF/MANIFEST.json")) for files in (again, ours)]
    assert again == ours
    assert manifests[0]["model"] == manifests[1]["model"]
    url = "http://127.0.0.1:8081/models?url=pngs.mar&initial_workers=9"
    assert report.register_command == f"curl -X POST '{url}'"


def test_a_manifest_among_the_extra_files_is_none(tmp_path, parts):
    (tmp_path / "old" / "MAR-INF").mkdir(parents=True)
    (tmp_path / "old" / "MAR-INF" / "MANIFEST.json").write_text("{}")
    (tmp_path / "sample.png").write_bytes(png(1))
    more = {"extra_files": [*parts["extra_files"], tmp_path / "old"]}
    report = archived(tmp_path / "out", sample=tmp_path / "sample.png", **{**parts, **more})
    check(report.path)


def test_a_model_that_is_disabled_keeps_its_own_settings(tmp_path, parts):
    report = archived(tmp_path, approxifer={"enabled": False}, **parts)
    _, plan, config = check(report.path)
    assert not plan.enabled
    assert set(config) == {"batchSize", "handler", "foo"}


def test_settings_that_do_not_fit_are_kept_with_a_warning(tmp_path, parts):
    settings = {"minWorkers": 2, "maxWorkers": 4, "responseTimeout": "1", "maxBatchDelay": 0}
    report = archived(tmp_path, settings=settings, **parts)
    _, plan, config = check(report.path)
    assert {key: config[key] for key in settings} == settings
    assert plan.worker.workers == 2
    assert "initial_workers" not in report.register_command
    said = " ".join(report.warnings)
    assert all(word in said for word in ("minWorkers is 2", "responseTimeout", "maxBatchDelay"))


def test_min_workers_without_max_workers_is_ignored_by_torchserve(tmp_path, parts):
    report = archived(tmp_path, settings={"minWorkers": 9}, **parts)
    assert "there is no maxWorkers: TorchServe then ignores minWorkers" in " ".join(report.warnings)
    assert "initial_workers=9" in report.register_command


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"handler": "nope_handler.py"}, "nope_handler.py"),
        ({"serialized_file": Path("nope.pt")}, "serialized_file: there is no file nope.pt"),
        ({"extra_files": ["nope.json"]}, "nope.json"),
        ({"model_name": "a b"}, "special characters"),
        ({"handler": str(MODELS / "streaming_handler.py")}, "streaming_handler.py streams"),
        ({"settings": {"sequenceBatching": True}}, "model-config.yaml sets sequenceBatching"),
        ({"settings": {"continuousBatching": True}}, "sets continuousBatching"),
        ({"settings": {"useJobTicket": True}}, "sets useJobTicket"),
        ({"settings": {"asyncCommunication": True}}, "sets asyncCommunication"),
        (
            {"settings": {"parallelType": "PP", "torchrun": {"nproc-per-node": 2}}},
            "sets parallelType, with torchrun",
        ),
        ({"settings": {"parallelType": "custom", "parallelLevel": 2}}, "sets parallelType"),
        ({"runtime": "LSP"}, "runtime: only Python handlers can be wrapped"),
        ({"archive_format": "rar"}, "archive_format: expected one of"),
    ],
)
def test_what_cannot_be_wrapped_says_why(tmp_path, parts, change, said):
    with pytest.raises(ArchiveError) as error:
        archived(tmp_path, **{**parts, **change})
    assert said in str(error.value)
    assert not list(tmp_path.glob("*.mar"))


def test_sources_that_are_no_archives(tmp_path):
    (tmp_path / "text.mar").write_text("no")
    with zipfile.ZipFile(tmp_path / "empty.mar", "w") as packed:
        packed.writestr("a", "b")
    with zipfile.ZipFile(tmp_path / "flow.war", "w") as packed:
        packed.writestr("WAR-INF/MANIFEST.json", "{}")
    for name, said in (
        ("flow.war", "is a workflow: wrap a model's own archive"),
        ("none.mar", "there is no"),
        ("text.mar", "expected a .mar"),
        ("empty.mar", "no readable"),
    ):
        with pytest.raises(ArchiveError, match=said):
            archived(tmp_path, tmp_path / name)


def test_a_wrong_setting_names_its_key(tmp_path, parts):
    with pytest.raises(ConfigError, match=r"handler\.approxifer\.policy\.late"):
        archived(tmp_path, approxifer={"policy": {"late": 1}}, **parts)


@pytest.mark.parametrize(
    "settings",
    [
        {"useJobTicket": "true", "sequenceBatching": 1},
        {"continuousBatching": False},
        {"parallelType": "pp"},
        {"parallelLevel": 2},
        {"parallelType": "none", "torchrun": {"nproc-per-node": 2}},
    ],
)
def test_what_torchserve_itself_ignores_is_not_refused(tmp_path, parts, settings):
    assert archived(tmp_path / "out", settings=settings, **parts).mode == "systematic"


@pytest.mark.parametrize(
    ("handler", "staged", "said"),
    [
        ("png_handler.py", True, ""),
        ("whole_handler.py", False, "has a handle() of its own"),
        ("function_handler.py", False, "has a function handle()"),
        ("function_handler.py:shout", False, "has a function shout()"),
        ("image_classifier", True, ""),
        ("base_handler", True, ""),
        ("densenet_handler", False, "has a handle() of its own"),
    ],
)
def test_what_can_be_coded_is_read_from_the_source(tmp_path, handler, staged, said):
    from approxifer_torchserve.serving.archive.inspection import inspect_handler

    found = inspect_handler(MODELS if ".py" in handler else tmp_path, handler, {})
    assert (found.staged, found.codable, found.checked) == (staged, staged, True)
    assert found.refused == []
    assert said in "".join(found.reasons)
    if not staged:
        assert "still hedged, and replication works" in found.reasons[0]


def test_a_base_class_from_elsewhere_is_assumed_to_be_staged(tmp_path):
    from approxifer_torchserve.serving.archive.inspection import inspect_handler

    (tmp_path / "h.py").write_text("from company import Base\nclass H(Base):\n    pass\n")
    found = inspect_handler(tmp_path, "h.py", {})
    assert (found.staged, found.checked) == (True, False)
    (tmp_path / "company.py").write_text("class Base:\n    def handle(self, data, ctx): ...\n")
    found = inspect_handler(tmp_path, "h.py", {})
    assert (found.staged, found.checked) == (False, True)


@pytest.mark.parametrize("code", [{}, CLASSIC])
def test_a_sample_goes_through_every_kind_of_job(tmp_path, parts, code):
    sample = tmp_path / "sample.png"
    sample.write_bytes(png(1))
    report = archived(tmp_path, sample=sample, approxifer=code, **parts)
    found = report.sample
    assert (found.staged, found.codable, found.reason) == (True, True, None)
    assert (found.query, found.prediction) == (["[64] float32"], ["[5] float32"])
    kinds = {"raw", "encode", "coded", "decode"} | (set() if code else {"parity"})
    assert set(found.milliseconds) == kinds
    assert found.answer_bytes > 50
    files, _, _ = check(report.path)
    assert not [name for name in files if name.endswith(".key")]


def test_a_sample_shows_that_inputs_are_integers(tmp_path):
    sample = tmp_path / "sample.json"
    sample.write_text('{"x": [1, 2, 3]}')
    worker, report = wrapped(tmp_path, "int_handler.py", sample=sample, approxifer=CLASSIC)
    assert isinstance(worker, Worker)
    assert report.mode == "uncoded"
    said = "preprocess gives [1, 3] int64, which cannot be interpolated"
    assert said in report.capability.reasons[0]
    assert said in report.plan.policy.reconstruct_reason


def test_a_sample_that_the_handler_refuses_fails_the_archive(tmp_path, parts):
    sample = tmp_path / "sample.png"
    sample.write_text("text")
    with pytest.raises(ArchiveError, match="raw: 400 preprocess refused the input"):
        archived(tmp_path, sample=sample, **parts)
    assert not (tmp_path / "pngs.mar").exists()


def test_a_whole_handler_answers_its_sample(tmp_path):
    sample = tmp_path / "sample.txt"
    sample.write_text("hello")
    _, report = wrapped(tmp_path, "whole_handler.py", sample=sample)
    assert (report.sample.staged, report.mode) == (False, "uncoded")
    assert len(report.capability.reasons) == 1
