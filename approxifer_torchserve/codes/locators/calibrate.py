"""Fitting a locator to a model, on unlabelled queries.

    queries ─▶ groups ─▶ encode ─▶ the model ─▶ clean answers ─┬▶ fit (3/4 of the queries)
                                                               └▶ thresholds (the other 1/4)

Thresholds come from queries that the fit did not see: a conformal quantile of the largest score of
a clean group, so that a clean group like these is wrongly suspected with probability at most
``level``, whatever the fit is worth. Groups share queries, so it takes many queries, not only many
groups, to come close to that level in every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes.linear import LinearCode
from approxifer_torchserve.codes.locators.base import Locator, answer_matrix
from approxifer_torchserve.codes.locators.gaussian import GaussianLocator
from approxifer_torchserve.codes.locators.locating import LocatingCode, MixingCode
from approxifer_torchserve.codes.locators.network import NetworkLocator
from approxifer_torchserve.codes.locators.training import Progress, train_network
from approxifer_torchserve.codes.pytree import PyTree, flatten

LEVEL = 0.005
LOADED = 256
"""Queries that the model takes at once when they are not mixed."""
PADDED = 0.05
"""Share of groups in which a query stands twice, as in groups that were padded."""


def clean_answers(
    code: LinearCode,
    model: Callable[[PyTree], PyTree],
    queries: PyTree,
    groups: int,
    *,
    generator: torch.Generator | None = None,
    batch: int = 32,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Computes what honest workers answer to random groups of queries.

    Args:
        code: The code whose answers are wanted.
        model: From coded queries ``[n, *q]`` to predictions, leaves ``[n, *p]``.
        queries: Leaves ``[n, *q]``, n at least K.
        groups: How many groups; a query is in several if there are too few.
        generator: Where chance comes from.
        batch: Groups in one call of the model.
        progress: Called with (done, total) groups.

    Returns:
        float32 ``[groups, N+1, features]`` on the CPU, all heads together, and int64
        ``[groups, K]``, which queries each group is of.

    Raises:
        ValueError: There are fewer than K queries.
    """
    total = pytree.tree_leaves(queries)[0].shape[0]
    if total < code.queries:
        raise ValueError(f"queries must be at least K = {code.queries}, got {total}")
    members = random_groups(total, code.queries, groups, generator)
    padded = torch.rand(groups, generator=generator) < PADDED
    members[padded, -1] = members[padded, 0]
    # A coded query that is a query needs the model once, however many groups that query is in.
    mixed = [worker for worker, source in enumerate(code.sources) if source is None]
    plain = [(worker, source) for worker, source in enumerate(code.sources) if source is not None]
    alone = torch.empty(0)
    if plain:
        starts = range(0, total, LOADED)
        rows = [torch.arange(start, min(start + LOADED, total)) for start in starts]
        alone = torch.cat([_run(model, _take(queries, part)) for part in rows])
    blocks = []
    for start in range(0, groups, batch):
        part = members[start : start + batch]
        said = torch.empty(0)
        if mixed:
            coded = code.encode(_take(queries, part), batch_dims=1)
            coded = pytree.tree_map(lambda leaf: leaf[:, mixed].flatten(0, 1), coded)
            said = _run(model, coded).reshape(len(part), len(mixed), -1)
        block = torch.empty(len(part), code.num_workers, max(said.shape[-1], alone.shape[-1]))
        block[:, mixed] = said
        for worker, source in plain:
            block[:, worker] = alone[part[:, source]]
        blocks.append(block)
        if progress is not None:
            progress(start + len(part), groups)
    return torch.cat(blocks), members


def _take(tree: PyTree, rows: Tensor) -> PyTree:
    return pytree.tree_map(lambda leaf: leaf[rows.to(leaf.device)], tree)


def _run(model: Callable[[PyTree], PyTree], queries: PyTree) -> Tensor:
    """Runs the model; all heads of the answers together, ``[n, features]``."""
    with torch.no_grad():
        predictions = model(queries)
    flat = flatten("predictions", predictions, pytree.tree_leaves(predictions)[0].shape[0], 0)
    return answer_matrix(flat.leaves)[0].float()


