from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from approxifer_torchserve.codes import registry

PAGE = Path(__file__).parents[2] / "docs" / "codes.md"


@pytest.fixture
def registry_as_it_was(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "_codes", dict(registry._codes))


@pytest.mark.usefixtures("registry_as_it_was")
def test_the_page_prints_what_it_says():
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.attempted > 20
    assert result.failed == 0


def test_every_code_has_a_section():
    text = PAGE.read_text(encoding="utf-8")
    for record in registry.available_codes():
        assert f"## `{record.name}`" in text
