from __future__ import annotations

import itertools
import math

import pytest
import torch

from approxifer_torchserve.codes import make_code
from approxifer_torchserve.evaluation import (
    DegradedScores,
    LocatorScores,
    agreement,
    locator_rates,
    lost_accuracy,
    lost_queries,
    overall_accuracy,
    worst_pattern,
)
from approxifer_torchserve.evaluation.functional import check_task, guess_task, score
from approxifer_torchserve.evaluation.patterns import draw_wrong
from approxifer_torchserve.faults import erasure_patterns

CODES = {
    "systematic": make_code("approxifer", queries=4, stragglers=2),
    "classic": make_code("approxifer", queries=4, stragglers=2, systematic=False),
    "replication": make_code("replication", queries=4, stragglers=2),
}


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_the_metric_counts_what_a_plain_loop_counts(name: str, task: str):
    code = CODES[name]
    draw = torch.Generator().manual_seed(1)
    answers = torch.randn(6, code.num_workers, 5, generator=draw)
    base = torch.randn(6, 4, 5, generator=draw)
    targets = (
        torch.randint(5, (6, 4), generator=draw)
        if task == "multiclass"
        else torch.randn(6, 4, 5, generator=draw)
    )
    patterns = erasure_patterns(code.num_workers, 2, limit=10_000)
    assert len(patterns) == math.comb(code.num_workers, 2)
    decoded = torch.stack([code.decode(answers, mask, batch_dims=1) for mask in patterns])
    healthy = code.decode(answers, torch.ones(code.num_workers, dtype=torch.bool), batch_dims=1)

    metric = DegradedScores(code, patterns, task)
    for half in (slice(0, 2), slice(2, 6)):
        metric.update(decoded[:, half], healthy[half], base[half], targets[half])
    scores = metric.compute()

    # The plain loop.
    sums: dict[object, list[float]] = {}

    def add(key: object, value: float, weight: float) -> None:
        entry = sums.setdefault(key, [0.0, 0.0])
        entry[0] += value
        entry[1] += weight

    for p, mask in enumerate(patterns.tolist()):
        for g, k in itertools.product(range(6), range(4)):
            out, target = decoded[p, g, k].double(), targets[g, k]
            if task == "multiclass":
                pair = (float(out.argmax() == target), 1.0)
                like = (float(out.argmax() == base[g, k].argmax()), 1.0)
            else:
                pair = (
                    float(((out - target.double()) ** 2).sum()),
                    float((target.double() ** 2).sum()),
                )
                like = (
                    float(((out - base[g, k].double()) ** 2).sum()),
                    float((base[g, k].double() ** 2).sum()),
                )
            add("overall", *pair)
            add(("pattern", p), *pair)
            add("agreement", *like)
            if name == "classic" or not mask[k]:
                add("lost", *pair)
            for worker in range(code.num_workers):
                if not mask[worker] and (name == "classic" or worker == k):
                    add(("position", worker), *pair)

    def value(key: object) -> float:
        if key not in sums:
            return math.nan
        quotient = sums[key][0] / sums[key][1]
        return math.sqrt(quotient) if task == "regression" else quotient

    assert scores.overall == pytest.approx(value("overall"))
    assert scores.lost_only == pytest.approx(value("lost"))
    assert scores.agreement == pytest.approx(value("agreement"))
    each = [value(("pattern", p)) for p in range(len(patterns))]
    worst = max(each) if task == "regression" else min(each)
    assert scores.worst == pytest.approx(worst)
    lacking = tuple((~patterns[each.index(worst)]).nonzero().flatten().tolist())
    assert scores.worst_pattern == lacking
    assert scores.positions == pytest.approx(
        [value(("position", w)) for w in range(code.num_workers)], nan_ok=True
    )
    assert scores.groups == 6
    assert scores.lost_are_all == (name == "classic")

    # The pure functions say the same.
    assert overall_accuracy(decoded, targets, task) == pytest.approx(scores.overall)
    lost = lost_queries(code, patterns)
    assert lost_accuracy(decoded, targets, lost, task) == pytest.approx(scores.lost_only)
    assert agreement(decoded, base, task) == pytest.approx(scores.agreement)
    index, found = worst_pattern(decoded, targets, task)
    assert (index, found) == (each.index(worst), pytest.approx(scores.worst))


