"""The plugin and its Java test helpers, compiled from their sources, in a JVM of this process."""

import os
import shutil
import subprocess
from pathlib import Path

import jpype

ROOT = Path(__file__).resolve().parents[2]


def start(classes):
    """Compiles into a folder, starts the JVM, and returns the Java package.

    Raises:
        FileNotFoundError: There is no JDK on PATH nor at JAVA_HOME.
        subprocess.CalledProcessError: The sources do not compile without a warning.
    """
    import ts

    server_jar = Path(ts.__file__).parent / "frontend" / "model-server.jar"
    sources = [str(path) for path in (ROOT / "plugin" / "src").rglob("*.java")]
    options = ["--release", "17", "-proc:none", "-Xlint:all", "-Werror"]
    paths = ["-cp", str(server_jar), "-d", str(classes)]
    subprocess.run([_javac(), *options, *paths, *sources], check=True)
    jpype.startJVM(classpath=[str(classes), str(server_jar)], convertStrings=True)
    return jpype.JPackage("org").approxifer.torchserve


def _javac():
    home = os.environ.get("JAVA_HOME")
    found = f"{home}/bin/javac" if home else shutil.which("javac")
    if not found:
        raise FileNotFoundError(
            "the plugin's tests need a JDK 17 or newer: no javac on PATH, no JAVA_HOME"
        )
    return found
