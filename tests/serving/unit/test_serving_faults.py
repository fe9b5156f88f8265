"""Faults in workers, and erasure patterns."""

import json
import logging
import os

import pytest
import torch
from serving_harness import BINARY, messages, png, wrapped

from approxifer_torchserve.faults import VARIABLE, WorkerFaults, erasure_patterns


def write(path, content, stamp):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    os.utime(path, ns=(stamp, stamp))


@pytest.fixture
def slept(tmp_path):
    slept = []
    path = tmp_path / "faults.json"
    return slept, path, WorkerFaults({VARIABLE: str(path)}, 42, slept.append)


def test_nothing_happens_without_the_variable():
    faults = WorkerFaults({}, 42, pytest.fail)
    assert faults.path is None
    faults.apply()


def test_a_worker_reads_its_own_fault_and_follows_changes(slept):
    slept, path, faults = slept
    faults.apply()
    write(path, {"*": {"delay_s": 0.5}, "42": {"delay_s": 1.0}}, 1)
    faults.apply()
    write(path, {"*": {"delay_s": 0.5}}, 2)
    faults.apply()
    write(path, {"7": {"delay_s": 9}}, 3)
    faults.apply()
    write(path, {"42": {"delay_s": 2, "probability": 0}}, 4)
    faults.apply()
    path.unlink()
    faults.apply()
    assert slept == [1.0, 0.5]


def test_a_probability_is_kept_roughly(slept):
    slept, path, faults = slept
    write(path, {"*": {"delay_s": 1, "probability": 0.25}}, 1)
    for _ in range(1000):
        faults.apply()
    assert 180 < len(slept) < 320


@pytest.mark.parametrize(
    "content", ["{", "[]", {"*": {"delay": 1}}, {"*": {"delay_s": -1}}, {"*": {"lie": 1}}]
)
def test_a_broken_file_is_logged_once_and_ignored(slept, content, caplog):
    slept, path, faults = slept
    write(path, content, 1)
    faults.apply()
    faults.apply()
    assert slept == []
    assert [r.levelname for r in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("enabled", [True, False])
def test_a_worker_is_slow_with_and_without_the_plugin(tmp_path, monkeypatch, caplog, enabled):
    path = tmp_path / "faults.json"
    write(path, {"*": {"delay_s": 0.25}}, 1)
    monkeypatch.setenv(VARIABLE, str(path))
    slept = []
    monkeypatch.setattr(
        "approxifer_torchserve.serving.worker.torchserve.WorkerFaults",
        lambda: WorkerFaults(sleep=slept.append),
    )
    with caplog.at_level(logging.WARNING):
        ours, _ = wrapped(tmp_path, approxifer={"enabled": enabled})
    assert "FAULTS ARE ENABLED" in caplog.text
    batch = [messages.request(str(i), {"body": (BINARY, png(i))}) for i in range(3)]
    ours.send(*batch)
    ours.send(ours.raw("a", png(1)), ours.raw("b", png(1)))
    assert slept == [0.25, 0.25]


def test_all_patterns_where_they_are_few():
    patterns = erasure_patterns(5, 2, limit=100)
    assert patterns.shape == (10, 5)
    assert (patterns.sum(1) == 3).all()
    assert len(torch.unique(patterns, dim=0)) == 10


def test_a_seeded_sample_where_they_are_many():
    patterns = erasure_patterns(30, 4, limit=50, seed=3)
    assert patterns.shape == (50, 30)
    assert len(torch.unique(patterns, dim=0)) == 50
    assert torch.equal(patterns, erasure_patterns(30, 4, limit=50, seed=3))
    assert not torch.equal(patterns, erasure_patterns(30, 4, limit=50, seed=4))


@pytest.mark.parametrize(("lost", "limit"), [(-1, 5), (6, 5), (1, 0)])
def test_patterns_that_are_none(lost, limit):
    with pytest.raises(ValueError, match="expected"):
        erasure_patterns(5, lost, limit)
