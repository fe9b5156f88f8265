from __future__ import annotations

import pytest
import torch

from approxifer_torchserve.codes import BerrutCode, make_code
from approxifer_torchserve.codes.nodes import positions

KINDS = {
    "authors": {"systematic": False, "nodes": "authors"},
    "paper": {"systematic": False, "nodes": "paper"},
    "systematic": {"systematic": True},
}


def rational_code(kind: str, queries: int, byzantine: int, stragglers: int = 0) -> BerrutCode:
    code = make_code(
        "approxifer",
        queries=queries,
        stragglers=stragglers,
        byzantine=byzantine,
        locator="rational",
        **KINDS[kind],
    )
    assert isinstance(code, BerrutCode)
    return code


def rational_answers(
    code: BerrutCode, groups: int, classes: int, generator: torch.Generator
) -> torch.Tensor:
    """Values at the workers' nodes of p/q, both of degree K-1, q without a root in [-1, 1]."""
    nodes = positions(code.worker_angles)
    basis = torch.cos(torch.arange(code.queries) * torch.arccos(nodes.clamp(-1, 1))[:, None])
    shape = (groups, classes, code.queries)
    p = torch.randn(shape, generator=generator, dtype=torch.float64)
    q = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
    q[..., 0] = 0.5 * code.queries
    return ((p @ basis.T) / (q @ basis.T)).transpose(1, 2)


def random_liars(groups: int, workers: int, count: int, generator: torch.Generator) -> torch.Tensor:
    order = torch.rand(groups, workers, generator=generator).argsort(dim=1)
    return order < count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("byzantine", [1, 2, 3])
@pytest.mark.parametrize("queries", [2, 5, 8, 12, 16])
def test_on_rational_answers_every_liar_is_found(kind: str, queries: int, byzantine: int):
    code = rational_code(kind, queries, byzantine)
    generator = torch.manual_seed(queries * 10 + byzantine)
    answers = rational_answers(code, 30, 5, generator)
    liars = random_liars(30, code.num_workers, byzantine, generator)
    lies = answers + torch.randn(answers.shape, generator=generator, dtype=torch.float64)
    answers = torch.where(liars[..., None], lies, answers)
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    assert torch.equal(code.locate(answers, everything, batch_dims=1), liars)


def test_missing_answers_do_not_disturb():
    code = rational_code("authors", 8, 2, stragglers=2)
    generator = torch.manual_seed(3)
    answers = rational_answers(code, 40, 4, generator)
    order = torch.rand(40, code.num_workers, generator=generator).argsort(dim=1)
    liars, missing = order < 2, (order >= 2) & (order < 4)
    answers = torch.where(liars[..., None], answers + 3.0, answers)
    answers = torch.where(missing[..., None], torch.nan, answers)
    assert torch.equal(code.locate(answers, ~missing, batch_dims=1), liars)


@pytest.mark.parametrize("size", [1e-3, 1e3, 1e8])
def test_the_size_of_a_lie_does_not_matter_on_exact_data(size: float):
    code = rational_code("authors", 8, 1)
    generator = torch.manual_seed(4)
    answers = rational_answers(code, 36, 3, generator)
    liars = torch.eye(18, dtype=torch.bool).repeat(2, 1)
    answers = torch.where(liars[..., None], answers + size, answers)
    everything = torch.ones(18, dtype=torch.bool)
    assert torch.equal(code.locate(answers, everything, batch_dims=1), liars)


def test_it_always_names_as_many_as_it_was_told():
    code = rational_code("paper", 4, 2)
    generator = torch.manual_seed(5)
    answers = rational_answers(code, 20, 4, generator)
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    assert (code.locate(answers, everything, batch_dims=1).sum(dim=1) == 2).all()


def test_one_class_that_disagrees_is_outvoted():
    code = rational_code("authors", 4, 1)
    generator = torch.manual_seed(6)
    answers = rational_answers(code, 1, 5, generator)[0]
    answers[7] += 1.0
    answers[2, 0] += 50.0
    located = code.locate(answers, torch.ones(10, dtype=torch.bool))
    assert located.nonzero().flatten().tolist() == [7]
