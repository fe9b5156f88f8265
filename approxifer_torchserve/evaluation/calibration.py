"""Fitting a locator, and what it does to groups that it has not seen.

queries ─┬▶ 4/5 ─▶ calibrate (fit and thresholds)
         └▶ 1/5 ─▶ clean groups: how many are wrongly suspected; the same with one lie: how many
                   lies are found; the time that one group takes
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes import LocatingCode, Locator, calibrate
from approxifer_torchserve.codes.locators.calibrate import clean_answers
from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.corruption import corrupt, corruption_kinds

HELD_OUT = 0.2
TRIALS = 1000
REPEATS = 30


@dataclass(frozen=True)
class Calibration:
    """A locator and how it did.

    Attributes:
        locator: What was fitted.
        trials: Groups of held-out queries that it was tried on.
        suspected: Share of them in which an honest worker was suspected.
        found: By kind of lie, the share of groups in which the one liar was named (with
            ``byzantine=0``: in which anything was).
        milliseconds: Median time for one group on one thread.
    """

    locator: Locator
    trials: int
    suspected: float
    found: dict[str, float]
    milliseconds: float


def fit_and_try(
    code: LocatingCode,
    model: Callable[[PyTree], PyTree],
    queries: PyTree,
    *,
    groups: int = 4000,
    level: float = 0.005,
    steps: int = 4000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Calibrates a code on most of the queries and tries it on the rest.

    Args:
        code: The code; its locator is replaced.
        model: From coded queries ``[n, *q]`` to predictions, leaves ``[n, *p]``.
        queries: Leaves ``[n, *q]``; some hundreds at least, like those to be served.
        groups: Groups to run through the model, see ``calibrate``.
        level: The share of clean groups that may be suspected.
        steps: Training steps of the network.
        seed: Of all that is drawn; the same one gives the same figures.
        progress: Called with (done, total) of groups or steps.

    Returns:
        What came of it.

    Raises:
        ValueError: There are too few queries or groups.
    """
    total = pytree.tree_leaves(queries)[0].shape[0]
    held = int(total * HELD_OUT)
    if held < code.queries:
        raise ValueError(
            f"data: expected at least {int(code.queries / HELD_OUT)} inputs for groups of "
            f"{code.queries}, some hundreds to be of use, got {total}"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed + 1))

    def part(rows: Tensor) -> PyTree:
        return pytree.tree_map(lambda leaf: leaf[rows], queries)

    fitted = calibrate(
        code,
        model,
        part(order[held:]),
        groups=groups,
        level=level,
        steps=steps,
        seed=seed,
        progress=progress,
    )
    generator = torch.Generator().manual_seed(seed + 2)
    answers, _ = clean_answers(
        fitted, model, part(order[:held]), TRIALS, generator=generator, progress=progress
    )
    suspects = _suspects(fitted, answers)
    liars = torch.zeros_like(suspects)
    liars[torch.arange(TRIALS), torch.randint(code.num_workers, (TRIALS,), generator=generator)] = (
        True
    )
    found = {}
    for kind in corruption_kinds():
        named = _suspects(fitted, corrupt(answers, liars, kind, generator=generator))
        hit = named & liars if code.byzantine else named
        found[kind] = round(hit.any(dim=1).double().mean().item(), 4)
    return Calibration(
        locator=fitted.locator or fitted.default_locator(),
        trials=TRIALS,
        suspected=round(suspects.any(dim=1).double().mean().item(), 4),
        found=found,
        milliseconds=round(_time(fitted, answers), 3),
    )


def _suspects(code: LocatingCode, answers: Tensor) -> Tensor:
    everything = torch.ones(code.num_workers, dtype=torch.bool)
    look = code.locate if code.byzantine else code.screen
    return look(answers, everything, batch_dims=answers.dim() - 2)


def _time(code: LocatingCode, answers: Tensor) -> float:
    """Measures one group, as a worker among many has it: on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spent = []
        for group in answers[:REPEATS]:
            start = time.perf_counter()
            _suspects(code, group)
            spent.append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(spent)
