"""Answers are, byte for byte, what the unwrapped handler gives under plain TorchServe."""

import json
import logging

import pytest
import torch
from serving_harness import BINARY, JSON, Reply, messages, plain, png, wrapped
from ts.protocol.otf_message_handler import create_predict_response

from approxifer_torchserve.serving.worker.answers import UnsupportedError, serialise


def requests(worker, count, job):
    for i in range(count):
        headers = {"x-name": f"client {i}", "explain": "False", "url_path": ""}
        if job:
            yield worker.raw(f"id-{i}", png(i), headers)
        else:
            yield messages.request(f"id-{i}", {"body": (BINARY, png(i))}, headers)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_raw_answers_equal_plain_torchserve(tmp_path, count):
    ours, _ = wrapped(tmp_path)
    theirs = plain(tmp_path)
    code, text, expected = theirs.send(*requests(theirs, count, job=False))
    assert (code, text) == (200, "Prediction success")
    _, _, replies = ours.send(*requests(ours, count, job=True))
    assert len(replies) == count
    for reply, plain_reply in zip(replies, expected, strict=True):
        header, sections = Reply.parse(reply.body)
        assert header["kind"] == "raw"
        assert sections["answer"] == plain_reply.body
        assert list(sections) == ["answer", "prediction"]
        reply.body = plain_reply.body
        assert reply == plain_reply
    user = ours.service._entry_point.__self__.handler
    assert user.calls == theirs.service._entry_point.__self__.calls


def test_without_jobs_the_batch_is_plain_torchserves(tmp_path):
    ours, _ = wrapped(tmp_path)
    theirs = plain(tmp_path)
    assert ours.send(*requests(ours, 3, job=False)) == theirs.send(*requests(theirs, 3, job=False))
    bad = messages.request("bad", {"body": (BINARY, b"text")})
    assert ours.send(bad) == theirs.send(bad)
    assert ours.send(bad)[:2] == (503, "Prediction failed")


def test_a_disabled_plan_ignores_jobs(tmp_path):
    ours, report = wrapped(tmp_path, approxifer={"enabled": False})
    assert not report.plan.enabled
    assert report.changes[-2:] == ["+  approxifer:", "+    enabled: false"]
    _, _, (reply,) = ours.send(ours.raw("a", png(1)))
    assert json.loads(reply.body)["name"] == "none"


@pytest.mark.parametrize("forge", ["other key", "other request", "garbage", "no key file"])
def test_forged_jobs_are_ordinary_requests(tmp_path, forge):
    ours, _ = wrapped(tmp_path)
    job = {"kind": "raw", "want": True}
    header = messages.job_header(ours.key, "a", job)
    if forge == "other key":
        header = messages.job_header("0" * 64, "a", job)
    elif forge == "other request":
        header = messages.job_header(ours.key, "b", job)
    elif forge == "garbage":
        header = {"x-approxifer-job": "v1 é"}
    else:
        ours.key_file.unlink()
    _, _, (reply,) = ours.send(messages.request("a", {"body": (BINARY, png(1))}, header))
    assert json.loads(reply.body)["name"] == "none"


def test_a_forged_job_beside_genuine_ones_stays_unframed(tmp_path):
    ours, _ = wrapped(tmp_path)
    forged = messages.request("f", {"body": (BINARY, png(1))}, {"x-approxifer-job": "v1 0 {}"})
    broken = messages.request("g", {"body": (BINARY, b"text")})
    _, _, replies = ours.send(forged, ours.raw("a", png(1)), broken)
    header, sections = Reply.parse(replies[1].body)
    assert header["kind"] == "raw"
    assert replies[0].body == sections["answer"]
    assert (replies[2].status, replies[2].phrase) == (503, "Prediction failed")


