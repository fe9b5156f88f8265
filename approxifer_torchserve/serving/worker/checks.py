"""The two checks a worker makes of other workers' answers (docs/protocol.md).

``compare``: two predictions of one query are the same, but for floating-point noise. ``screen``:
the answers of a group fit together::

    p0 p1 … ─▶ same kind of tensors? ─▶ code.locate (E > 0), code.screen (E = 0) ─▶ wrong, suspected

A short group's padding repeats its members' answers, as it repeated their queries: fitted locators
have seen such groups, but none with half of the answers missing. A lie then stands in several
places, so who tells it is less sure: if anything is wrong, all of a short group is computed again.
What is suspected here is never more than that: two computations confirm it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from approxifer_torchserve.codes import LocatingCode
from approxifer_torchserve.serving.config import ToleranceConfig
from approxifer_torchserve.serving.worker import trees, wire


class ScreenError(ValueError):
    """The answers that came cannot be screened; their queries are then checked otherwise."""


@dataclass(frozen=True)
class Verdict:
    """What a screen found.

    Attributes:
        wrong: Coded queries whose answers do not fit, ascending.
        suspected: Positions of the members that are to be computed again, ascending.
    """

    wrong: list[int]
    suspected: list[int]


def compare(first: Any, second: Any, within: ToleranceConfig) -> bool:
    """Tells whether two predictions of different workers are the same.

    Args:
        first: A prediction as `wire.encode` writes it, or an answer's bytes where a handler's
            predictions cannot be had: those agree only if they are equal.
        second: The same from another worker.
        within: ``rtol`` is relative to the larger magnitude, ``atol`` in the prediction's own
            unit.

    Returns:
        True if shapes and structure are the same and every element is within
        ``atol + rtol * max(|a|, |b|)``; NaN agrees with NaN.
    """
    if first == second:
        return True
    try:
        one, other = wire.decode(first), wire.decode(second)
    except wire.WireError:
        return False
    ones, others = trees.leaves(one), trees.leaves(other)
    if ones is None or others is None or trees.signature(one) != trees.signature(other):
        return False
    return all(_close(a, b, within) for a, b in zip(ones, others, strict=True))


def _close(a: Tensor, b: Tensor, within: ToleranceConfig) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = a.double(), b.double()
    same = (a == b) | (a.isnan() & b.isnan())
    bound = within.atol + within.rtol * torch.maximum(a.abs(), b.abs())
    near = a.isfinite() & b.isfinite() & ((a - b).abs() <= bound)
    return bool((same | near).all())


def screen(
    code: LocatingCode,
    sources: Sequence[int | None],
    quorum: int,
    size: int,
    blobs: Mapping[int, Any],
) -> Verdict:
    """Tells whether the answers of a group fit together.

    Args:
        code: A systematic code, with its locator.
        sources: The plan's ``systematic``: the query that each coded query is, or None.
        quorum: From so many coded queries, padding counted with its member, a screen says
            something.
        size: m, with how many queries the group closed.
        blobs: Predictions by coded query, as `wire.encode` writes them.

    Returns:
        With ``byzantine`` > 0 those answers that the code's locator finds, and their members;
        with 0, and in a short group, all members if any answer looks wrong: one spare answer tells
        that something is wrong, not surely what.

    Raises:
        ScreenError: There are too few answers, or no two agree on what a prediction looks like.
    """
    places = {i: i if q is None else q % size for i, q in enumerate(sources)}
    given = [i for i in blobs if places[i] != i]
    if given:
        raise ScreenError(f"coded queries {given} are padding of a group of {size}")
    everywhere = {i: blobs[place] for i, place in places.items() if place in blobs}
    if len(everywhere) < quorum:
        raise ScreenError(
            f"expected {quorum} coded queries or more, got {len(everywhere)} of {sorted(blobs)}"
        )
    answers, available = stack_answers(code.num_workers, everywhere)
    with torch.no_grad():
        found = (code.locate if code.byzantine else code.screen)(answers, available)
    wrong = {places[i] for i in found.nonzero().flatten().tolist()}
    members = {i for i in blobs if sources[i] is not None}
    certain = code.byzantine and size >= code.queries
    suspected = wrong & members if certain else members if wrong else set()
    return Verdict(sorted(wrong), sorted(suspected))


def stack_answers(workers: int, blobs: Mapping[int, Any]) -> tuple[trees.Tree, Tensor]:
    """Puts the answers of a group into one batch, for a code that finds the wrong ones.

    Args:
        workers: N+1, how many coded queries a group has.
        blobs: Predictions by coded query, as `wire.encode` writes them.

    Returns:
        Leaves ``[N+1, *p]``, in which answers of another kind than most are NaN, and bool
        ``[N+1]``, which came.

    Raises:
        ScreenError: No kind of answer is that of most.
    """
    came: dict[int, trees.Tree] = {}
    for index, blob in blobs.items():
        try:
            came[index] = trees.tree_map(lambda t: t.unsqueeze(0), wire.decode(blob))
        except wire.WireError:
            continue  # as wrong as an answer of another shape
    kinds = {index: trees.signature(answer) for index, answer in came.items()}
    usual, count = Counter(kinds.values()).most_common(1)[0] if kinds else (None, 0)
    if 2 * count <= len(blobs):
        raise ScreenError("predictions differ in structure, shape or dtype")
    model = next(came[index] for index, kind in kinds.items() if kind == usual)
    broken = trees.tree_map(lambda t: torch.full_like(t, torch.nan), model)
    rows = [came[i] if kinds.get(i) == usual else broken for i in range(workers)]
    available = torch.tensor([i in blobs for i in range(workers)])
    return trees.join(rows), available
