"""The upgrade that docs/operations.md describes: its very commands, under load and probes."""

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import httpx
import pytest
from live_server import OWN, Load, png, until
from typer.testing import CliRunner

from approxifer_torchserve.cli.main import app
from approxifer_torchserve.serving.archive.wrap import Existing, Options, wrap_archive

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"


def documented():
    section = PAGE.read_text().split("## Upgrade a model under load", 1)[1]
    block = re.search(r"```sh\n(.*?)```", section, re.S)[1]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [words[1] for words in lines] == ["archive", "deploy", "status", "deploy", "undeploy"]
    back = re.search(r"`(approxifer deploy [^`]+)`", section)[1]
    return lines, shlex.split(back)


class Probe:
    """Asks for readiness again and again, as Kubernetes does, and notes who said what."""

    def __init__(self, live, *paths):
        self.live, self.paths = live, paths
        self.told = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        with httpx.Client(
            base_url=self.live.server.inference, headers=self.live.http.headers, timeout=60
        ) as http:
            while not self.stopped.wait(0.02):
                for path in self.paths:
                    reply = http.get(path)
                    said = "" if reply.is_success else reply.text
                    self.told.append((path, reply.status_code, said))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.thread.join(70)


@pytest.fixture
def resnet(live, store, tmp_path, monkeypatch):
    """Version 1.0 of "resnet", and what the documented commands call resnet-new.mar."""
    source = Existing(path=store / "plain.mar", model_name="resnet")
    code = {"code": {"queries": 1, "stragglers": 1}}
    two = Options(settings={"minWorkers": 2, "maxWorkers": 2}, approxifer=code)
    wrap_archive(source, two, export_path=store, force=True)
    # The name of a model is its archive's own.
    (tmp_path / "made").mkdir()
    wrap_archive(source, Options(approxifer=code), export_path=tmp_path / "made")
    shutil.move(tmp_path / "made" / "resnet.mar", tmp_path / "resnet-new.mar")
    (tmp_path / "store").symlink_to(store)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APPROXIFER_KEY_FILE", str(live.server.key_file))
    monkeypatch.setenv("APPROXIFER_MANAGEMENT", live.server.management)
    monkeypatch.setenv("APPROXIFER_INFERENCE", live.server.inference)
    live.cluster.register("resnet.mar")
    yield
    for version in ("1.0", "2.0"):
        if live.cluster.registered("resnet", version):
            live.cluster.set_default("resnet", version)
            live.cluster.unregister("resnet", "2.0" if version == "1.0" else "1.0")
    live.cluster.unregister("resnet")


def run(words):
    smaller = {"9": "2", "8": "1"}
    given = [smaller.get(word, word) for word in words[1:]]
    if given[0] == "archive":
        given += ["--rewrap", "--force"]  # ours is coded already, and may be there
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, (given, result.output)
    return result.stdout


def test_the_documented_upgrade_loses_nothing(live, resnet):
    (archive, deploy, status, default, undeploy), back = documented()

    def answered_by():
        """The version that answers a request which names none."""
        light.turn_over()  # all that is under way now was sent after the last command
        counts = {s["version"]: s["counters"]["requests"] for s in states()}
        light.turn_over(5)
        return {s["version"] for s in states() if s["counters"]["requests"] > counts[s["version"]]}

    def states():
        return live.http.get("/coded/resnet").json()["models"]

    run(archive)
    with Load(live, "resnet", clients=2) as light, Probe(live, "/coded/resnet", "/ping") as probe:
        run(deploy)
        assert {s["version"] for s in states() if s["ready"]} == {"1.0", "2.0"}
        assert "resnet 2.0" in run(status)
        assert answered_by() == {"1.0"}
        run(default)
        assert answered_by() == {"2.0"}
        run(back)
        assert answered_by() == {"1.0"}
        run(default)
        run(undeploy)
        assert answered_by() == {"2.0"}
    light.check_all_right()
    assert len(probe.told) > 20
    unready = [told for told in probe.told if told[1] != 200]
    assert not unready, "the upgrade took the pod out of service"
    assert live.post("resnet", png(1)).headers["x-approxifer-outcome"] in OWN


def test_the_documented_probe_follows_readiness(live, tmp_path):
    block = re.search(r"- python\n +- -c\n +- \|\n(.*?)```", PAGE.read_text(), re.S)[1]
    code = textwrap.dedent(block).replace("http://127.0.0.1:8080", live.server.inference)
    code = code.replace("/coded/resnet", "/coded/classic")

    def probe():
        return subprocess.run(
            [sys.executable, "-c", code], cwd=live.server.run_dir.parent
        ).returncode

    code = code.replace("run/key_file.json", f"{live.server.run_dir.name}/key_file.json")
    until(lambda: probe() == 0)
    live.cluster.scale("classic", 0)
    try:
        until(lambda: probe() != 0)
        told = live.http.get("/coded/classic")
        assert (told.status_code, told.json()["state"]) == (503, "scaled to 0")
        assert "scaled to 0" in live.http.get("/ping").json()["models"]["classic"]
    finally:
        live.cluster.scale("classic", 3)
    until(lambda: probe() == 0)


def test_readiness_of_a_name_is_its_default_versions(live, resnet):
    run(documented()[0][0])
    live.cluster.register("resnet-v2.mar", version="2.0", workers=0)
    told = live.http.get("/coded/resnet")
    assert (told.status_code, told.json()["default_version"]) == (200, "1.0")

    def states():
        models = live.http.get("/coded/resnet").json()["models"]
        return {state["version"]: state["state"] for state in models}

    until(lambda: states() == {"1.0": "ready", "2.0": "scaled to 0"})  # once it is seen
    live.cluster.set_default("resnet", "2.0")
    told = live.http.get("/coded/resnet")
    assert (told.status_code, told.json()["default_version"]) == (503, "2.0")
    assert told.json()["ready"] is False


def test_a_second_version_needs_no_name(live, resnet):
    """An archive with a file name of its own, registered as another version of a model."""
    run(documented()[0][0])
    model = live.cluster.register("resnet-v2.mar", version="2.0", workers=2)
    assert (model.model_name, model.model_version, model.ready) == ("resnet", "2.0", 2)
    assert live.cluster.register("resnet-v2.mar").model_version == "2.0"
