"""Defects that no single request shows: what answers cost, and what a failed start says."""

import sys

import pytest
from cases import Spec, ask
from serving_harness import wrapped
from world import Wrapped


def test_outputs_that_always_hold_minus_infinity_are_no_erasures(archives):
    # An erasure costs a second job. The first few may; a handler that masks classes is healthy.
    ours = Wrapped(archives, Spec(output="-inf"))
    found = []
    for n in range(40):
        found += ours.ask([(f"r{n}", ask(x=(float(n % 5), 2.0)))])
    assert all(outcome.kind == "answer" for outcome in found)
    assert [outcome.erasure for outcome in found[20:]] == [None] * 20


def test_a_missing_dependency_of_torchserves_own_handler_is_named(tmp_path, monkeypatch):
    # As in an environment without it; TorchServe says so.
    for name in ("torchvision", "captum"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as caught:
        wrapped(tmp_path, "image_classifier")
    assert "image_classifier" not in str(caught.value)
