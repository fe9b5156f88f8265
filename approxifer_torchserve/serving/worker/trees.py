"""Batches that are one tensor, or tuples and string-keyed dicts of tensors, and their rows.

Lists are left out on purpose: three images of three channels in a list look exactly like a batch
of three. Subclasses (named tuples, model outputs) are left out because they could not be rebuilt
on the other side of a wire.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

Tree: TypeAlias = Any  # a Tensor, a tuple of Trees, or a dict of Trees with string keys


def leaves(tree: Tree) -> list[torch.Tensor] | None:
    """Returns the tensors of a tree in order, or None if it is not such a tree or is empty."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    found: list[torch.Tensor] = []
    return found if _collect(tree, found) and found else None


def _collect(tree: Tree, found: list[torch.Tensor]) -> bool:
    if isinstance(tree, torch.Tensor):
        found.append(tree)
        return True
    if type(tree) is tuple:
        return all(_collect(item, found) for item in tree)
    if type(tree) is dict:
        return all(isinstance(k, str) and _collect(v, found) for k, v in tree.items())
    return False


def tree_map(function: Callable[..., torch.Tensor], tree: Tree, *others: Tree) -> Tree:
    """Applies a function to each tensor (with its like of the other trees); keeps the shape."""
    if isinstance(tree, torch.Tensor):
        return function(tree, *others)
    if isinstance(tree, tuple):
        return tuple(
            tree_map(function, item, *(o[i] for o in others)) for i, item in enumerate(tree)
        )
    return {k: tree_map(function, v, *(o[k] for o in others)) for k, v in tree.items()}


def rows_of(tree: Tree) -> int | None:
    """Returns the leading length that all tensors of a batch share, or None."""
    if isinstance(tree, torch.Tensor):
        return tree.shape[0] if tree.ndim else None
    tensors = leaves(tree)
    if tensors is None or any(t.ndim == 0 for t in tensors):
        return None
    lengths = {t.shape[0] for t in tensors}
    return lengths.pop() if len(lengths) == 1 else None


def signature(batch: Tree) -> Any:
    """Returns what two batches must share to be joined: structure, trailing shapes, dtypes."""
    if isinstance(batch, torch.Tensor):
        return ("tensor", tuple(batch.shape[1:]), batch.dtype)
    if isinstance(batch, tuple):
        return ("tuple", *(signature(item) for item in batch))
    return ("dict", *((k, signature(v)) for k, v in batch.items()))


def floating(tree: Tree) -> bool:
    """Tells whether every tensor of a tree is real floating point, so that it can be coded."""
    tensors = leaves(tree)
    return tensors is not None and all(t.is_floating_point() for t in tensors)


def finite(tree: Tree) -> bool:
    """Tells whether no tensor of a tree holds NaN or Inf."""
    return all(_finite(t) for t in leaves(tree) or [])


def _finite(tensor: torch.Tensor) -> bool:
    # A sum takes a third of the time, and only where it overflows does it not tell.
    if tensor.is_floating_point() and math.isfinite(tensor.sum().item()):
        return True
    return bool(torch.isfinite(tensor).all())


def row(batch: Tree, index: int) -> Tree:
    """Returns one row, without the batch dimension."""
    return tree_map(lambda t: t[index], batch)


def part(batch: Tree, start: int, stop: int) -> Tree:
    """Returns rows ``start..stop-1`` as a batch."""
    return tree_map(lambda t: t[start:stop], batch)


def join(batches: Sequence[Tree]) -> Tree:
    """Joins batches of one signature along the batch dimension."""
    first = batches[0]
    return tree_map(lambda *ts: torch.cat([t.to(ts[0].device) for t in ts]), first, *batches[1:])


def stack(rows: Sequence[Tree]) -> Tree:
    """Makes a batch of rows."""
    return tree_map(lambda *ts: torch.stack(ts), rows[0], *rows[1:])


def to_device(tree: Tree, device: Any) -> Tree:
    """Moves every tensor of a tree."""
    return tree_map(lambda t: t.to(device), tree)