def test_replication_loses_nothing_and_says_so():
    code = CODES["replication"]
    patterns = erasure_patterns(code.num_workers, 2, limit=1000)
    base = torch.eye(4)[None]
    answers = torch.eye(4).repeat(3, 1)[None]
    decoded = torch.stack([code.decode(answers, mask, batch_dims=1) for mask in patterns])
    metric = DegradedScores(code, patterns, "multiclass")
    metric.update(decoded, base, base, torch.tensor([[0, 1, 2, 0]]))
    scores = metric.compute()
    assert scores.lost_only == scores.overall == scores.base == 0.75
    assert scores.agreement_lost == 1.0


def test_wrong_shapes_are_named():
    code = CODES["systematic"]
    patterns = erasure_patterns(code.num_workers, 1, limit=128)
    metric = DegradedScores(code, patterns, "multiclass")
    base = torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="expected 6 patterns, got 5"):
        metric.update(torch.zeros(5, 2, 4, 3), base, base, torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"patterns: expected bool \[P, 6\]"):
        DegradedScores(code, patterns[:, :3], "multiclass")


def test_dense_and_ignored_targets_are_weighted():
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 1] = 1.0
    targets = torch.tensor([[[1, 1], [2, -100]]])
    assert score(logits, targets, "multiclass", lead=1).tolist() == [[2.0, 3.0]]


def test_nan_is_never_right():
    nan = torch.tensor([[math.nan, 0.0]])
    assert score(nan, torch.tensor([0]), "multiclass", lead=1)[0, 0] == 0
    assert score(nan, torch.tensor([[0, 0]]), "binary", lead=1).tolist() == [[1.0, 2.0]]
    assert score(nan, torch.ones(1, 2), "regression", lead=1)[0, 0] == math.inf


@pytest.mark.parametrize(
    ("predictions", "targets", "task"),
    [
        (torch.zeros(2, 5), torch.zeros(2, dtype=torch.long), "multiclass"),
        (torch.zeros(2, 5, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long), "multiclass"),
        (torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), "binary"),
        (torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.long), "binary"),
        (torch.zeros(2, 5), torch.zeros(2, 5), "regression"),
    ],
)
def test_the_task_is_guessed(predictions: torch.Tensor, targets: torch.Tensor, task: str):
    assert guess_task(predictions, targets) == task
    check_task(predictions, targets, task)


def test_a_task_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="choose the right parts by outputs and targets"):
        check_task(torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.long), "multiclass")
    with pytest.raises(ValueError, match="integer targets"):
        check_task(torch.zeros(2, 5), torch.zeros(2), "multiclass")
    with pytest.raises(ValueError, match="task: expected one of"):
        check_task(torch.zeros(2, 5), torch.zeros(2), "ranking")


def test_locator_rates_match_their_metric():
    draw = torch.Generator().manual_seed(0)
    found, wrong = (torch.rand(2, 50, 6, generator=draw) < 0.3).unbind()
    metric = LocatorScores()
    metric.update(found[:20], wrong[:20])
    metric.update(found[20:], wrong[20:])
    rates = metric.compute()
    assert (rates["hits"], rates["false_suspicions"]) == pytest.approx(locator_rates(found, wrong))
    assert rates["exact"] == pytest.approx((found == wrong).all(dim=1).double().mean().item())


def test_wrong_answers_are_drawn_among_those_that_came():
    available = torch.tensor([True, False, True, True])
    wrong = draw_wrong(available, 200, 2, torch.Generator().manual_seed(0))
    assert wrong.sum(dim=1).tolist() == [2] * 200
    assert not wrong[:, 1].any()
    assert (wrong.sum(dim=0)[[0, 2, 3]] > 100).all()
