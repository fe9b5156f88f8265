"""Locators fitted to a model, and the one that needs no fit: on digits, with a small network."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache

import pytest
import torch
from sklearn.datasets import load_digits

from approxifer_torchserve.artifacts.locator_file import load_locator, save_locator
from approxifer_torchserve.codes import LocatingCode, Locator, calibrate, make_code
from approxifer_torchserve.codes.locators.calibrate import (
    clean_answers,
    clean_thresholds,
    fit_locator,
)
from approxifer_torchserve.codes.locators.features import gross, with_gross
from approxifer_torchserve.corruption import corrupt

GROUPS = 300


@lru_cache(maxsize=1)
def digits() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A model trained on a third of the digits; calibration and trial queries; trial labels."""
    bunch = load_digits()
    images = torch.from_numpy(bunch.data).float() / 16
    labels = torch.from_numpy(bunch.target).long()
    order = torch.randperm(len(images), generator=torch.manual_seed(0))
    images, labels = images[order], labels[order]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(model(images[:600]), labels[:600])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False), images[600:1300], images[1300:], labels[1300:]


@lru_cache(maxsize=8)
def calibrated(name: str, byzantine: int = 1) -> LocatingCode:
    model, queries, _, _ = digits()
    options = {"nodes": "authors"} if name == "approxifer" else {}
    code = make_code(name, queries=4, stragglers=0, byzantine=byzantine, **options)
    return calibrate(code, model, queries, groups=2400, level=0.01, steps=700, width=48)


def trial(code: LocatingCode) -> tuple[torch.Tensor, torch.Tensor]:
    model, _, queries, labels = digits()
    generator = torch.manual_seed(7)
    answers, members = clean_answers(code, model, queries, GROUPS, generator=generator)
    return answers, labels[members]


def located(code: LocatingCode, kind: str, size: float | None = None) -> float:
    """Share of groups in which exactly those suspected are the E liars."""
    answers, _ = trial(code)
    generator = torch.manual_seed(8)
    order = torch.rand(GROUPS, code.num_workers, generator=generator).argsort(dim=1)
    liars = order < code.byzantine
    lies = corrupt(answers, liars, kind, size=size, generator=generator)
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    wrong = code.locate(lies, everything, batch_dims=1)
    return (wrong == liars).all(dim=1).double().mean().item()


@pytest.mark.parametrize("name", ["pairs", "approxifer"])
def test_a_calibrated_locator_finds_gross_faults_and_leaves_clean_groups_alone(name: str):
    code = calibrated(name)
    answers, _ = trial(code)
    wrong = code.locate(answers, torch.ones(code.num_workers, dtype=torch.bool), batch_dims=1)
    # 300 groups at a level of 0.01: 10 or more would come about once in 1000 times.
    assert wrong.any(dim=1).sum() < 10
    for kind, size in (("gaussian", 100.0), ("nan", None), ("huge", 1e6), ("exponent_gross", None)):
        assert located(code, kind, size) >= 0.98, kind


def test_the_network_finds_plausible_lies_too():
    code = calibrated("pairs")
    assert located(code, "permuted") > 0.8
    assert located(code, "stuck") > 0.6
    default = code.with_locator(None)
    assert located(default, "stuck") < located(code, "stuck") - 0.2


def test_an_element_that_all_but_vanished_is_found_though_small_elements_are_common():
    code = calibrated("pairs")
    answers, _ = trial(code)
    liars = torch.eye(code.num_workers, dtype=torch.bool)[torch.arange(GROUPS) % code.num_workers]
    lies = answers.clone()
    # Exponent bit 4 of the smallest element is cleared: nothing but its size gives that away.
    said = lies[liars]
    column = said.abs().argmin(dim=1)
    said[torch.arange(GROUPS), column] /= 2.0**16
    lies[liars] = said
    wrong = code.locate(lies, torch.ones(code.num_workers, dtype=torch.bool), batch_dims=1)
    assert (wrong == liars).all(dim=1).double().mean() > 0.9


def test_a_kind_of_lie_can_be_left_out_of_the_training():
    code = calibrated("pairs")
    answers, _ = trial(code)
    half = answers[:150], answers[150:]
    seen, unseen = (
        fit_locator(code, *half, level=0.05, steps=3, width=8, unseen=kinds)
        for kinds in ((), ("stuck",))
    )
    assert seen != unseen
    with pytest.raises(ValueError, match=r"unseen must be some of .* got \['stuk'\]"):
        fit_locator(code, *half, level=0.05, steps=3, width=8, unseen=("stuk",))


