"""Whether the answers of a group fit together, where one spare answer locates nobody."""

from __future__ import annotations

import pytest
import torch
from test_locator_calibrated import digits

from approxifer_torchserve.artifacts.locator_file import load_locator, save_locator
from approxifer_torchserve.codes import LocatingCode, calibrate, make_code
from approxifer_torchserve.codes.locators.calibrate import clean_answers
from approxifer_torchserve.codes.locators.outlier import OutlierLocator
from approxifer_torchserve.corruption import corrupt

GROUPS = 300


def trial(code: LocatingCode) -> torch.Tensor:
    model, _, queries, _ = digits()
    return clean_answers(code, model, queries, GROUPS, generator=torch.manual_seed(7))[0]


def doubted(code: LocatingCode, kind: str | None = None, size: float | None = None) -> float:
    """Share of groups in which anything does not fit, with one liar or with none."""
    answers = trial(code)
    if kind is not None:
        generator = torch.manual_seed(8)
        liars = torch.rand(GROUPS, code.num_workers, generator=generator).argsort(dim=1) == 0
        answers = corrupt(answers, liars, kind, size=size, generator=generator)
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    return code.screen(answers, everything, batch_dims=1).any(dim=1).double().mean().item()


@pytest.mark.parametrize(
    ("name", "queries", "stragglers"),
    [("approxifer", 2, 1), ("approxifer", 4, 1), ("approxifer", 8, 1), ("pairs", 4, 0)],
)
def test_without_calibration_gross_faults_are_seen_and_nothing_else_is_claimed(
    name: str, queries: int, stragglers: int
):
    code = make_code(name, queries=queries, stragglers=stragglers)
    assert isinstance(code, LocatingCode)
    assert doubted(code) <= 0.02
    for kind in ("huge", "nan", "exponent_gross"):
        assert doubted(code, kind) >= 0.99, kind


@pytest.mark.parametrize(
    ("name", "stragglers", "least"), [("approxifer", 1, 0.15), ("pairs", 0, 0.8)]
)
def test_a_code_without_byzantine_workers_is_calibrated_to_doubt(
    name: str, stragglers: int, least: float
):
    model, queries, _, _ = digits()
    plain = make_code(name, queries=4, stragglers=stragglers)
    assert isinstance(plain, LocatingCode)
    code = calibrate(plain, model, queries, groups=1600, level=0.01, steps=300, width=32)
    assert doubted(code) < 10 / GROUPS  # at a level of 0.01: more once in 1000 times
    assert doubted(code, "gaussian", 100.0) >= 0.98
    # Logits in another order: what no look at sizes can see.
    assert doubted(plain, "permuted") <= 0.02
    assert doubted(code, "permuted") >= least


def test_missing_answers_are_neither_read_nor_doubted():
    code = make_code("approxifer", queries=4, stragglers=2)
    assert isinstance(code, LocatingCode)
    model, queries, _, _ = digits()
    answers = model(code.encode(queries[:4]))
    available = torch.tensor([True, True, False, True, True, True])
    answers[2] = torch.nan
    assert not code.screen(answers, available).any()
    answers[4] = torch.inf
    assert code.screen(answers, available).tolist() == [i == 4 for i in range(6)]


def test_equal_queries_are_not_doubted_for_the_last_digits_of_their_answers():
    code = make_code("approxifer", queries=4, stragglers=1)
    assert isinstance(code, LocatingCode)
    model, queries, _, _ = digits()
    answers = model(code.encode(queries[:1].expand(4, -1)))
    assert not torch.equal(answers, answers[:1].expand(5, -1))
    assert not code.screen(answers, torch.ones(5, dtype=torch.bool)).any()


def test_an_outlier_locator_travels_as_a_file(tmp_path):
    locator = OutlierLocator(thresholds=(1.5,))
    save_locator(locator, tmp_path / "l.safetensors")
    assert load_locator(tmp_path / "l.safetensors") == locator


@pytest.mark.parametrize(
    ("name", "options"), [("pairs", {}), ("approxifer", {"systematic": False}), ("approxifer", {})]
)
def test_the_default_locates_gross_faults_among_few_answers(name: str, options: dict[str, bool]):
    """Of six answers no residual is six times another, however wrong one of them is."""
    code = make_code(name, queries=2, stragglers=0, byzantine=1, **options)
    assert isinstance(code, LocatingCode)
    answers = trial(code)
    generator = torch.manual_seed(8)
    liars = torch.rand(GROUPS, code.num_workers, generator=generator).argsort(dim=1) == 0
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    residuals = code.with_locator(code.default_locator())
    suspected = code.locate(answers, everything, batch_dims=1)
    # What residuals alone do to clean groups is no better for being looked at second.
    assert torch.equal(suspected, residuals.locate(answers, everything, batch_dims=1))
    for kind in ("huge", "exponent_gross"):
        lies = corrupt(answers, liars, kind, generator=generator)
        found = (code.locate(lies, everything, batch_dims=1) == liars).all(dim=1)
        assert found.double().mean() >= 0.99, kind
        assert (residuals.locate(lies, everything, batch_dims=1) == liars).all(dim=1).sum() < 150