def test_a_new_key_is_read_when_the_plugin_attached_again(tmp_path):
    ours, _ = wrapped(tmp_path)
    ours.reply(ours.raw("a", png(1)))
    ours.key = "ab" * 32
    ours.key_file.write_text(ours.key)
    ((header, _),) = ours.reply(ours.raw("b", png(1)))
    assert header["kind"] == "raw"


def test_the_users_handler_never_sees_our_headers(tmp_path):
    ours, _ = wrapped(tmp_path, "whole_handler.py")
    headers = {"X-Approxifer-Outcome": "exact", "other": "1"}
    ((_, sections),) = ours.reply(ours.raw("a", b"hello", headers, kind="text/plain"))
    assert sections["answer"] == b"hello ['body', 'other']"


@pytest.mark.parametrize("do", [None, "tensor", "bytes", "bytearray", "text"])
def test_answers_of_all_types_equal_plain_torchserves(tmp_path, do):
    ours, _ = wrapped(tmp_path, "vector_handler.py")
    theirs = plain(tmp_path, "vector_handler.py")
    body = json.dumps({"x": [1.5, 2], "do": do}).encode()
    _, _, (expected,) = theirs.send(messages.request("a", {"body": (JSON, body)}))
    ((_, sections),) = ours.reply(ours.raw("a", body, kind=JSON))
    assert sections["answer"] == expected.body


@pytest.mark.parametrize(
    "value", [b"x", bytearray(b"y"), "ü", torch.arange(3), {"a": [1, None]}, [1.5], None, 3]
)
def test_serialise_is_torchserves(value):
    response = create_predict_response([value], {0: "id"}, "ok", 200)
    assert serialise(value) == messages.parse_response(response)[2][0].body


def test_what_torchserve_cannot_send_is_refused():
    assert messages.parse_response(create_predict_response([object()], {0: "id"}, "ok", 200))[
        :2
    ] == (503, "Unsupported model output data type.")
    with pytest.raises(UnsupportedError, match="Unsupported model output data type"):
        serialise(object())


def test_metrics_lines_come_out_as_under_plain_torchserve(tmp_path, caplog):
    ours, _ = wrapped(tmp_path)
    with caplog.at_level(logging.INFO):
        ours.reply(*requests(ours, 2, job=True))
    lines = [r.message for r in caplog.records if r.message.startswith("[METRICS]")]
    assert [line.split(".")[0] for line in lines] == [
        "[METRICS]HandlerTime",
        "[METRICS]PredictionTime",
    ]
    assert all("id-0,id-1" in line for line in lines)


def test_torchserves_line_per_request_is_dropped(tmp_path):
    wrapped(tmp_path)
    root = logging.getLogger()
    try:
        record = root.makeRecord(
            "root", 20, "f", 1, "Backend received inference at: %d", (1,), None
        )
        assert not root.filter(record)
        other = root.makeRecord("root", 20, "f", 1, "[METRICS]x", (), None)
        assert root.filter(other)
    finally:
        root.filters.clear()


@pytest.mark.parametrize("handler", ["function_handler.py", "function_handler.py:shout"])
def test_function_handlers_are_hedged_only(tmp_path, handler):
    ours, report = wrapped(tmp_path, handler)
    assert report.mode == "uncoded"
    assert "hedged" in report.plan.policy.reconstruct_reason
    replies = ours.reply(*(ours.raw(str(i), b"hi", kind="text/plain") for i in range(2)))
    expected = b"HI" if handler.endswith("shout") else b"model: hi"
    assert [sections for _, sections in replies] == [{"answer": expected}] * 2


def test_threads_are_shared_out_unless_the_environment_says(monkeypatch):
    from approxifer_torchserve.serving.worker import torchserve as worker

    set_to = []
    monkeypatch.setattr(worker.torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(worker.os, "sched_getaffinity", lambda _: set(range(36)), raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    worker.share_threads(9)
    assert set_to == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    worker.share_threads(9)
    worker.share_threads(90)
    assert set_to == [4, 1]
