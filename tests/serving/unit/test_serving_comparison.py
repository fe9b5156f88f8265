import pytest
import torch

from approxifer_torchserve.serving.config import ToleranceConfig
from approxifer_torchserve.serving.worker import wire
from approxifer_torchserve.serving.worker.checks import compare

TRUTH = torch.tensor([1.0, -2.0, 0.0, 1e4])
TOLERANCE = ToleranceConfig(rtol=1e-3, atol=1e-4)


def check(one, other):
    return compare(wire.encode(one), wire.encode(other), TOLERANCE)


def test_floating_point_noise_agrees_and_anything_more_does_not():
    assert check(TRUTH, TRUTH * (1 + 5e-4) + 5e-5)
    assert not check(TRUTH, TRUTH * (1 + 2e-3))
    assert not check(TRUTH, TRUTH + 2e-3)
    assert not check(TRUTH, -TRUTH)


def test_infinity_and_nan_agree_with_themselves_only():
    odd = torch.tensor([float("nan"), float("inf"), 1.0])
    assert check(odd, odd.clone() + torch.tensor([0.0, 0.0, 1e-5]))
    assert not check(odd, torch.tensor([float("nan"), -float("inf"), 1.0]))
    assert not check(odd, torch.tensor([0.0, float("inf"), 1.0]))


@pytest.mark.parametrize("other", [TRUTH[:3], TRUTH.double(), (TRUTH,), {"a": TRUTH}])
def test_other_shapes_dtypes_and_structures_disagree(other):
    assert not check(TRUTH, other)


def test_structures_are_compared_leaf_by_leaf():
    assert check({"a": TRUTH, "b": (TRUTH,)}, {"a": TRUTH + 1e-5, "b": (TRUTH,)})
    assert not check({"a": TRUTH, "b": (TRUTH,)}, {"a": TRUTH, "b": (TRUTH + 1,)})


def test_answers_that_are_no_predictions_agree_only_byte_for_byte():
    assert compare(b"cat", b"cat", TOLERANCE)
    assert not compare(b"cat", b"dog", TOLERANCE)
    assert not compare(b"cat", wire.encode(TRUTH), TOLERANCE)
