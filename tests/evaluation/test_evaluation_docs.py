from __future__ import annotations

import doctest
import re
from pathlib import Path

from typer.testing import CliRunner

from approxifer_torchserve.cli.main import app

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"


def test_the_page_prints_what_it_says():
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.attempted > 10
    assert result.failed == 0


def test_options_that_the_page_names_exist():
    text = PAGE.read_text(encoding="utf-8")
    helps = "".join(
        CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for command in ("evaluate", "archive")
    )
    named = set(re.findall(r"approxifer (?:evaluate|archive)((?:.|\\\n)*?)\n```", text))
    options = {word for part in named for word in re.findall(r"--[a-z-]+", part)}
    assert {"--from-checkpoint", "--stragglers", "--codes"} <= options
    assert {option for option in options if option not in helps} == set()
