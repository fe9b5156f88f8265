"""The unit tests' harness, archives made once, and quiet: these handlers fail all the time."""

import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from world import Archives


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    return Archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
