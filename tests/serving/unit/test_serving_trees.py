"""Whether a prediction is finite, where a short way tells and where it does not."""

import pytest
import torch

from approxifer_torchserve.serving.worker import trees

INFINITE = float("inf")


@pytest.mark.parametrize("bad", [float("nan"), INFINITE, -INFINITE])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_bad_number_is_found(bad, dtype):
    tensor = torch.ones(2, 300, dtype=dtype)
    assert trees.finite((tensor, {"more": tensor}))
    tensor[1, 7] = bad
    assert not trees.finite((torch.zeros(3), {"more": tensor}))


def test_infinities_that_cancel_are_found():
    assert not trees.finite(torch.tensor([INFINITE, -INFINITE]))


def test_a_sum_that_overflows_is_not_taken_for_infinity():
    assert trees.finite(torch.full((100,), 60_000.0, dtype=torch.float16))
    assert trees.finite(torch.full((100,), torch.finfo(torch.float64).max, dtype=torch.float64))


def test_what_cannot_hold_an_infinity_is_finite():
    assert trees.finite(torch.arange(3))
    assert trees.finite(torch.empty(0))
