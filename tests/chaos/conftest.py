"""One server under chaos, closed before the tests that keep a server of their own."""

import pytest

from approxifer_torchserve.bench.chaos.bench import start
from approxifer_torchserve.bench.chaos.run import Size

# A longer deadline than the default: the machine that runs the tests may be busy with others.
SIZE = Size(queries=4, stragglers=2, rate=30.0, deadline_ms=5000.0)


@pytest.fixture(scope="module")
def lab():
    with start(SIZE) as lab:
        yield lab
