"""Tensors and pytrees of tensors, brought to the one shape that codes compute on.

A code sees every leaf as ``[batch, members, features]``; where the members axis was, how many batch
axes came before it and what the container was are known only here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

PyTree = Any
"""A tensor, or tuples, lists and dicts of tensors, nested as one likes."""


@dataclass(frozen=True)
class Flat:
    """The leaves of a pytree as ``[batch, members, features]``, and how to go back.

    Attributes:
        leaves: One tensor per leaf, of shape ``[batch, members, features]``.
        batch_shape: The batch axes, alike in all leaves.
        shapes: Each leaf's shape after the members axis.
        spec: The container of the leaves.
    """

    leaves: tuple[Tensor, ...]
    batch_shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    spec: pytree.TreeSpec

    def map(self, function: Callable[[Tensor], Tensor]) -> PyTree:
        """Applies a function to each leaf and rebuilds the pytree.

        Args:
            function: From ``[batch, members, features]`` to ``[batch, other, features]``.

        Returns:
            The pytree, leaves ``[*batch_shape, other, *shape]``.
        """
        results = [function(leaf) for leaf in self.leaves]
        return pytree.tree_unflatten(
            [
                result.reshape(*self.batch_shape, result.shape[1], *shape)
                for result, shape in zip(results, self.shapes, strict=True)
            ],
            self.spec,
        )


def flatten(argument: str, tree: PyTree, members: int, batch_dims: int) -> Flat:
    """Checks a pytree of tensors and brings its leaves to ``[batch, members, features]``.

    Args:
        argument: The caller's name of ``tree``, for errors.
        tree: Leaves ``[*batch, members, *features]``.
        members: Expected length of the members axis.
        batch_dims: Number of axes before the members axis.

    Returns:
        The flat leaves; they share memory with ``tree`` where torch can.

    Raises:
        TypeError: A leaf is not a tensor, or ``batch_dims`` is not an integer.
        ValueError: There is no leaf, a members axis has another length, or the leaves' batch axes
            differ.
    """
    if isinstance(batch_dims, bool) or not isinstance(batch_dims, int):
        raise TypeError(f"batch_dims must be an integer, got {batch_dims!r}")
    if batch_dims < 0:
        raise ValueError(f"batch_dims must be at least 0, got {batch_dims}")
    found, spec = pytree.tree_flatten_with_path(tree)
    if not found:
        raise ValueError(f"{argument} must hold at least one tensor, got an empty {type(tree)}")
    leaves: list[Tensor] = []
    shapes: list[tuple[int, ...]] = []
    batch_shape: tuple[int, ...] = ()
    for path, leaf in found:
        where = argument + pytree.keystr(path)
        if not isinstance(leaf, Tensor):
            raise TypeError(f"{where} must be a tensor, got {type(leaf).__name__}")
        if leaf.dim() <= batch_dims or leaf.shape[batch_dims] != members:
            raise ValueError(
                f"{where} must have {members} members on axis {batch_dims} (batch_dims="
                f"{batch_dims}), got shape {tuple(leaf.shape)}"
            )
        batch = tuple(leaf.shape[:batch_dims])
        if leaves and batch != batch_shape:
            raise ValueError(
                f"{where} must have the batch axes {batch_shape} of the other leaves, got {batch}"
            )
        batch_shape = batch
        shape = tuple(leaf.shape[batch_dims + 1 :])
        # The sizes are spelt out because -1 is ambiguous for tensors without elements.
        leaves.append(leaf.reshape(math.prod(batch), members, math.prod(shape)))
        shapes.append(shape)
    return Flat(tuple(leaves), batch_shape, tuple(shapes), spec)


def check_mask(argument: str, mask: Tensor, members: int) -> Tensor:
    """Checks a boolean mask over coded queries and brings it to the CPU.

    Args:
        argument: The caller's name of ``mask``, for errors.
        mask: bool ``[..., members]`` on any device.
        members: Expected length of the last axis.

    Returns:
        The mask, on the CPU.

    Raises:
        TypeError: Not a bool tensor.
        ValueError: The last axis has another length.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        came = f"dtype {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{argument} must be a bool tensor, got {came}")
    if mask.dim() < 1 or mask.shape[-1] != members:
        raise ValueError(
            f"{argument} must have one entry for each of the {members} coded queries on its last "
            f"axis, got shape {tuple(mask.shape)}"
        )
    return mask.cpu()


def by_pattern(available: Tensor) -> list[tuple[list[int], list[int]]]:
    """Puts groups together in which the same answers came.

    Args:
        available: bool ``[batch, N+1]``, true where an answer came.

    Returns:
        For each pattern the answers that came and the groups, both ascending.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for row, flags in enumerate(available.tolist()):
        came = tuple(worker for worker, flag in enumerate(flags) if flag)
        found.setdefault(came, []).append(row)
    return [(list(came), rows) for came, rows in found.items()]
