"""Build backend: setuptools, after compiling the TorchServe plugin into package data.

A jar is never committed. Every way to install the project (wheel, editable) comes through here
first, so an installed package always carries a plugin that was built from its own sources.

Also a program: ``python plugin/build_backend.py`` builds the jar alone (``make plugin``).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401  (hooks that need no jar)
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "plugin" / "src" / "main" / "java"
RESOURCES = ROOT / "plugin" / "src" / "main" / "resources"
JAR = ROOT / "approxifer_torchserve" / "serving" / "approxifer-plugin.jar"
SERVICE = "META-INF/services/org.pytorch.serve.servingsdk.ModelServerEndpoint"
RELEASE = 17
SKIP = "APPROXIFER_SKIP_PLUGIN"
SDIST_FILES = """\
graft plugin/src
include plugin/build_backend.py constraints.txt Makefile
graft archives
graft handlers
graft examples
global-exclude *.jar *.class *.py[co] *.mar *.pt
"""


class PluginBuildError(RuntimeError):
    """The plugin cannot be built; the message says what is missing and how to get it."""


def find_javac() -> Path:
    """Return the ``javac`` to use: that of ``JAVA_HOME``, else the first on ``PATH``.

    Raises:
        PluginBuildError: Neither place has one.
    """
    home = os.environ.get("JAVA_HOME")
    if home:
        javac = Path(home) / "bin" / "javac"
        if javac.is_file():
            return javac
    on_path = shutil.which("javac")
    if on_path:
        return Path(on_path)
    raise PluginBuildError(
        "building the TorchServe plugin needs a JDK (17 or newer): no javac in "
        f"JAVA_HOME/bin (JAVA_HOME is {home!r}) and none on PATH. Install one, for example "
        "'apt-get install openjdk-17-jdk-headless' or 'brew install openjdk@17', or point "
        "JAVA_HOME at one. Running the server needs no JDK. To install only the codes and the "
        f"Lightning side, without the plugin, set {SKIP}=1."
    )


def find_model_server() -> Path:
    """Return TorchServe's own ``model-server.jar``, found without importing ``ts``.

    Raises:
        PluginBuildError: torchserve is not installed where this runs.
    """
    spec = importlib.util.find_spec("ts")
    if spec is not None and spec.origin is not None:
        jar = Path(spec.origin).parent / "frontend" / "model-server.jar"
        if jar.is_file():
            return jar
    raise PluginBuildError(
        "building the plugin needs TorchServe's model-server.jar, which comes with the Python "
        f"package torchserve; {sys.executable} has none. Install it: pip install torchserve==0.12.0"
    )


def up_to_date() -> bool:
    """Tell whether the jar is newer than everything it is made of (this file included)."""
    if not JAR.is_file():
        return False
    built = JAR.stat().st_mtime
    parts = [*SOURCES.rglob("*"), *RESOURCES.rglob("*"), Path(__file__)]
    # Folders count: removing a class changes the folder's time, not that of any file.
    return all(part.stat().st_mtime <= built for part in parts)


def build_plugin() -> Path:
    """Compile ``plugin/src/main/java`` and pack it with its service entry.

    Returns:
        The jar's path inside the package.

    Raises:
        PluginBuildError: No JDK, no torchserve, no sources, or javac refused the sources.
    """
    sources = sorted(SOURCES.rglob("*.java"))
    if not sources:
        raise PluginBuildError(f"no Java sources under {SOURCES}: is this checkout complete?")
    if not (RESOURCES / SERVICE).is_file():
        raise PluginBuildError(
            f"{RESOURCES / SERVICE} is missing: without it TorchServe never loads the plugin"
        )
    if up_to_date():
        return JAR
    javac = find_javac()
    server = find_model_server()
    with tempfile.TemporaryDirectory(prefix="approxifer-javac-") as folder:
        classes = Path(folder)
        command = [
            str(javac), "--release", str(RELEASE), "-proc:none", "-Xlint:all", "-Werror",
            "-encoding", "UTF-8", "-cp", str(server), "-d", str(classes),
            *map(str, sources),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PluginBuildError(
                f"{javac} refused the plugin (exit {done.returncode}):\n{done.stdout}{done.stderr}"
            )
        pack(classes, JAR)
    return JAR


def pack(classes: Path, jar: Path) -> None:
    """Write a jar of the compiled classes and the resources; the same input gives the same bytes.

    Args:
        classes: Folder with the compiled classes.
        jar: Where to write; replaced in one step, so a running build never sees half a jar.
    """
    entries = {
        path.relative_to(base).as_posix(): path
        for base in (classes, RESOURCES)
        for path in base.rglob("*")
        if path.is_file()
    }
    manifest = "Manifest-Version: 1.0\nImplementation-Title: approxifer-torchserve\n\n"
    half = jar.with_suffix(".jar.part")
    with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("META-INF/MANIFEST.MF"), manifest)
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name), entries[name].read_bytes())
    half.replace(jar)


def ensure_plugin() -> None:
    """Build the jar unless the user asked for an installation without it."""
    if os.environ.get(SKIP, "") not in ("", "0"):
        print(f"{SKIP} is set: installing without the TorchServe plugin", file=sys.stderr)
        return
    try:
        build_plugin()
    except PluginBuildError as error:
        # Under pip a traceback through its hooks would bury the one line that helps.
        raise SystemExit(f"error: {error}") from None


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """PEP 517 hook: the plugin, then setuptools' wheel."""
    ensure_plugin()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """PEP 660 hook: the plugin into the source tree, then setuptools' editable wheel."""
    ensure_plugin()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """PEP 517 hook: sources only; the jar is built where the sdist is installed."""
    # setuptools reads what to add from a file in the root only; nobody else needs it there.
    manifest = ROOT / "MANIFEST.in"
    manifest.write_text(SDIST_FILES)
    try:
        return build_meta.build_sdist(sdist_directory, config_settings)
    finally:
        manifest.unlink()


if __name__ == "__main__":
    try:
        print(build_plugin())
    except PluginBuildError as error:
        raise SystemExit(f"error: {error}") from None
