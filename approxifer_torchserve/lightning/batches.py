"""Batches: the parts of them that a module is called with, and a first one to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, IterableDataset

from approxifer_torchserve.codes.pytree import PyTree

Selector = int | Callable[[Any], Any] | str | None
"""A part of a batch: its index or key, or a function of the batch; None for the batch itself."""


def select(argument: str, tree: Any, selector: Selector) -> Any:
    """Takes a part of a batch, or of what a model returned.

    Args:
        argument: The selector's name, for errors.
        tree: A tuple, list, mapping or object.
        selector: Index, key or attribute, or a function; None for all of it.

    Returns:
        The part.

    Raises:
        ValueError: There is no such part, or ``tree`` is one tensor, an index of which would take
            a query.

    Example:
        >>> select("inputs", {"image": 1, "label": 2}, "image")
        1
    """
    if selector is None:
        return tree
    if callable(selector):
        return selector(tree)
    if isinstance(tree, torch.Tensor):
        raise ValueError(
            f"{argument}={selector!r}: expected parts to choose from, got one tensor of shape "
            f"{tuple(tree.shape)}; set {argument} to None for the tensor itself, or to a function"
        )
    if isinstance(selector, str) and not isinstance(tree, Mapping) and hasattr(tree, selector):
        return getattr(tree, selector)
    try:
        return tree[selector]
    except (KeyError, IndexError, TypeError) as error:
        has = sorted(map(str, tree)) if isinstance(tree, Mapping) else type(tree).__name__
        raise ValueError(
            f"{argument}={selector!r}: there is no such part, got {has}; set {argument} to an "
            "index, a key, or a function"
        ) from error


def count_queries(argument: str, tree: PyTree) -> int:
    """Counts the queries of a part of a batch.

    Args:
        argument: The selector's name, for errors.
        tree: Leaves ``[B, *q]``.

    Returns:
        B.

    Raises:
        TypeError: A leaf is no tensor, or there is none.
        ValueError: The leaves differ in B, or one has no axis.
    """
    leaves = pytree.tree_leaves(tree)
    odd = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, torch.Tensor)]
    if odd or not leaves:
        raise TypeError(
            f"{argument}: expected tensors, got {odd[0] if odd else 'nothing'}; choose the right "
            f"part of a batch by {argument}: an index, a key, or a function"
        )
    shapes = [tuple(leaf.shape) for leaf in leaves]
    counts = {shape[:1] for shape in shapes}
    if counts == {()} or len(counts) > 1:
        raise ValueError(
            f"{argument}: expected tensors with one row for each query, got shapes {shapes}; "
            f"choose the right part of a batch by {argument}"
        )
    return int(shapes[0][0])


def max_queries(trainer: Trainer, index: int | None, count: int) -> float:
    """Bounds the queries that a validation will have of one data loader.

    Args:
        trainer: About to train, with its validation loaders set up.
        index: The data loader; None where there is one.
        count: Queries of a first batch.

    Returns:
        The bound; infinity where batches are no fixed number of the dataset's items.
    """
    loaders = _loaders(trainer)
    loader = None if index is None and len(loaders) > 1 else loaders[index or 0]
    size = getattr(loader, "batch_size", None)
    if not isinstance(loader, DataLoader) or size is None or count > size:
        return math.inf
    most: float = trainer.num_val_batches[index or 0] * size
    if isinstance(loader.dataset, IterableDataset):
        return most
    return min(most, len(loader.dataset))  # type: ignore[arg-type]


def first_batch(trainer: Trainer, pl_module: LightningModule, queries: int) -> Any | None:
    """Makes the beginning of a first validation batch, for a look before training starts.

    Neither the loader's workers nor its sampler are touched. With several loaders, with a stream,
    or where the dataset fails outside of a worker, there is nothing to look at.

    Args:
        trainer: About to train, with its validation loader set up.
        pl_module: What moves the batch to the device.
        queries: How many of them are needed.

    Returns:
        The batch as ``validation_step`` gets it, with ``queries`` queries or one batch's worth,
        whichever is less; or None.
    """
    loaders = _loaders(trainer)
    if len(loaders) != 1 or not isinstance(loaders[0], DataLoader):
        return None
    (loader,) = loaders
    if isinstance(loader.dataset, IterableDataset):
        return None
    size = getattr(loader.batch_sampler, "batch_size", None)
    try:
        dataset: Any = loader.dataset
        index = list(range(min(size or 0, queries, len(dataset))))
        if not index:
            return None
        several = getattr(dataset, "__getitems__", None)
        batch = loader.collate_fn(several(index) if several else [dataset[i] for i in index])
        # What Lightning's evaluation loop does with a batch.
        batch = trainer.precision_plugin.convert_input(batch)
        batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=0)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=0)
    except Exception:
        return None


def _loaders(trainer: Trainer) -> Sequence[Any]:
    loaders = trainer.val_dataloaders
    return loaders if isinstance(loaders, list | tuple) else [loaders]
