"""A worker has its slow first call before it is up, on the archive's sample, and is clean after."""

import json
import logging
import time

import pytest
from serving_harness import JSON, Worker, archived, wrapped

from approxifer_torchserve.serving.plan import Plan
from approxifer_torchserve.serving.worker import request_ids

FIRST_S = 0.4
SAMPLE = '{"x": [1.0, 2.0]}'
STEPS = """
import os, sys, time
import torch
from ts.torch_handler.base_handler import BaseHandler

loaded = {}


class Handler(BaseHandler):
    def initialize(self, context):
        self.device, self.model = torch.device("cpu"), torch.nn.Identity()
        self.calls, self.seen, self.tables, self.compiled = 0, ["mine"], {}, None
        self.initialized = True

    def preprocess(self, data):
        self.seen.append(self.context.get_request_id(0))
        self.fail("preprocess")
        return torch.tensor([(row.get("data") or row.get("body"))["x"] for row in data])

    def inference(self, data):
        self.calls += 1
        if self.compiled is None:
            time.sleep(float(os.environ["FIRST_S"]))
            self.compiled = loaded["m"] = self.tables["m"] = self.model
        self.fail("inference")
        return data

    def postprocess(self, data):
        self.fail("postprocess")
        if os.environ.get("FAIL") == "status":
            self.context.set_response_status(503, "not today", idx=0)
        return data.tolist()

    def fail(self, step):
        if os.environ.get("FAIL") == step:
            raise ValueError("not today")
        if os.environ.get("FAIL") == "exit":
            sys.exit(3)
"""
WHOLE = (
    STEPS
    + """
    def handle(self, data, context):
        self.context = context
        return self.postprocess(self.inference(self.preprocess(data)))
"""
)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Archives a handler with a sample and loads it; returns worker, wrapped handler, seconds."""
    monkeypatch.setenv("FIRST_S", str(FIRST_S))
    (tmp_path / "sample.json").write_text(SAMPLE)

    def loaded(code=STEPS, fail="", sample=True, **approxifer):
        (tmp_path / "mine.py").write_text(code)
        report = archived(
            tmp_path / "out",
            handler=str(tmp_path / "mine.py"),
            model_name="model",
            archive_format="no-archive",
            sample=tmp_path / "sample.json" if sample else None,
            approxifer={"code": {"queries": 2, "stragglers": 1}, **approxifer},
            force=True,
        )
        monkeypatch.setenv("FAIL", fail)
        start = time.perf_counter()
        worker = reload(report.path)
        return worker, worker.service._entry_point.__self__, time.perf_counter() - start

    return loaded


def reload(path):
    return Worker(path, "approxifer_handler.py")


def answer(worker):
    (reply,) = worker.reply(worker.raw("c", SAMPLE.encode(), kind=JSON))
    return json.loads(reply[1]["answer"])


@pytest.mark.parametrize("code", [STEPS, WHOLE])
def test_initialising_takes_the_first_call_and_no_client_does(load, code):
    worker, service, seconds = load(code)
    assert service.handler.calls == 1
    assert seconds > FIRST_S
    start = time.perf_counter()
    assert answer(worker) == [1.0, 2.0]
    assert time.perf_counter() - start < FIRST_S / 2
    assert service.handler.calls == 2


@pytest.mark.parametrize("code", [STEPS, WHOLE])
def test_what_was_noted_per_request_is_gone_and_what_was_loaded_stays(load, code):
    worker, service, _ = load(code)
    handler = service.handler
    assert handler.seen == ["mine"]
    assert handler.compiled is handler.tables["m"] is handler.model
    assert handler.context is None
    assert service._host.base is None
    assert request_ids._at_work == ()
    answer(worker)
    assert handler.seen == ["mine", "c"]


@pytest.mark.parametrize("fail", ["preprocess", "inference", "postprocess", "status", "exit"])
@pytest.mark.parametrize("code", [STEPS, WHOLE])
def test_a_sample_that_fails_is_one_warning_and_the_worker_starts(
    load, code, fail, caplog, monkeypatch
):
    with caplog.at_level(logging.WARNING):
        worker, service, _ = load(code, fail)
    (said,) = [r.getMessage() for r in caplog.records if "warm-up" in r.getMessage()]
    reasons = {"exit": "SystemExit: 3", "status": "the handler set status 503"}
    assert f"warm-up on the archive's sample failed: {reasons.get(fail, '')}" in said
    # Why a step failed is in the flow's own warning.
    assert fail in reasons or "not today" in caplog.text
    assert service.handler.seen == ["mine"]
    assert service.handler.context is None
    assert request_ids._at_work == ()
    monkeypatch.setenv("FAIL", "")
    assert answer(worker) == [1.0, 2.0]


def test_a_sample_that_cannot_be_read_is_one_warning(load, caplog):
    worker, _, _ = load()
    (worker.model_dir / "approxifer" / "sample.body").unlink()
    worker = reload(worker.model_dir)
    assert worker.service._entry_point.__self__.handler.calls == 0
    (said,) = [r.getMessage() for r in caplog.records if "warm-up" in r.getMessage()]
    assert "sample.body" in said
    assert answer(worker) == [1.0, 2.0]


@pytest.mark.parametrize(
    "settings",
    [
        {"warm_up": False},
        {"sample": False},
        {"policy": {"idempotent": False}},
        {"enabled": False},
    ],
)
def test_there_is_none_where_it_is_off_or_there_is_no_sample_or_it_must_run_once(load, settings):
    worker, service, _ = load(**settings)
    assert Plan.read(worker.model_dir).worker.warm_up is None
    assert not (worker.model_dir / "approxifer" / "sample.body").exists()
    assert service.handler.calls == 0


def test_the_plan_says_on_what(load):
    worker, _, _ = load()
    folder = worker.model_dir / "approxifer"
    warm_up = Plan.read(worker.model_dir).worker.warm_up
    assert warm_up.model_dump() == {"file": "approxifer/sample.body", "content_type": JSON}
    assert (folder / "sample.body").read_text() == SAMPLE
    # The plugin probes where there is one.
    assert not (folder / "probe.json").exists()


def test_probes_send_the_same_file(load):
    worker, service, _ = load(policy={"probe_every_s": 10}, warm_up=False)
    probe = json.loads((worker.model_dir / "approxifer" / "probe.json").read_text())
    assert probe["parameters"][0]["file"] == "approxifer/sample.body"
    assert service.handler.calls == 0


def test_a_function_is_warmed_up_too(tmp_path, caplog):
    (tmp_path / "sample.bin").write_bytes(b"abc")
    with caplog.at_level(logging.INFO):
        wrapped(tmp_path, "function_handler.py", sample=tmp_path / "sample.bin")
    (said,) = [r.getMessage() for r in caplog.records if "warm-up" in r.getMessage()]
    assert said.startswith("warm-up on the archive's sample took 0.")
