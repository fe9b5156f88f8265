"""Verification on the worker's side: comparing, lying on request, the archive's probe."""

import json

import pytest
import torch
from serving_harness import png, wrapped

from approxifer_torchserve.corruption import corruption_kinds
from approxifer_torchserve.faults import VARIABLE, WorkerFaults
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.worker import wire


def faults(tmp_path, **fault):
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "faults.json"
    path.write_text(json.dumps({"*": fault}))
    return WorkerFaults({VARIABLE: str(path)}, pid=1)


@pytest.mark.parametrize("kind", corruption_kinds())
def test_a_liar_changes_every_row_and_keeps_shape_and_dtype(tmp_path, kind):
    truth = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    told = faults(tmp_path, lie=kind).lie(truth.clone())
    assert (told.shape, told.dtype) == (truth.shape, truth.dtype)
    changed = ~((told == truth) | (told.isnan() & truth.isnan())).all(dim=1)
    assert changed.sum() >= 5  # one permutation, or one bit of a zero, may change nothing


def test_lies_come_as_often_as_asked_and_not_without(tmp_path):
    truth = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    told = faults(tmp_path, lie="huge", lie_probability=0.25).lie(truth.clone())
    assert 400 < (told != truth).all(dim=1).sum() < 600
    assert torch.equal(faults(tmp_path, delay_s=1.0).lie(truth.clone()), truth)
    assert WorkerFaults({}).lie(truth) is truth


def test_stuck_repeats_one_answer_and_misrouted_gives_the_one_before(tmp_path):
    truth = torch.arange(8.0).reshape(4, 2)
    stuck, misrouted = (faults(tmp_path / kind, lie=kind) for kind in ("stuck", "misrouted"))
    assert torch.equal(stuck.lie(truth.clone()), truth[:1].expand(4, 2))
    assert torch.equal(stuck.lie(truth[2:].clone()), truth[:1].expand(2, 2))
    assert torch.equal(misrouted.lie(truth.clone())[1:], truth[:-1])


def test_an_unknown_lie_is_logged_and_ignored(tmp_path, caplog):
    truth = torch.ones(1, 3)
    assert torch.equal(faults(tmp_path, lie="white").lie(truth), truth)
    assert "sign_flip" in caplog.text


def test_a_lying_worker_lies_in_its_prediction_and_its_answer(tmp_path, monkeypatch):
    worker, _ = wrapped(tmp_path)
    honest = worker.reply(worker.raw("a", png(1)))
    path = tmp_path / "faults.json"
    path.write_text(json.dumps({"*": {"lie": "sign_flip"}}))
    monkeypatch.setenv(VARIABLE, str(path))
    other = tmp_path / "other"
    other.mkdir()
    liar, _ = wrapped(other)
    lied = liar.reply(liar.raw("a", png(1)))
    truth = wire.decode(honest[0][1]["prediction"])
    assert torch.equal(wire.decode(lied[0][1]["prediction"]), -truth)
    assert lied[0][1]["answer"] != honest[0][1]["answer"]


def test_a_comparison_within_the_archives_tolerance(tmp_path):
    worker, _ = wrapped(tmp_path, approxifer={"policy": {"tolerance": {"rtol": 0, "atol": 0.1}}})
    truth = torch.ones(4)

    def verdict(other):
        parameters = {"first": ("", wire.encode(truth)), "second": ("", wire.encode(other))}
        ((header, _),) = worker.reply(worker.signed("c", {"kind": "compare"}, parameters))
        return header["agree"]

    assert verdict(truth + 0.05) is True
    assert verdict(truth + 0.2) is False


def test_a_comparison_of_nothing_is_an_error(tmp_path):
    worker, _ = wrapped(tmp_path)
    ((header, _),) = worker.reply(worker.signed("c", {"kind": "compare"}, {}))
    assert "first and second" in header["error"]["message"]


def test_an_archive_holds_its_probe_and_the_models_answer_to_it(tmp_path):
    sample = tmp_path / "sample.png"
    sample.write_bytes(png(1))
    worker, report = wrapped(tmp_path, approxifer={"policy": {"probe_every_s": 10}}, sample=sample)
    probe = json.loads((worker.model_dir / "approxifer/probe.json").read_text())
    (parameter,) = probe["parameters"]
    assert (parameter["name"], parameter["content_type"]) == ("body", "image/png")
    body = (worker.model_dir / parameter["file"]).read_bytes()
    known = wire.decode((worker.model_dir / probe["prediction"]).read_bytes())
    ((_, sections),) = worker.reply(worker.raw("p", body, headers=probe["headers"]))
    torch.testing.assert_close(wire.decode(sections["prediction"]), known)
    assert "known_prediction" not in report.model_dump()["sample"]


def test_probes_without_a_sample_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="probe_every_s: probes need a sample"):
        wrapped(tmp_path, approxifer={"policy": {"probe_every_s": 10}})


def test_a_sample_alone_puts_no_request_into_the_archive(tmp_path):
    sample = tmp_path / "sample.png"
    sample.write_bytes(png(1))
    worker, _ = wrapped(tmp_path, sample=sample)
    assert not list(worker.model_dir.glob("probe*"))
