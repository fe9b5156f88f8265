"""The plugin, compiled from its sources."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "plugin" / "src" / "main"
TEST = ROOT / "plugin" / "src" / "test"


def tool(name):
    """A program of the JDK: that of ``JAVA_HOME``, else the one on ``PATH``."""
    home = os.environ.get("JAVA_HOME")
    found = f"{home}/bin/{name}" if home else shutil.which(name)
    if not found:
        raise FileNotFoundError(
            f"the plugin's tests need a JDK 17 or newer: no {name} on PATH, no JAVA_HOME"
        )
    return found


def server_jar():
    """TorchServe's own jar."""
    import ts

    return Path(ts.__file__).parent / "frontend" / "model-server.jar"


def compile_plugin(classes, *folders):
    """Compiles all sources in the folders as the build does, into the folder ``classes``."""
    sources = [str(path) for folder in folders for path in Path(folder).rglob("*.java")]
    options = ["--release", "17", "-proc:none", "-Xlint:all", "-Werror"]
    paths = ["-cp", str(server_jar()), "-d", str(classes)]
    subprocess.run([tool("javac"), *options, *paths, *sources], check=True)
