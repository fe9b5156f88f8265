"""The fault that makes a worker's replies unreadable."""

import json

import pytest

from approxifer_torchserve.faults import VARIABLE, WorkerFaults

REPLIES = [b"AXF1" + bytes(60)] * 1000


@pytest.fixture
def worker(tmp_path):
    path = tmp_path / "faults.json"

    def with_fault(**fault):
        path.write_text(json.dumps({"42": fault}))
        return WorkerFaults({VARIABLE: str(path)}, 42, pytest.fail)

    return with_fault


def test_a_share_of_the_replies_becomes_unreadable(worker):
    spoilt = worker(garbage=0.25).spoil(REPLIES)
    changed = [after for before, after in zip(REPLIES, spoilt, strict=True) if after != before]
    assert 180 < len(changed) < 320
    cut = [reply for reply in changed if REPLIES[0].startswith(reply)]
    assert 60 < len(cut) < len(changed) - 60, "some are cut short, some are other bytes"


def test_all_of_them_or_none(worker):
    assert all(reply != REPLIES[0] for reply in worker(garbage=1).spoil(REPLIES))
    assert worker(delay_s=1).spoil(REPLIES) is REPLIES
    assert WorkerFaults({}, 42).spoil(REPLIES) is REPLIES


def test_what_is_not_a_frame_stays(worker):
    refusal = {"code": 400, "message": "no image"}
    assert worker(garbage=1).spoil([refusal]) == [refusal]
