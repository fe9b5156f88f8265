"""A handler whose ``handle`` is set on the object does everything in its own way, wrapped too."""

import json

import pytest
from serving_harness import JSON, plain, wrapped

from approxifer_torchserve.serving.worker import messages

BODIES = [json.dumps({"x": [float(i), 1.0]}).encode() for i in range(3)]


@pytest.fixture
def both(tmp_path):
    ours, report = wrapped(tmp_path, "micro_handler.py")
    theirs = plain(tmp_path, "micro_handler.py")
    yield ours, theirs, report
    # Its threads are no daemons: they would keep this process.
    ours.service._entry_point.__self__._plain.shutdown()
    theirs.service._entry_point.shutdown()


def test_micro_batching_works_as_without_us_and_is_not_coded(both):
    ours, theirs, report = both
    assert (report.capability.staged, report.mode) == (False, "uncoded")
    assert "sets a handle of its own" in report.capability.reasons[0]
    _, _, expected = theirs.send(
        *(messages.request(f"r{i}", {"body": (JSON, body)}) for i, body in enumerate(BODIES))
    )
    replies = ours.reply(*(ours.raw(f"r{i}", body, kind=JSON) for i, body in enumerate(BODIES)))
    answers = [sections["answer"] for _, sections in replies]
    assert answers == [reply.body for reply in expected]
    assert [json.loads(answer)["of"] for answer in answers] == [[0, 2], [0, 2], [1, 1]]
