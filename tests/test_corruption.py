from __future__ import annotations

import pytest
import torch

from approxifer_torchserve.corruption import (
    corrupt,
    corrupt_alone,
    corruption_kinds,
    flip_exponent,
    wrong_answers,
)


@pytest.fixture
def answers() -> torch.Tensor:
    return torch.randn(6, 5, 4, generator=torch.manual_seed(0))


@pytest.fixture
def liars() -> torch.Tensor:
    return torch.eye(5, dtype=torch.bool)[torch.arange(6) % 5]


@pytest.mark.parametrize("kind", corruption_kinds())
def test_only_liars_change_and_a_seed_repeats_it(kind: str, answers, liars):
    first = corrupt(answers, liars, kind, generator=torch.manual_seed(1))
    again = corrupt(answers, liars, kind, generator=torch.manual_seed(1))
    assert torch.equal(first[~liars], answers[~liars])
    torch.testing.assert_close(first, again, rtol=0, atol=0, equal_nan=True)
    changed = ~(first == answers).all(dim=2)
    assert torch.equal(changed, liars)


def test_kinds_are_what_they_say(answers, liars):
    generator = torch.manual_seed(2)

    def lies(kind: str, size: float | None = None) -> torch.Tensor:
        return corrupt(answers, liars, kind, size=size, generator=generator)[liars]

    truth = answers[liars]
    assert torch.equal(lies("sign_flip"), -truth)
    assert torch.equal(lies("permuted").sort(dim=1).values, truth.sort(dim=1).values)
    assert torch.equal(lies("huge", 8.0), 8 * truth)
    assert lies("nan").isnan().sum(dim=1).tolist() == [1] * 6
    assert ((lies("exponent") != truth).sum(dim=1) == 1).all()
    grown = lies("exponent_gross").abs().amax(dim=1) / truth.abs().amax(dim=1)
    assert (grown > 100).all()
    for group, lie in enumerate(lies("stuck")):
        others = [answers[other, group % 5] for other in range(6) if other != group]
        assert any(torch.equal(lie, other) for other in others)
    for group, lie in enumerate(lies("misrouted")):
        others = [answers[group, other] for other in range(5) if other != group % 5]
        assert any(torch.equal(lie, other) for other in others)


def test_the_noise_has_its_size():
    answers = torch.zeros(2000, 1, 5)
    liars = torch.ones(2000, 1, dtype=torch.bool)
    noise = corrupt(answers, liars, "gaussian", size=3.0, generator=torch.manual_seed(3))
    assert noise.std().item() == pytest.approx(3.0, rel=0.05)
    sizes = torch.full((2000, 1), 2.0)
    zero = torch.zeros(2000, dtype=torch.int64)
    each = wrong_answers(
        answers, torch.arange(2000), zero, "gaussian", size=sizes, generator=torch.manual_seed(4)
    )
    assert each.std().item() == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_exponent_bit_multiplies_or_divides(dtype: torch.dtype):
    values = torch.tensor([2.0, -3.0], dtype=dtype)
    assert flip_exponent(values, 0).tolist() == [4.0, -6.0]
    assert flip_exponent(values, 2).tolist() == [32.0, -48.0]
    assert flip_exponent(flip_exponent(values, 5), 5).tolist() == values.tolist()
    assert flip_exponent(torch.tensor([4.0], dtype=dtype), 0).tolist() == [2.0]
    with pytest.raises(TypeError, match="float32 or float64"):
        flip_exponent(values.bfloat16(), 1)


def test_several_heads_lie_together(liars):
    answers = {"boxes": torch.randn(6, 5, 2, 2), "score": torch.randn(6, 5)}
    lies = corrupt(answers, liars, "sign_flip")
    assert torch.equal(lies["boxes"][liars], -answers["boxes"][liars])
    assert torch.equal(lies["score"][liars], -answers["score"][liars])
    assert torch.equal(lies["boxes"][~liars], answers["boxes"][~liars])


def test_a_worker_can_lie_alone():
    answer = torch.randn(3, 2)
    assert torch.equal(corrupt_alone(answer, "sign_flip"), -answer)
    assert corrupt_alone(answer, "gaussian", size=5.0).shape == (3, 2)
    before = torch.randn(3, 2)
    assert torch.equal(corrupt_alone(answer, "stuck", previous=before), before)
    with pytest.raises(ValueError, match=r"previous must be an answer of shape \(3, 2\)"):
        corrupt_alone(answer, "stuck")


def test_an_unknown_kind_is_named(answers, liars):
    with pytest.raises(ValueError, match=r"kind must be one of .*'gaussian'.*, got 'gremlin'"):
        corrupt(answers, liars, "gremlin")
