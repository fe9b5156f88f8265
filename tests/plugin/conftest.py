"""A JVM in the test process with the plugin, compiled from its sources."""

import os
import shutil
import subprocess
from pathlib import Path

import jpype
import pytest
from router_bench import Bench

ROOT = Path(__file__).resolve().parents[2]


def _javac():
    home = os.environ.get("JAVA_HOME")
    found = f"{home}/bin/javac" if home else shutil.which("javac")
    if not found:
        pytest.fail("the plugin's tests need a JDK 17 or newer: no javac on PATH, no JAVA_HOME")
    return found


@pytest.fixture(scope="session")
def jvm(tmp_path_factory):
    import ts

    server_jar = Path(ts.__file__).parent / "frontend" / "model-server.jar"
    classes = tmp_path_factory.mktemp("classes")
    sources = [str(path) for path in (ROOT / "plugin" / "src").rglob("*.java")]
    options = ["--release", "17", "-proc:none", "-Xlint:all", "-Werror"]
    paths = ["-cp", str(server_jar), "-d", str(classes)]
    subprocess.run([_javac(), *options, *paths, *sources], check=True)
    jpype.startJVM(classpath=[str(classes), str(server_jar)], convertStrings=True)
    return jpype.JPackage("org").approxifer.torchserve


@pytest.fixture
def core(jvm):
    return jvm.core


@pytest.fixture
def bench(core):
    """Makes benches: `bench(mode="systematic", reconstruct=True, …)`."""
    return lambda **options: Bench(core, **options)
