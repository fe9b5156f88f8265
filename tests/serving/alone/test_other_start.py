"""A TorchServe that somebody else started, with nothing of ours but the jar in plugins_path."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from live_server import OWN, expected, png

from approxifer_torchserve.serving.jar import find_java, plugin_jar


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def other_start(store, tmp_path):
    """Starts `torchserve` by its own launcher; returns a function that (re)starts it."""
    ports = [free_port() for _ in range(5)]
    inference, management, metrics, grpc1, grpc2 = ports
    config = tmp_path / "config.properties"
    temp = tmp_path / "tmp"
    temp.mkdir()
    java = Path(find_java()).resolve()
    environment = {
        **os.environ,
        **dict.fromkeys(("TEMP", "TMPDIR", "TMP"), str(temp)),
        "JAVA_HOME": str(java.parents[1]),
        "LOG_LOCATION": str(tmp_path / "logs"),
        "METRICS_LOCATION": str(tmp_path / "logs"),
        "OMP_NUM_THREADS": "1",
    }
    scripts = Path(sys.executable).parent

    def run(*arguments):
        subprocess.run(
            [scripts / "torchserve", *arguments],
            env={**environment, "PATH": f"{scripts}:{os.environ['PATH']}"},
            cwd=tmp_path,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def start(load_models="", from_snapshot=False):
        config.write_text(
            f"inference_address=http://127.0.0.1:{inference}\n"
            f"management_address=http://127.0.0.1:{management}\n"
            f"metrics_address=http://127.0.0.1:{metrics}\n"
            f"grpc_inference_port={grpc1}\ngrpc_management_port={grpc2}\n"
            "initial_worker_port=31000\n"
            f"plugins_path={plugin_jar().parent}\n"
            "enable_model_api=true\ndisable_token_authorization=true\n"
            f"load_models={load_models}\n"
        )
        # With snapshots, TorchServe restarts from the last one when no configuration is named.
        named = () if from_snapshot else ("--ts-config", str(config))
        plugins = ("--plugins-path", str(plugin_jar().parent))
        run("--start", "--model-store", str(store), *plugins, *named)
        wait(lambda: httpx.get(f"http://127.0.0.1:{management}/models").status_code == 200)
        return f"http://127.0.0.1:{inference}", f"http://127.0.0.1:{management}"

    def stop():
        pid = int((temp / ".model_server.pid").read_text())
        jvm = psutil.Process(pid)
        assert "org.pytorch.serve.ModelServer" in jvm.cmdline()
        run("--stop")
        jvm.wait(90)

    start.stop = stop
    yield start
    if (temp / ".model_server.pid").exists():
        stop()


def wait(ready, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError("the server is not ready")


def check(inference):
    reply = httpx.post(f"{inference}/predictions/tiny", content=png(3), timeout=30)
    assert reply.status_code == 200, reply.text
    assert reply.json() == expected(3)
    assert reply.headers["x-approxifer-outcome"] in OWN
    assert [m["model"] for m in httpx.get(f"{inference}/coded").json()["models"]] == ["tiny"]


def test_registration_by_curl_restart_with_load_models_and_from_a_snapshot(other_start):
    inference, management = other_start()
    url = f"{management}/models?url=tiny.mar&initial_workers=3&synchronous=true"
    subprocess.run(["curl", "-sf", "-X", "POST", url], check=True, timeout=180)
    check(inference)
    other_start.stop()
    inference, _ = other_start(load_models="tiny.mar")
    wait(lambda: httpx.post(f"{inference}/predictions/tiny", content=png(3)).is_success)
    check(inference)
    other_start.stop()
    inference, _ = other_start(from_snapshot=True)
    wait(lambda: httpx.post(f"{inference}/predictions/tiny", content=png(3)).is_success)
    check(inference)
