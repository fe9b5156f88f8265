"""Collects queries of a validation run, within a budget, and measures groups of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.evaluation import Evaluator, group_alike, order_by_similarity
from approxifer_torchserve.evaluation.forwards import Forward
from approxifer_torchserve.evaluation.grouping import Order, take

Selector = int | Callable[[Any], Any] | str
"""A part of a batch: its index or key, or a function of the batch."""

# Few forwards of many queries cost less than many of few; this is small enough to keep at hand.
_LEAST_CHUNK = 256


def select(argument: str, tree: Any, selector: Selector | None) -> Any:
    """Take a part of a batch, or of what a model returned.

    Args:
        argument: The selector's name, for errors.
        tree: A tuple, list, mapping or object.
        selector: Index, key or attribute, or a function; None for all of it.

    Returns:
        The part.

    Raises:
        ValueError: There is no such part.

    Example:
        >>> select("inputs", {"image": 1, "label": 2}, "image")
        1
    """
    if selector is None:
        return tree
    if callable(selector):
        return selector(tree)
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


class Collector:
    """One data loader's run: a sample of its queries, in groups, measured as they come.

    Queries are drawn at random from each batch, and groups at random from what was drawn: data
    sorted by class would otherwise make groups of one class, which any code serves well.

    Args:
        evaluator: What measures; it is reset.
        max_groups: The most groups, or None.
        max_cost: The most queries to run through the model, as a share of the queries seen, or
            None to take all.
        order: How the queries of a group are placed.
        seed: Of the draws.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        max_groups: int | None,
        max_cost: float | None,
        order: Order,
        seed: int,
    ) -> None:
        evaluator.reset()
        self.evaluator = evaluator
        self.size = evaluator.forwards.queries
        self.order = order
        self.max_queries = None if max_groups is None else max_groups * self.size
        forwards = evaluator.forwards.forwards_per_group
        self.share = None if max_cost is None else max_cost * self.size / forwards
        self.seen = self.taken = self.batch_size = 0
        self._draw = torch.Generator().manual_seed(seed)
        self._pool: list[tuple[PyTree, PyTree]] = []
        self._pooled = 0
        self._mean: tuple[PyTree, int] | None = None

    def want(self, count: int) -> Tensor | None:
        """Choose queries from the next batch.

        Args:
            count: How many queries it has.

        Returns:
            int64, ascending; None for none.
        """
        self.seen += count
        self.batch_size = max(self.batch_size, count)
        due = self.seen if self.share is None else int(self.share * self.seen)
        if self.max_queries is not None:
            due = min(due, self.max_queries)
        due = min(due - self.taken, count)
        if due <= 0:
            return None
        self.taken += due
        return torch.randperm(count, generator=self._draw)[:due].sort().values

    def add(self, inputs: PyTree, targets: PyTree, chosen: Tensor) -> bool:
        """Keep the chosen queries.

        Args:
            inputs: Leaves ``[B, *q]``.
            targets: Leaves ``[B, *t]``.
            chosen: From ``want``.

        Returns:
            Whether there is enough to measure now.
        """
        self._pool.append((take(inputs, chosen), take(targets, chosen)))
        self._pooled += len(chosen)
        forwards = self.evaluator.forwards.forwards_per_group
        groups = max(1, max(self.batch_size, _LEAST_CHUNK) // forwards)
        return self._pooled >= groups * self.size

    def measure(self, forward: Forward) -> None:
        """Measure all whole groups of what was kept; the rest waits for more."""
        groups = self._pooled // self.size
        if not groups:
            return
        inputs, targets = self._joined()
        shuffled = torch.randperm(self._pooled, generator=self._draw)
        chosen, rest = shuffled[: groups * self.size], shuffled[groups * self.size :]
        if self.order == "grouped":
            index = chosen[group_alike(take(inputs, chosen), self.size)]
        else:
            index = chosen.reshape(groups, self.size)
        if self.order != "arrival":
            index = index.gather(1, order_by_similarity(take(inputs, index)))
        guess = None if self._mean is None else self._mean[0]
        batch = max(self.batch_size, 1)
        base = self.evaluator.update(
            forward, take(inputs, index), take(targets, index), guess, batch
        )
        self._remember(base, groups * self.size)
        self._pool = [(take(inputs, rest), take(targets, rest))] if len(rest) else []
        self._pooled = len(rest)

    def prepare(self, forward: Forward) -> None:
        """Learn what the model returns from one query, where no group was measured."""
        if not self.evaluator.heads and self._pooled:
            inputs, targets = self._joined()
            one = torch.tensor([0])
            self.evaluator.prepare(forward(take(inputs, one)), take(targets, one))

    @property
    def left(self) -> int:
        """Queries that were drawn and are short of a whole group."""
        return self._pooled

    def _joined(self) -> tuple[PyTree, PyTree]:
        if len(self._pool) > 1:
            inputs, targets = (
                pytree.tree_map(lambda *leaves: torch.cat(leaves), *parts)
                for parts in zip(*self._pool, strict=True)
            )
            self._pool = [(inputs, targets)]
        return self._pool[0]

    def _remember(self, base: PyTree, count: int) -> None:
        """Keep the mean prediction: what ``uncoded`` guesses in the *next* groups."""
        mean = pytree.tree_map(lambda leaf: leaf.mean(dim=(0, 1)), base)
        if self._mean is not None:
            before, number = self._mean
            share = count / (number + count)
            mean = pytree.tree_map(lambda a, b: a + share * (b - a), before, mean)
            count += number
        self._mean = (mean, count)
