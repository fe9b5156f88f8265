"""docs/operations.md says what is so: its settings, commands, links and quoted answers."""

import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
import typer
import yaml

from approxifer_torchserve.cli.main import app
from approxifer_torchserve.serving.config import ApproxiferConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = {name: (ROOT / name).read_text() for name in ("docs/operations.md", "README.md")}
PAGE = PAGES["docs/operations.md"]


def settings_table():
    section = PAGE.split("## Settings", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", section, re.M)
    return {key: (yaml.safe_load(default), meaning, when) for key, default, meaning, when in rows}


def defaults(model, prefix=""):
    found = {}
    for name, value in model:
        if hasattr(type(value), "model_fields"):
            found |= defaults(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = list(value) if isinstance(value, tuple) else value
    return found


def test_the_settings_table_is_the_models():
    assert {key: row[0] for key, row in settings_table().items()} == defaults(ApproxiferConfig())
    assert all(meaning.strip() and when.strip() for _, meaning, when in settings_table().values())


def test_the_documented_defaults_are_accepted():
    nested = {}
    for key, (default, _, _) in settings_table().items():
        *sections, name = key.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = default
    assert load_config({"handler": {"approxifer": nested}}) == ApproxiferConfig()


def commands():
    found = []
    for page, text in PAGES.items():
        blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
        inline = re.findall(r"`(approxifer [^`]+)`", text)
        for line in [*"\n".join(blocks).splitlines(), *inline]:
            if line.startswith("approxifer "):
                found.append(pytest.param(line, id=f"{page}: {line[:60]}"))
    assert len(found) > 10
    return found


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line):
    words = [w for w in shlex.split(line, comments=True)[1:] if not re.search(r"[<…]", w)]
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert command.name != "approxifer", f"no such command: {line}"
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {"-h", "--help"}
    for word in words:
        if word.startswith("-"):
            assert word.split("=")[0] in known, f"{word} of {line}"


def test_options_named_in_the_text_exist():
    program = typer.main.get_command(app)
    known = {option for c in program.commands.values() for p in c.params for option in p.opts}
    theirs = {"--help", "--plugins-path", "--log-config"}  # the last two are torchserve's
    for page in PAGES.values():
        for option in re.findall(r"`(--[a-z-]+)", page):
            assert option in known | theirs, option


def test_alerts_link_to_sections_of_the_runbook():
    rules = yaml.safe_load(
        files("approxifer_torchserve.archives").joinpath("alerts.yaml").read_text()
    )
    runbook = PAGE.split("## Runbook", 1)[1].split("\n## ", 1)[0]
    sections = re.findall(r"^### (.+)$", runbook, re.M)
    anchors = {"docs/operations.md#" + s.lower().replace(" ", "-") for s in sections}
    links = {r["annotations"]["runbook"] for g in rules["groups"] for r in g["rules"]}
    assert links <= anchors


def test_quoted_answers_are_the_programs():
    """What the runbook quotes in italics is said by the plugin, the worker or TorchServe."""
    sources = [
        *ROOT.glob("plugin/src/main/**/*.java"),
        *ROOT.glob("approxifer_torchserve/serving/**/*.py"),
    ]
    # Java and Python break strings over lines: compare without quotes, plus signs and spaces.
    said = re.sub(r'["+\s{}]|f"', "", "\n".join(path.read_text() for path in sources))
    theirs = {"Token Authorization failed"}  # TorchServe's own; tests/serving/live/test_tokens.py
    runbook = PAGE.split("## Runbook", 1)[1].split("\n## ", 1)[0]
    quoted = re.findall(r"(?<![*\w])\*([A-Za-z…][^*]{7,})\*(?![*\w])", runbook)
    assert len(quoted) >= 8
    for words in quoted:
        if words in theirs:
            continue
        pieces = re.split(r"…|\d+", words)
        for piece in pieces:
            bare = re.sub(r"\s", "", piece)
            assert bare in said, f"{piece!r} of {words!r} is nowhere in the sources"


def test_files_that_the_page_names_exist():
    for name in set(re.findall(r"`((?:archives|tests|docs)/[\w./-]+)`", PAGE)):
        assert (ROOT / name).exists(), name
