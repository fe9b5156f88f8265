"""The commands as a user types them: help, exit codes, JSON, and what errors say."""

import io
import json
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from approxifer_torchserve import __version__
from approxifer_torchserve.cli.main import app
from approxifer_torchserve.cli.status import render
from approxifer_torchserve.serving.plan import PLAN_FILE, Plan

DATA = Path(__file__).parent / "data"
COMMANDS = (
    "codes",
    "calibrate",
    "archive",
    "serve",
    "deploy",
    "status",
    "undeploy",
    "doctor",
    "demo",
)


@pytest.fixture
def run(monkeypatch):
    # Wide, so that no message is wrapped in the middle of what is looked for.
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def nobody():
    """A URL where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def tiny(tmp_path):
    sys.path.insert(0, str(DATA))
    try:
        from tiny_model import Tiny
    finally:
        sys.path.remove(str(DATA))
    weights = tmp_path / "tiny.pt"
    torch.save(Tiny().state_dict(), weights)
    return (
        "--model-name", "tiny", "--model-file", DATA / "tiny_model.py",
        "--serialized-file", weights, "--handler", DATA / "tiny_handler.py",
    )  # fmt: skip


def test_help_lists_every_command(run):
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_shows_an_example(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"approxifer {command}" in result.output


def test_help_is_quick_because_torch_is_not_imported():
    code = (
        "import sys; import approxifer_torchserve.cli.main; "
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_version(run):
    assert __version__ in run("--version").output


def test_unknown_command_is_wrong_usage(run):
    assert run("nothing").exit_code == 2


def test_codes_as_json_names_those_of_the_registry(run):
    result = run("codes", "--json")
    assert result.exit_code == 0
    names = {entry["name"] for entry in json.loads(result.stdout)}
    assert {"approxifer", "replication", "uncoded"} <= names


@pytest.mark.parametrize(
    "words",
    [
        ("archive",),
        ("archive", "--model-name", "x"),
        ("archive", "--mar", "a.mar", "--model-name", "x", "--handler", "h.py"),
        ("archive", "--mar", "a.mar", "--handler", "h.py"),
        ("archive", "--mar", "a.mar", "--weights", "parity.pt"),
        ("archive", "--mar", "a.mar", "--option", "systematic"),
        ("archive", "--mar", "a.mar", "--queries", "0"),
        ("deploy", "a.mar", "--default"),
        ("status", "--watch", "--json"),
    ],
)
def test_wrong_usage_exits_2(run, words):
    assert run(*words).exit_code == 2


def test_archive_from_parts_and_its_plain_twin(run, tiny, tmp_path):
    out = tmp_path / "store" / "t.mar"
    words = ("archive", *tiny, "--queries", 4, "--stragglers", 2, "--policy", "late_after_ms=70")
    result = run(*words, "--output", out, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert "url=t.mar" in told["register_command"]
    assert "torch-model-archiver --model-name tiny" in told["archiver_command"]
    with zipfile.ZipFile(out) as archive:
        plan = Plan.parse(archive.read(PLAN_FILE))
        assert "tiny_handler.py" in archive.namelist()
    assert (plan.queries, plan.num_workers, plan.mode) == (4, 6, "systematic")
    assert plan.policy.late_after_ms == 70
    assert [path.name for path in out.parent.iterdir()] == ["t.mar"]

    assert run(*words, "--output", out).exit_code == 1
    assert run(*words, "--output", out, "--force").exit_code == 0

    twin = tmp_path / "twin.mar"
    assert run("archive", "--mar", out, "--rewrap", "--disabled", "-o", twin).exit_code == 0
    with zipfile.ZipFile(twin) as archive:
        assert not Plan.parse(archive.read(PLAN_FILE)).enabled


@pytest.mark.parametrize("more", [(), ("--option", "systematic=false")])
def test_archive_passes_options_to_the_code_and_what_they_imply(run, tiny, tmp_path, more):
    words = ("archive", *tiny, "--option", "nodes=paper", *more)
    result = run(*words, "--export-path", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)["plan"]
    assert plan["mode"] == "coded"
    assert (plan["code"]["nodes"], plan["code"]["systematic"]) == ("paper", False)


def test_archive_shows_what_it_changed_as_a_diff(run, tiny, tmp_path):
    given = tmp_path / "mine.yaml"
    given.write_text("batchSize: 3  # mine\n")
    words = ("archive", *tiny, "--config-file", given, "--export-path", tmp_path / "store")
    said = run(*words).output
    assert "no setting of model-config.yaml was changed" in said
    assert "initial_workers=9" in said
    assert "approxifer deploy tiny.mar --workers 9" in said
    words = (*words, "--policy", "late_after_ms=70", "--force")
    lines = [line.rstrip() for line in run(*words).output.splitlines()]
    assert lines[lines.index("--- mine.yaml") :][:8] == [
        "--- mine.yaml",
        "+++ approxifer-model-config.yaml",
        "@@ -1 +1,5 @@",
        " batchSize: 3",
        "+handler:",
        "+  approxifer:",
        "+    policy:",
        "+      late_after_ms: 70",
    ]
    told = json.loads(run(*words, "--json").stdout)
    assert told["changes"][0] == "--- mine.yaml"


def test_what_looks_like_markup_is_shown_as_it_is(run, tiny, tmp_path):
    words = ("archive", *tiny, "--export-path", tmp_path / "[bold]")
    assert str(tmp_path / "[bold]") in run(*words).output
    assert "\\[/red]" in run("archive", *tiny, "--code", "\\[/red]", "-o", tmp_path / "x").stderr


def test_archive_says_which_setting_is_wrong(run, tiny, tmp_path):
    result = run("archive", *tiny, "--code", "nonsense", "--export-path", tmp_path)
    assert result.exit_code == 1
    assert "nonsense" in result.stderr
    assert "approxifer" in result.stderr


def test_deploy_without_a_server_says_where_it_looked(run, nobody):
    result = run("deploy", "a.mar", "--management", nobody)
    assert result.exit_code == 1
    assert nobody in result.stderr
    assert "approxifer serve" in result.stderr


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"management": {}}'])
def test_a_file_that_is_no_key_file_is_told(run, nobody, tmp_path, text):
    path = tmp_path / "key_file.json"
    path.write_text(text)
    result = run("undeploy", "x", "--management", nobody, "--key-file", path)
    assert result.exit_code == 1
    assert "holds no management key" in result.stderr


def test_deploy_copies_whole_and_knows_how_many_workers_the_code_wants(run, tiny, tmp_path, nobody):
    from approxifer_torchserve.cli.deploy import _workers_of

    made, store = tmp_path / "made.mar", tmp_path / "store"
    assert run("archive", *tiny, "--queries", 4, "-o", made).exit_code == 0
    assert run("deploy", made, "--model-store", store, "--management", nobody).exit_code == 1
    assert [path.name for path in store.iterdir()] == ["made.mar"]
    assert (store / "made.mar").read_bytes() == made.read_bytes()
    assert _workers_of(made) == 5
    assert _workers_of(tmp_path / "tiny.pt") is None
    assert run("archive", "--mar", made, "--rewrap", "--disabled", "-o", made, "-f").exit_code == 0
    assert _workers_of(made) is None


def test_deploy_refuses_a_path_it_cannot_deliver(run, nobody):
    result = run("deploy", "some/where.mar", "--management", nobody)
    assert result.exit_code == 1
    assert "--model-store" in result.stderr


@pytest.mark.parametrize(
    ("words", "option"), [(("undeploy", "x"), "--management"), (("status",), "--inference")]
)
def test_others_without_a_server_exit_1(run, nobody, words, option):
    result = run(*words, option, nobody)
    assert result.exit_code == 1
    assert nobody in result.stderr


def test_doctor_as_json_has_a_state_for_everything(run):
    result = run("doctor", "--json")
    findings = {entry["what"]: entry for entry in json.loads(result.stdout)}
    assert {"java", "javac", "plugin", "ports", "memory", "torchserve"} <= set(findings)
    assert {entry["state"] for entry in findings.values()} <= {"ok", "note", "bad"}
    assert result.exit_code == any(entry["state"] == "bad" for entry in findings.values())


def test_doctor_finds_too_little_memory(run):
    result = run("doctor", "--json", "--workers", 10**6)
    memory = next(e for e in json.loads(result.stdout) if e["what"] == "memory")
    assert memory["state"] == "bad"
    assert result.exit_code == 1


def test_status_draws_any_state():
    worker = {"handed": 2, "mean_ms": 1.23456, "state": "ok"}
    model = {
        "model": "digits",
        "version": "1.0",
        "mode": "systematic",
        "idle_workers": 2,
        "counters": {"exact": 7, "jobs": {"raw": 8}},
        "workers": {"9000": worker, "9001": {**worker, "state": "quarantined"}},
    }
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render({"models": [model]}))
    # One model alone, as GET /coded/<model> may answer, and workers as a list.
    console.print(render({**model, "workers": [{"id": "9002"}]}))
    text = console.export_text()
    for part in (
        "digits 1.0 systematic", "exact 7", "raw 8", "9000", "1.235", "quarantined", "9002",
        "idle_workers 2",
    ):  # fmt: skip
        assert part in text
    console.print(render({"models": []}))
    assert "no coded model" in console.export_text()
