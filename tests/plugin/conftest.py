"""A JVM in the test process with the plugin, compiled from its sources."""

import plugin_jvm
import pytest
from router_bench import Bench


@pytest.fixture(scope="session")
def jvm(tmp_path_factory):
    return plugin_jvm.start(tmp_path_factory.mktemp("classes"))


@pytest.fixture
def core(jvm):
    return jvm.core


@pytest.fixture
def bench(core):
    """Makes benches: `bench(mode="systematic", reconstruct=True, …)`."""
    return lambda **options: Bench(core, **options)
