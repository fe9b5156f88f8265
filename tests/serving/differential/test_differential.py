"""Drawn handlers and requests: wrapped, and under TorchServe's own Service (see oracle.py)."""

from draws import cases
from hypothesis import given, settings
from serve import differences, responses


@settings(max_examples=150)
@given(case=cases("all"))
def test_framed_requests_are_answered_as_by_torchserve_alone(case, archives):
    assert differences(case, archives) == []


@settings(max_examples=50)
@given(case=cases("some"))
def test_requests_without_frames_among_jobs_are_too(case, archives):
    assert differences(case, archives) == []


@settings(max_examples=50)
@given(case=cases("none"))
def test_without_frames_the_worker_is_torchserves(case, archives):
    for ours, theirs in responses(case, archives):
        assert ours == theirs
