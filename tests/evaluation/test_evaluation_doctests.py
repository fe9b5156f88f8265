from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from approxifer_torchserve import evaluation

MODULES = [found.name for found in pkgutil.iter_modules(evaluation.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name: str):
    module = importlib.import_module(f"{evaluation.__name__}.{name}")
    assert doctest.testmod(module).failed == 0
