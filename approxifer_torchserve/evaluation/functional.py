"""Scores of predictions as pure functions: how right, and how like the base model's.

A score is a pair of sums, value and weight, so that batches and processes add up: accuracy is
value over weight; a relative error is the root of squared error over squared size.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Task = Literal["multiclass", "binary", "regression"]


def guess_task(predictions: Tensor, targets: Tensor) -> Task:
    """Guesses the task from what model and data give.

    Args:
        predictions: float ``[B, C, *dense]`` for classes, else ``[B, *p]``.
        targets: Integers ``[B, *dense]`` are classes (or 0 and 1, where the shapes are equal or
            C is 1); floating point is a quantity to predict.

    Returns:
        ``regression`` for floating point targets, ``binary`` for integers of the predictions' own
        shape, else ``multiclass``.
    """
    if targets.is_floating_point():
        return "regression"
    if targets.shape == predictions.shape or predictions[:, 0:1].shape == predictions.shape:
        return "binary"
    return "multiclass"


def check_task(predictions: Tensor, targets: Tensor, task: Task) -> None:
    """Checks that predictions and targets of a batch fit each other.

    Args:
        predictions: ``[B, *p]``, the model's output for a batch.
        targets: ``[B, *t]``, what it should be.
        task: ``multiclass``, ``binary`` or ``regression``.

    Raises:
        ValueError: The shapes or dtypes do not fit the task; says which would.
    """
    if task not in get_args(Task):
        raise ValueError(f"task: expected one of {get_args(Task)}, got {task!r}")
    came = f"got predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)}"
    if task == "multiclass":
        wanted = (predictions.shape[0], *predictions.shape[2:])
        if predictions.dim() < 2 or tuple(targets.shape) != wanted:
            raise ValueError(
                f"task multiclass: expected predictions [B, C, *dense] and targets [B, *dense], "
                f"{came}; choose the right parts by outputs and targets, or another task"
            )
        if targets.is_floating_point():
            raise ValueError(
                f"task multiclass: expected integer targets, got {targets.dtype}; "
                "give class indices, or task=regression"
            )
    elif predictions.numel() != targets.numel():
        raise ValueError(
            f"task {task}: expected targets of the predictions' shape, {came}; "
            "choose the right parts by outputs and targets"
        )


def score(
    predictions: Tensor, reference: Tensor, task: Task, lead: int, ignore_index: int = -100
) -> Tensor:
    """Scores predictions against targets, query by query.

    Args:
        predictions: ``[*lead, C, *dense]`` for ``multiclass``, else ``[*lead, *p]`` (logits for
            ``binary``).
        reference: Class indices ``[*lead, *dense]``; zeros and ones, or quantities, of the
            predictions' shape.
        task: What the predictions are.
        lead: How many axes stand before the classes, such as 3 for ``[P, G, K]``.
        ignore_index: Class index that is not scored.

    Returns:
        float64 ``[*lead, 2]``: value and weight. A prediction with NaN is wrong.

    Example:
        >>> logits = torch.tensor([[0.1, 0.9], [0.8, 0.2], [float("nan"), 0.0]])
        >>> score(logits, torch.tensor([1, 1, 0]), "multiclass", lead=1)[:, 0].tolist()
        [1.0, 0.0, 0.0]
    """
    if task == "multiclass":
        right = predictions.argmax(dim=lead) == reference
        right &= ~predictions.isnan().any(dim=lead)
        value, weight = right, reference != ignore_index
        value = value & weight
    elif task == "binary":
        reference = reference.reshape(predictions.shape)
        value = ((predictions > 0) == (reference > 0)) & ~predictions.isnan()
        weight = torch.ones_like(value)
    else:
        reference = reference.reshape(predictions.shape).double()
        value = (predictions.double() - reference).square()
        value = torch.where(value.isnan(), math.inf, value)
        weight = reference.square()
    shape = (*predictions.shape[:lead], -1)
    sums = [part.reshape(shape).sum(dim=-1, dtype=torch.float64) for part in (value, weight)]
    return torch.stack(sums, dim=-1)


def decisions(predictions: Tensor, task: Task, lead: int) -> Tensor:
    """Turns the base model's predictions into targets, to score agreement against.

    Args:
        predictions: ``[*lead, *p]``, as in ``score``.
        task: ``multiclass``, ``binary`` or ``regression``.
        lead: How many axes stand before the classes, such as 3 for ``[P, G, K]``.

    Returns:
        Class indices, zeros and ones, or the predictions themselves.

    Example:
        >>> decisions(torch.tensor([[0.1, 0.9]]), "multiclass", lead=1).tolist()
        [1]
    """
    if task == "multiclass":
        return predictions.argmax(dim=lead)
    return (predictions > 0).long() if task == "binary" else predictions


def ratio(sums: Tensor, task: Task) -> float:
    """Turns summed value and weight into an accuracy, or a relative error.

    Args:
        sums: float64 ``[..., 2]``; all leading axes are summed.
        task: ``multiclass``, ``binary`` or ``regression``.

    Returns:
        Value over weight, its root for ``regression``; NaN where the weight is 0.

    Example:
        >>> ratio(torch.tensor([[3.0, 4.0], [1.0, 4.0]]), "multiclass")
        0.5
        >>> ratio(torch.tensor([1.0, 4.0]), "regression")
        0.5
    """
    value, weight = sums.reshape(-1, 2).sum(dim=0).tolist()
    if weight == 0:
        return math.nan
    return math.sqrt(value / weight) if task == "regression" else value / weight


def overall_accuracy(predictions: Tensor, targets: Tensor, task: Task = "multiclass") -> float:
    """Computes A_o: over all queries of all groups and patterns.

    Args:
        predictions: Decoded, ``[P, G, K, C, *dense]``.
        targets: ``[G, K, *dense]``, class indices for ``multiclass``.
        task: ``multiclass``, ``binary`` or ``regression``.

    Returns:
        A fraction (a relative error for ``regression``).

    Example:
        >>> logits = torch.eye(2).expand(3, 1, 2, 2)
        >>> overall_accuracy(logits, torch.tensor([[0, 0]]))
        0.5
    """
    return ratio(_every(predictions, targets, task), task)


def lost_accuracy(
    predictions: Tensor, targets: Tensor, lost: Tensor, task: Task = "multiclass"
) -> float:
    """Computes A_d: over the queries whose own answer was lost.

    Args:
        predictions: Decoded, ``[P, G, K, C, *dense]``.
        targets: ``[G, K, *dense]``, class indices for ``multiclass``.
        lost: bool ``[P, K]``, see ``patterns.lost_queries``.
        task: ``multiclass``, ``binary`` or ``regression``.

    Returns:
        A fraction (a relative error for ``regression``); NaN where nothing was lost.

    Example:
        >>> logits = torch.eye(2).expand(2, 1, 2, 2)
        >>> lost_accuracy(logits, torch.tensor([[0, 0]]), torch.eye(2, dtype=torch.bool))
        0.5
    """
    chosen = _every(predictions, targets, task).sum(dim=1)[lost]
    return ratio(chosen, task)


def worst_pattern(
    predictions: Tensor, targets: Tensor, task: Task = "multiclass"
) -> tuple[int, float]:
    """Finds the pattern of losses that costs the most.

    Args:
        predictions: Decoded, ``[P, G, K, C, *dense]``.
        targets: ``[G, K, *dense]``, class indices for ``multiclass``.
        task: ``multiclass``, ``binary`` or ``regression``.

    Returns:
        The pattern's index and its A_o.

    Example:
        >>> logits = torch.stack([torch.eye(2), torch.eye(2).flip(0)])[:, None]
        >>> worst_pattern(logits, torch.tensor([[0, 1]]))
        (1, 0.0)
    """
    each = [ratio(part, task) for part in _every(predictions, targets, task)]
    worst = max if task == "regression" else min
    index = each.index(worst(each))
    return index, each[index]


def agreement(predictions: Tensor, base: Tensor, task: Task = "multiclass") -> float:
    """Compares decoded predictions with the base model's own, whatever is true.

    Args:
        predictions: Decoded, ``[P, G, K, C, *dense]``.
        base: ``[G, K, C, *dense]``, the model's own predictions.
        task: ``multiclass``, ``binary`` or ``regression``.

    Returns:
        How often they decide alike (for ``regression``: how far they are apart, relatively).

    Example:
        >>> agreement(torch.eye(2).expand(1, 1, 2, 2), 3 * torch.eye(2)[None])
        1.0
    """
    return overall_accuracy(predictions, decisions(base, task, lead=2), task)


def locator_rates(found: Tensor, wrong: Tensor) -> tuple[float, float]:
    """Rates a locator.

    Args:
        found: bool ``[G, N+1]``, answers that were called wrong.
        wrong: bool ``[G, N+1]``, answers that were.

    Returns:
        Share of wrong answers found, share of right answers falsely suspected; NaN of none.

    Example:
        >>> locator_rates(torch.tensor([[True, True, False]]), torch.tensor([[True, False, False]]))
        (1.0, 0.5)
    """
    hits, suspected = (found & wrong).sum().item(), (found & ~wrong).sum().item()
    liars, honest = wrong.sum().item(), (~wrong).sum().item()
    return (
        hits / liars if liars else math.nan,
        suspected / honest if honest else math.nan,
    )


def _every(predictions: Tensor, targets: Tensor, task: Task) -> Tensor:
    """Scores ``[P, G, K]`` predictions, to float64 ``[P, G, K, 2]``."""
    reference = targets.expand(predictions.shape[0], *targets.shape)
    return score(predictions, reference, task, lead=3)