def test_two_liars_are_removed_one_at_a_time():
    code = calibrated("pairs", 2)
    assert located(code, "gaussian", 100.0) >= 0.98
    assert located(code, "permuted") > 0.6
    answers, _ = trial(code)
    one = torch.eye(code.num_workers, dtype=torch.bool)[torch.arange(GROUPS) % code.num_workers]
    lies = corrupt(answers, one, "huge")
    wrong = code.locate(lies, torch.ones(code.num_workers, dtype=torch.bool), batch_dims=1)
    # E = 2 is the most, not the number: one liar is one liar.
    assert (wrong == one).all(dim=1).double().mean() > 0.95


@pytest.mark.parametrize("name", ["pairs", "approxifer"])
def test_gross_liars_do_not_hide_each_other(name: str):
    code = calibrated(name, 2)
    for kind in ("huge", "exponent_gross"):
        assert located(code, kind) == 1.0, kind
    assert located(code.with_locator(dataclasses.replace(code.locator, limit=math.inf)), "huge") < 1


def test_what_is_gross_is_told_without_the_others():
    came = torch.tensor([True, True, True, True, False]).expand(4, 5)
    distances = torch.tensor(
        [[1.0, 7, 1, 1, 99], [1, 2, 1, 1, 99], [7, 8, 1, 1, 99], [7, 8, 9, 10, 99]]
    )
    wild = gross(distances, came, limit=3.0)
    # In the last two, as many are odd as are not: the queries are, not the workers.
    assert wild.nonzero().tolist() == [[0, 1]]
    scores = with_gross(torch.full((4, 5), 5.0), distances, wild)
    assert scores[0].argmax() == 1
    assert (scores[1:] == 5).all()


def test_accuracy_comes_back():
    code = calibrated("pairs")
    answers, labels = trial(code)
    liars = torch.eye(code.num_workers, dtype=torch.bool)[torch.arange(GROUPS) % code.num_workers]
    lies = corrupt(answers, liars, "sign_flip")
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    wrong = code.locate(lies, everything, batch_dims=1)

    def accuracy(mask: torch.Tensor) -> float:
        predictions = code.decode(lies, mask, batch_dims=1)
        return (predictions.argmax(dim=2) == labels).double().mean().item()

    assert accuracy(~wrong) > accuracy(~liars) - 0.01
    assert accuracy(~wrong) > accuracy(everything.expand(GROUPS, -1)) + 0.03


@pytest.mark.parametrize("name", ["pairs", "approxifer"])
def test_without_calibration_gross_faults_are_found(name: str):
    code = calibrated(name).with_locator(None)
    assert located(code, "huge") == 1.0
    assert located(code, "nan") == 1.0
    answers, _ = trial(code)
    wrong = code.locate(answers, torch.ones(code.num_workers, dtype=torch.bool), batch_dims=1)
    assert wrong.any(dim=1).double().mean() <= 0.01


def test_what_one_group_says_does_not_touch_another():
    for name in ("pairs", "approxifer"):
        for code in (calibrated(name), calibrated(name).with_locator(None)):
            answers, _ = trial(code)
            some = answers[:12].clone()
            some[::2, 3] = some[::2, 3].flip(-1) * 4
            everything = torch.ones(code.num_workers, dtype=torch.bool)
            together = code.locate(some, everything, batch_dims=1)
            alone = torch.stack([code.locate(group, everything) for group in some])
            assert torch.equal(together, alone)


def test_missing_answers_are_never_suspected_nor_read():
    code = calibrated("pairs")
    answers, _ = trial(code)
    available = torch.ones(GROUPS, code.num_workers, dtype=torch.bool)
    available[torch.arange(GROUPS), torch.arange(GROUPS) % code.num_workers] = False
    wrong = code.locate(answers, available, batch_dims=1)
    assert not (wrong & ~available).any()
    spoilt = torch.where(available[..., None], answers, torch.nan)
    assert torch.equal(code.locate(spoilt, available, batch_dims=1), wrong)


