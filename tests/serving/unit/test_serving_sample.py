"""A sample: what it took is held against the user's settings, and trying it ends."""

import os
import time
from pathlib import Path

import pytest
from serving_harness import archived

from approxifer_torchserve.serving.archive import sample as sampling
from approxifer_torchserve.serving.archive.packing import ArchiveError

HANDLER = """
import os, subprocess, sys, threading, time
import torch
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    def initialize(self, context):
        self.device = torch.device("cpu")
        self.model = torch.nn.Identity()
        self.seconds = dict(context.model_yaml_config.get("seconds") or {})
        if self.seconds.get("thread"):
            threading.Thread(target=time.sleep, args=(1000,)).start()
        if self.seconds.get("child"):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            open(os.environ["CHILD_PID"], "w").write(str(child.pid))
        self.initialized = True

    def preprocess(self, data):
        return torch.tensor([(row.get("data") or row.get("body"))["x"] for row in data])

    def inference(self, data):
        time.sleep(self.seconds.pop("first", 0) + self.seconds.get("each", 0))
        return data

    def postprocess(self, data):
        return data.tolist()
"""


@pytest.fixture
def tried(tmp_path):
    """Archives the handler with a sample; the times it takes are settings of its own."""
    (tmp_path / "handler.py").write_text(HANDLER)
    (tmp_path / "sample.json").write_text('{"x": [1.0, 2.0]}')

    def archive(seconds, policy=None, warm_up=True, **settings):
        return archived(
            tmp_path / "out",
            model_name="m",
            handler=str(tmp_path / "handler.py"),
            sample=tmp_path / "sample.json",
            settings={"seconds": seconds, **settings},
            approxifer={
                "code": {"queries": 1, "stragglers": 1},
                "policy": policy or {},
                "warm_up": warm_up,
            },
            force=True,
        )

    return archive


def told(report, *keys):
    """The warnings that begin with a key, by key."""
    return {key: said for key in keys for said in report.warnings if said.startswith(key)}


KEYS = (
    *("handler.approxifer.policy.deadline_ms", "handler.approxifer.policy.late_after_ms"),
    *("responseTimeout", "clientTimeoutInMills", "startupTimeout"),
)


def test_times_that_the_model_cannot_keep_to_are_told_by_key(tried):
    report = tried(
        {"each": 0.3},
        {"deadline_ms": 200, "late_after_ms": 100},
        clientTimeoutInMills=250,
        responseTimeout=100,
    )
    assert report.sample.milliseconds["raw"] > 300
    found = told(report, *KEYS)
    assert set(found) == {*KEYS[:2], "clientTimeoutInMills"}
    assert "is 200 ms, and the sample took 3" in found[KEYS[0]]
    assert "503" in found[KEYS[0]]


def test_a_first_request_that_takes_longer_than_the_timeout_is_told(tried):
    limits = {"responseTimeout": 1, "startupTimeout": 1}
    report = tried({"first": 1.2}, {"late_after_ms": 500}, warm_up=False, **limits)
    assert report.sample.first_ms > 1200
    assert report.sample.milliseconds["raw"] < 500
    found = told(report, *KEYS)
    assert set(found) == {"responseTimeout"}
    assert "the first request to a process took 12" in found["responseTimeout"]


def test_where_workers_warm_up_the_first_request_has_the_time_to_start(tried):
    limits = {"responseTimeout": 1, "startupTimeout": 1, "clientTimeoutInMills": 1000}
    report = tried({"first": 1.2}, **limits)
    found = told(report, *KEYS)
    assert set(found) == {"startupTimeout"}
    assert "the first request to a process took 12" in found["startupTimeout"]
    assert "before it is up" in found["startupTimeout"]
    assert told(tried({"first": 1.2}, responseTimeout=1, startupTimeout=2), *KEYS) == {}


def test_nothing_is_told_of_times_that_nobody_set(tried):
    assert told(tried({"each": 0.05}), "responseTimeout", "clientTimeoutInMills") == {}


@pytest.mark.parametrize("stays", ["thread", "child"])
def test_it_ends_though_the_handler_leaves_something_running(tried, tmp_path, monkeypatch, stays):
    pid = tmp_path / "pid"
    monkeypatch.setenv("CHILD_PID", str(pid))
    start = time.monotonic()
    try:
        assert tried({stays: 1}).sample.codable
        assert time.monotonic() - start < 50
    finally:
        if pid.exists():
            os.kill(int(pid.read_text()), 9)


def test_one_that_never_answers_is_ended_with_what_it_started(tried, tmp_path, monkeypatch):
    pid = tmp_path / "pid"
    monkeypatch.setenv("CHILD_PID", str(pid))
    monkeypatch.setattr(sampling, "TIMEOUT_S", 10.0)
    with pytest.raises(ArchiveError, match="did not finish in 10 s"):
        tried({"child": 1, "each": 1000})
    # A child of a child is nobody's: gone, or waits for init to collect it.
    status = Path(f"/proc/{pid.read_text()}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()


def test_a_plain_archive_is_tried_with_one_plain_request(tmp_path):
    (tmp_path / "handler.py").write_text(HANDLER)
    (tmp_path / "sample.json").write_text('{"x": [1.0, 2.0]}')
    report = archived(
        tmp_path / "out",
        model_name="m",
        handler=str(tmp_path / "handler.py"),
        sample=tmp_path / "sample.json",
        settings={"seconds": {"first": 0.3}},
        approxifer={"enabled": False, "policy": {"probe_every_s": 10}},
    )
    found = report.sample
    assert (found.staged, found.codable, found.reason) == (True, False, "enabled is false")
    assert found.answer_bytes == len("[\n  1.0,\n  2.0\n]")
    assert found.first_ms > 300 > found.milliseconds["raw"]
    assert set(found.milliseconds) == {"raw"}
    assert not report.plan.enabled
    assert report.plan.mode == "systematic"
    assert report.warnings == []


def test_a_plain_archive_whose_handler_refuses_the_sample_is_not_made(tmp_path):
    (tmp_path / "handler.py").write_text(HANDLER)
    (tmp_path / "sample.json").write_text('{"y": 1}')
    with pytest.raises(ArchiveError, match="raw: 503"):
        archived(
            tmp_path / "out",
            model_name="m",
            handler=str(tmp_path / "handler.py"),
            sample=tmp_path / "sample.json",
            approxifer={"enabled": False},
        )
