"""Collects queries of a validation run, within a budget, and measures groups of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.evaluation import Evaluator, group_alike, order_by_similarity
from approxifer_torchserve.evaluation.forwards import Forward
from approxifer_torchserve.evaluation.grouping import Order, take

# Few forwards of many queries cost less than many of few; this is small enough to keep at hand.
_MIN_CHUNK = 256
# Queries that wait for others of their shape stay in the device's memory.
_MAX_FORMS = 64

Form = tuple[Any, ...]
"""What queries of one group have in common: structure, shapes, dtypes."""


@dataclass
class _Pool:
    """Queries of one form that wait to be measured."""

    parts: list[tuple[PyTree, PyTree]] = field(default_factory=list)
    count: int = 0

    def add(self, inputs: PyTree, targets: PyTree, count: int) -> None:
        self.parts.append((inputs, targets))
        self.count += count

    def joined(self) -> tuple[PyTree, PyTree]:
        if len(self.parts) == 1:
            return self.parts[0]
        inputs, targets = (
            pytree.tree_map(lambda *leaves: torch.cat(leaves), *parts)
            for parts in zip(*self.parts, strict=True)
        )
        return inputs, targets


class Collector:
    """One data loader's run: a sample of its queries, in groups, measured as they come.

    Queries are drawn at random from each batch, and groups at random from what was drawn: data
    sorted by class would otherwise make groups of one class, which any code serves well. Where
    batches differ in shape (padded to the longest of their own), a group's queries are of one
    shape, and whole groups are drawn from a batch.

    Args:
        evaluator: What measures; it is reset.
        max_groups: The most groups, or None.
        max_cost: The most queries to run through the model, as a share of the queries seen, or
            None to take all. One group is drawn whatever it costs.
        order: How the queries of a group are placed.
        seed: Of the draws.

    Attributes:
        seen: Queries that came.
        taken: Queries that were drawn.
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
        self._known: set[Form] = set()
        self._pools: dict[Form, _Pool] = {}
        # What the model answers to queries of a form, and the mean of its answers of such shapes.
        self._answers: dict[Form, Form] = {}
        self._means: dict[Form, tuple[PyTree, int]] = {}

    @property
    def forms(self) -> int:
        """How many different forms the drawn queries had."""
        return len(self._known)

    @property
    def left(self) -> int:
        """Queries that were drawn and not measured, being short of a whole group."""
        return self.taken - self.evaluator.groups * self.size

    def affords(self, seen: int) -> bool:
        """Tells whether ``max_cost`` pays for a group, of so many queries seen."""
        return self.share is None or int(self.share * seen) >= min(self.size, seen)

    def want(self, count: int) -> Tensor | None:
        """Chooses queries from the next batch.

        Args:
            count: How many queries it has.

        Returns:
            int64, ascending; None for none.
        """
        self.seen += count
        self.batch_size = max(self.batch_size, count)
        due = self.seen
        if self.share is not None:
            due = max(int(self.share * self.seen), min(self.size, self.seen))
        if self.max_queries is not None:
            due = min(due, self.max_queries)
        due = min(due - self.taken, count)
        if self.forms > 1 and due < count >= self.size:
            due -= due % self.size
        if due <= 0:
            return None
        self.taken += due
        return torch.randperm(count, generator=self._draw)[:due].sort().values

    def add(self, inputs: PyTree, targets: PyTree, chosen: Tensor) -> bool:
        """Keeps the chosen queries.

        Args:
            inputs: Leaves ``[B, *q]``.
            targets: Leaves ``[B, *t]``.
            chosen: From ``want``.

        Returns:
            Whether there is enough to measure now.
        """
        form = _form((inputs, targets), lead=1)
        self._known.add(form)
        if form not in self._pools and len(self._pools) >= _MAX_FORMS:
            del self._pools[next(iter(self._pools))]
        pool = self._pools.setdefault(form, _Pool())
        pool.add(take(inputs, chosen), take(targets, chosen), len(chosen))
        forwards = self.evaluator.forwards.forwards_per_group
        groups = max(1, max(self.batch_size, _MIN_CHUNK) // forwards)
        return sum(pool.count // self.size for pool in self._pools.values()) >= groups

    def measure(self, forward: Forward) -> None:
        """Measures all whole groups of what was kept; the rest waits for more.

        Args:
            forward: The model. If it raises an error, the queries of that form are dropped.
        """
        for form, pool in list(self._pools.items()):
            groups = pool.count // self.size
            if groups:
                del self._pools[form]
                self._measure(forward, form, pool, groups)

    def prepare(self, forward: Forward) -> None:
        """Learns what the model returns from one query, where no group was measured."""
        if not self.evaluator.heads and self._pools:
            inputs, targets = next(iter(self._pools.values())).joined()
            one = torch.tensor([0])
            self.evaluator.prepare(forward(take(inputs, one)), take(targets, one))

    def _measure(self, forward: Forward, form: Form, pool: _Pool, groups: int) -> None:
        inputs, targets = pool.joined()
        shuffled = torch.randperm(pool.count, generator=self._draw)
        chosen, rest = shuffled[: groups * self.size], shuffled[groups * self.size :]
        if self.order == "grouped":
            index = chosen[group_alike(take(inputs, chosen), self.size)]
        else:
            index = chosen.reshape(groups, self.size)
        if self.order != "arrival":
            index = index.gather(1, order_by_similarity(take(inputs, index)))
        if form not in self._answers and self._means:
            # Other inputs may have other outputs, to which a known mean does not fit.
            self._answers[form] = _shapes(forward(take(inputs, torch.tensor([0]))), lead=1)
        guess, _ = self._means.get(self._answers.get(form, ()), (None, 0))
        base = self.evaluator.update(
            forward, take(inputs, index), take(targets, index), guess, max(self.batch_size, 1)
        )
        self._answers[form] = _shapes(base, lead=2)
        self._remember(self._answers[form], base, groups * self.size)
        if len(rest):
            self._pools[form] = _Pool([(take(inputs, rest), take(targets, rest))], len(rest))

    def _remember(self, answers: Form, base: PyTree, count: int) -> None:
        """Keeps the mean prediction: what ``uncoded`` guesses in the *next* groups."""
        mean = pytree.tree_map(lambda leaf: leaf.mean(dim=(0, 1)), base)
        if answers in self._means:
            before, number = self._means[answers]
            share = count / (number + count)
            mean = pytree.tree_map(lambda a, b: a + share * (b - a), before, mean)
            count += number
        self._means[answers] = (mean, count)


def _form(tree: PyTree, lead: int) -> Form:
    leaves, spec = pytree.tree_flatten(tree)
    return (str(spec), *((tuple(leaf.shape[lead:]), leaf.dtype) for leaf in leaves))


def _shapes(tree: PyTree, lead: int) -> Form:
    return tuple(tuple(leaf.shape[lead:]) for leaf in pytree.tree_leaves(tree))
