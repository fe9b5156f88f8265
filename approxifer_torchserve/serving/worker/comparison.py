"""Whether two predictions of the same query are the same, but for floating-point noise."""

from __future__ import annotations

from typing import Any

import torch

from approxifer_torchserve.serving.worker import trees, wire


def agree(first: Any, second: Any, *, rtol: float, atol: float) -> bool:
    """Compares two predictions of different workers (docs/protocol.md, ``compare``).

    Args:
        first: A prediction as `wire.encode` writes it, or an answer's bytes where a handler's
            predictions cannot be had: those agree only if they are equal.
        second: The same from another worker.
        rtol: Largest difference relative to the larger magnitude.
        atol: Largest difference of what is near zero, in the prediction's own unit.

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
    return all(_close(a, b, rtol, atol) for a, b in zip(ones, others, strict=True))


def _close(a: torch.Tensor, b: torch.Tensor, rtol: float, atol: float) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = a.double(), b.double()
    same = (a == b) | (a.isnan() & b.isnan())
    bound = atol + rtol * torch.maximum(a.abs(), b.abs())
    near = a.isfinite() & b.isfinite() & ((a - b).abs() <= bound)
    return bool((same | near).all())