def random_groups(
    total: int, size: int, groups: int, generator: torch.Generator | None = None
) -> Tensor:
    """Puts queries into groups, each query equally often, none twice in a group.

    Args:
        total: How many queries there are.
        size: K, how many queries form a group.
        groups: How many groups to make.
        generator: Where chance comes from.

    Returns:
        int64 ``[groups, K]``.
    """
    each = total // size
    rounds = [
        torch.randperm(total, generator=generator)[: each * size].reshape(each, size)
        for _ in range(-(-groups // each))
    ]
    return torch.cat(rounds)[:groups].clone()


def fit_locator(
    code: LocatingCode,
    fit: Tensor,
    held_out: Tensor,
    *,
    method: Literal["auto", "network", "gaussian"] = "auto",
    level: float = LEVEL,
    steps: int = 4000,
    width: int = 64,
    seed: int = 0,
    unseen: Collection[str] = (),
    progress: Progress | None = None,
) -> Locator:
    """Fits a locator to clean answers and sets its thresholds on others.

    Args:
        code: The code that the answers are of.
        fit: ``[groups, N+1, features]`` from ``clean_answers``.
        held_out: The same from other queries, at least ``1 / level`` groups.
        method: ``network`` (``pairs`` only), ``gaussian`` or the best for the code.
        level: The share of clean groups that may be suspected.
        steps: Training steps of the network.
        width: Of the network's hidden layers.
        seed: Of training and thresholds.
        unseen: Kinds of lies that the network's training leaves out, to measure what that costs.
        progress: Called with (done, total) steps.

    Returns:
        The locator, for ``code.with_locator``.

    Raises:
        ValueError: The method does not fit the code, there are too few groups, or ``unseen`` is
            not of the kinds trained with.
    """
    if method == "auto":
        method = "network" if isinstance(code, MixingCode) else "gaussian"
    locator: GaussianLocator | NetworkLocator
    if method == "network":
        if not isinstance(code, MixingCode):
            raise ValueError(f"method 'network' is for code 'pairs', got {code!r}: use 'gaussian'")
        locator = train_network(
            code, fit, steps=steps, width=width, seed=seed, unseen=unseen, progress=progress
        )
    elif method == "gaussian":
        locator = GaussianLocator.fit(fit)
    else:
        raise ValueError(f"method must be 'auto', 'network' or 'gaussian', got {method!r}")
    missing = code.stragglers + max(code.byzantine, 1)
    limits = clean_thresholds(locator, held_out, level, missing, seed=seed)
    return replace(locator, thresholds=limits)


def clean_thresholds(
    locator: Locator, answers: Tensor, level: float, missing: int, *, seed: int = 0
) -> tuple[float, ...]:
    """Finds the score that at most a share ``level`` of clean groups exceeds.

    Args:
        locator: Gives the scores; its own thresholds do not matter.
        answers: ``[groups, N+1, features]``, clean, not used in the fit.
        level: The share of clean groups that may be above it, in (0, 1).
        missing: Thresholds are found for 0..missing-1 answers missing, at random.
        seed: Of which answers are missing.

    Returns:
        ``missing`` thresholds.

    Raises:
        ValueError: There are too few groups for this level.
    """
    groups, workers = answers.shape[:2]
    rank = math.ceil((groups + 1) * (1 - level))
    if not 0 < level < 1 or rank > groups:
        raise ValueError(
            f"level must be in (0, 1) and at least 1/(groups + 1): got level={level} with {groups} "
            f"held-out groups; give more queries or a higher level"
        )
    generator = torch.Generator().manual_seed(seed)
    limits = []
    for count in range(missing):
        order = torch.rand(groups, workers, generator=generator).argsort(dim=1)
        available = order >= count
        with torch.no_grad():
            top = locator.scores(answers, available).amax(dim=1)
        limits.append(top.sort().values[rank - 1].item())
    return tuple(limits)


def calibrate(
    code: LocatingCode,
    model: Callable[[PyTree], PyTree],
    queries: PyTree,
    *,
    groups: int = 4000,
    level: float = LEVEL,
    method: Literal["auto", "network", "gaussian"] = "auto",
    steps: int = 4000,
    width: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> LocatingCode:
    """Fits a locator to a model on unlabelled queries.

    Args:
        code: A code that locates; with ``byzantine=0`` the locator is for ``screen``.
        model: From coded queries ``[n, *q]`` to predictions, leaves ``[n, *p]``.
        queries: Leaves ``[n, *q]``; some hundreds at least, like those to be served.
        groups: Groups to run through the model, N+1 coded queries each; a quarter of them sets
            the thresholds.
        level: The share of clean groups that may be suspected.
        method: See ``fit_locator``.
        steps: See ``fit_locator``.
        width: See ``fit_locator``.
        seed: Of groups, training and thresholds.
        progress: Called with (done, total) of groups, then of steps.

    Returns:
        The code with the locator.

    Raises:
        ValueError: There are too few queries or groups.

    Example:
        >>> from approxifer_torchserve.codes import make_code
        >>> code = make_code("pairs", queries=2, stragglers=0, byzantine=1)
        >>> images = torch.randn(64, 5, generator=torch.manual_seed(0))
        >>> code = calibrate(code, torch.tanh, images, groups=80, level=0.1, steps=5)
        >>> code.locator.kind
        'network'
    """
    generator = torch.Generator().manual_seed(seed)
    total = pytree.tree_leaves(queries)[0].shape[0]
    order = torch.randperm(total, generator=generator)
    parts = []
    for share, chosen in ((0.75, order[: total * 3 // 4]), (0.25, order[total * 3 // 4 :])):
        some = pytree.tree_map(lambda leaf, chosen=chosen: leaf[chosen], queries)
        count = math.ceil(groups * share)
        parts.append(
            clean_answers(code, model, some, count, generator=generator, progress=progress)[0]
        )
    locator = fit_locator(
        code,
        *parts,
        method=method,
        level=level,
        steps=steps,
        width=width,
        seed=seed,
        progress=progress,
    )
    return code.with_locator(locator)