def test_several_heads_and_wide_answers(tmp_path):
    weights = torch.randn(64, 80, generator=torch.manual_seed(1)) / 8
    _, queries, _, _ = digits()

    def model(images: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.tanh(images @ weights)
        return {"map": hidden[:, :72].reshape(-1, 8, 9), "box": hidden[:, 72:76]}

    code = make_code("pairs", queries=4, stragglers=0, byzantine=1)
    assert isinstance(code, LocatingCode)
    code = calibrate(code, model, queries, groups=600, level=0.02, steps=150, width=24)
    group = queries[:4]
    answers = model(code.encode(group))
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    assert not code.locate(answers, everything).any()
    answers["box"][5] += 20.0
    assert code.locate(answers, everything).nonzero().flatten().tolist() == [5]
    assert code.decode(answers, everything)["map"].shape == (4, 8, 9)
    save_locator(code.locator, tmp_path / "wide")
    assert load_locator(tmp_path / "wide") == code.locator


@pytest.mark.parametrize("name", ["pairs", "approxifer"])
def test_a_locator_is_a_value_and_a_file(name: str, tmp_path):
    code = calibrated(name)
    path = tmp_path / "locator.safetensors"
    save_locator(code.locator, path)
    read = load_locator(path)
    assert read == code.locator
    assert hash(read) == hash(code.locator)
    again = make_code(
        name,
        queries=4,
        stragglers=0,
        byzantine=1,
        locator=read,
        **({"nodes": "authors"} if name == "approxifer" else {}),
    )
    assert again == code
    assert hash(again) == hash(code)
    assert again != code.with_locator(None)
    assert dataclasses.replace(read, thresholds=(0.0,)) != read
    answers, _ = trial(code)
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    lies = corrupt(answers, torch.eye(10, dtype=torch.bool)[torch.arange(GROUPS) % 10], "permuted")
    assert torch.equal(
        again.locate(lies, everything, batch_dims=1), code.locate(lies, everything, batch_dims=1)
    )


def test_a_locator_of_another_code_is_refused():
    network, gaussian = calibrated("pairs").locator, calibrated("approxifer").locator
    other = make_code("pairs", queries=5, stragglers=0, byzantine=1)
    with pytest.raises(ValueError, match=r"is \(4, 1, 0, 0\.6\), the code's \(5, 1, 0, 0\.6\)"):
        other.with_locator(network)
    with pytest.raises(ValueError, match="N\\+1 is 10, the code's 12"):
        other.with_locator(gaussian)
    with pytest.raises(ValueError, match="it is for code 'pairs'"):
        calibrated("approxifer").with_locator(network)


class Ramp(Locator):
    """Scores an answer by its first element."""

    kind = "ramp"
    thresholds = (float("inf"),)

    def scores(self, answers: torch.Tensor, available: torch.Tensor) -> torch.Tensor:
        return answers[..., 0].masked_fill(~available, -torch.inf)

    @classmethod
    def restore(cls, settings, tensors) -> Ramp:
        return cls()


def test_thresholds_are_the_conformal_quantile():
    scores = torch.randperm(199, generator=torch.manual_seed(0)).float()
    answers = torch.stack([scores - 500, scores], dim=1)[..., None]
    # Rank ceil(200 * 0.95) = 190 of 199 scores 0..198.
    assert clean_thresholds(Ramp(), answers, 0.05, 1) == (189.0,)
    with pytest.raises(ValueError, match=r"level must be in .* with 199 held-out groups"):
        clean_thresholds(Ramp(), answers, 0.004, 1)


def test_calibration_needs_what_it_needs():
    model, queries, _, _ = digits()
    code = make_code("pairs", queries=4, stragglers=0, byzantine=1)
    with pytest.raises(ValueError, match="queries must be at least K = 4, got 3"):
        clean_answers(code, model, queries[:3], 5)
    classic = make_code("approxifer", queries=4, stragglers=0, byzantine=1)
    answers, _ = clean_answers(classic, model, queries, 40)
    with pytest.raises(ValueError, match="method 'network' is for code 'pairs'"):
        fit_locator(classic, answers, answers, method="network", level=0.1)


@pytest.mark.parametrize("name", ["pairs", "approxifer"])
def test_a_small_head_beside_a_wide_one_is_not_overlooked(name: str):
    weights = torch.randn(64, 80, generator=torch.manual_seed(2)) / 8
    _, queries, _, _ = digits()

    def model(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = images @ weights
        return 50 * torch.relu(hidden[:, :72]), 0.01 * torch.tanh(hidden[:, 72:76])

    options = {"nodes": "authors"} if name == "approxifer" else {}
    code = make_code(name, queries=4, stragglers=0, byzantine=1, **options)
    assert isinstance(code, LocatingCode)
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    wide, small = model(code.encode(queries[:4]))
    # Sparse answers: half of the elements never vary, and that alone suspects nobody.
    assert not code.locate((wide, small), everything).any()
    code = calibrate(code, model, queries, groups=900, level=0.02, steps=120, width=24)
    assert not code.locate((wide, small), everything).any()
    # In standard deviations: 20 for the network, which knows each element; more for the other.
    small[5] += 0.2 if name == "pairs" else 100.0
    assert code.locate((wide, small), everything).nonzero().flatten().tolist() == [5]
