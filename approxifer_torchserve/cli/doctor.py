"""``approxifer doctor``: is this machine ready to serve?"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import socket
import zipfile
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import psutil
import typer
from rich.table import Table

from approxifer_torchserve.cli.output import Json, console, print_json

SERVICE = "META-INF/services/org.pytorch.serve.servingsdk.ModelServerEndpoint"
MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "bad": "[red]bad[/]"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: Its name.
        state: "ok", "note" (works, but know it) or "bad" (serving will not work).
        says: What was found, and what to do where it is not well.
    """

    what: str
    state: Literal["ok", "note", "bad"]
    says: str


def run(
    workers: Annotated[int, typer.Option(min=1, help="How many workers you want to run.")] = 9,
    as_json: Json = False,
) -> None:
    """Check Java, packages, the plugin, ports and memory; exit code 1 if serving cannot work.

    approxifer doctor

    approxifer doctor --workers 18 --json
    """
    findings = [
        Finding("python", "ok", platform.python_version()),
        *(_package(name) for name in ("torch", "torchserve", "torch-model-archiver")),
        _java(),
        _javac(),
        _plugin(),
        _ports(),
        _memory(workers),
    ]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table("", "what", "found", box=None)
        for finding in findings:
            table.add_row(MARKS[finding.state], finding.what, finding.says)
        console.print(table)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def _package(name: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "bad", "missing: pip install 'approxifer-torchserve[serve]'")
    if name == "torchserve" and version != "0.12.0":
        return Finding(name, "bad", f"{version}; the plugin is made for 0.12.0 exactly")
    return Finding(name, "ok", version)


def _java() -> Finding:
    from approxifer_torchserve.serving.jar import JavaNotFoundError, find_java, java_version

    try:
        java = find_java()
    except JavaNotFoundError as error:
        return Finding("java", "bad", str(error))
    return Finding("java", "ok", f"{java_version(java)}: {java}")


def _javac() -> Finding:
    javac = shutil.which("javac")
    if javac is None:
        return Finding("javac", "note", "none on PATH: needed only to build the plugin")
    return Finding("javac", "ok", javac)


def _plugin() -> Finding:
    from approxifer_torchserve.serving.jar import PluginNotBuiltError, plugin_jar

    try:
        jar = plugin_jar()
        with zipfile.ZipFile(jar) as archive:
            for endpoint in archive.read(SERVICE).decode().split():
                archive.getinfo(endpoint.replace(".", "/") + ".class")
    except PluginNotBuiltError as error:
        return Finding("plugin", "bad", str(error))
    except (KeyError, zipfile.BadZipFile) as error:
        return Finding("plugin", "bad", f"the jar is broken ({error}): build it again")
    return Finding("plugin", "ok", f"plugins_path={jar.parent}")


def _ports() -> Finding:
    from approxifer_torchserve.serving.server.options import Ports

    standard = asdict(Ports())
    taken = []
    for what, port in standard.items():
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                taken.append(f"{port} ({what})")
    if taken:
        return Finding("ports", "note", f"in use: {', '.join(taken)}; serve --free-ports helps")
    return Finding("ports", "ok", "TorchServe's standard ports are free")


def _memory(workers: int) -> Finding:
    from approxifer_torchserve.serving.server.options import MB_PER_WORKER

    free = psutil.virtual_memory().available // 2**20
    need = workers * MB_PER_WORKER
    says = f"{free} MB free; {workers} workers take about {need} MB plus the model in each"
    return Finding("memory", "ok" if need < free else "bad", says)
