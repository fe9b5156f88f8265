"""A JVM in the test process with the plugin, compiled from its sources."""

import jpype
import pytest
from plugin_classes import MAIN, TEST, compile_plugin, server_jar
from router_bench import Bench


@pytest.fixture(scope="session")
def jvm(tmp_path_factory):
    classes = tmp_path_factory.mktemp("classes")
    compile_plugin(classes, MAIN, TEST)
    jpype.startJVM(classpath=[str(classes), str(server_jar())], convertStrings=True)
    return jpype.JPackage("org").approxifer.torchserve


@pytest.fixture
def core(jvm):
    return jvm.core


@pytest.fixture
def bench(core):
    """Makes benches: `bench(mode="systematic", reconstruct=True, …)`."""
    return lambda **options: Bench(core, **options)
