"""One validation or test: its batches in, groups of each data loader measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.evaluation import Evaluator
from approxifer_torchserve.evaluation.grouping import take
from approxifer_torchserve.lightning.batches import Selector, count_queries, select
from approxifer_torchserve.lightning.collector import Collector
from approxifer_torchserve.lightning.modules import Modules

MAX_FAILURES = 3
"""After so many errors a data loader is given up until the next round."""


class Round:
    """The collectors of one run over the data loaders.

    Args:
        stage: ``val`` or ``test``.
        loaders: How many data loaders there are.
        make: Makes the collector of one.
        modules: What is measured.
        inputs: What of a batch the module is called with.
        targets: What of a batch is true.

    Attributes:
        several: Whether data loaders are told apart; Lightning may also join them into one.
        failures: Errors so far, by data loader.
    """

    def __init__(
        self,
        stage: str,
        loaders: int,
        make: Callable[[int], Collector],
        modules: Modules,
        inputs: Selector,
        targets: Selector,
    ) -> None:
        self.stage, self.modules = stage, modules
        self.inputs, self.targets = inputs, targets
        self.several = loaders > 1
        self.collectors = [make(index) for index in range(loaders)]
        self.failures = [0] * loaders

    def take(self, batch: Any, dataloader_idx: int | None) -> None:
        """Draws queries from a batch; measures when there are enough.

        Args:
            batch: As ``validation_step`` gets it.
            dataloader_idx: None where Lightning tells no data loaders apart.

        Raises:
            Exception: Whatever goes wrong; the next batch can be taken all the same.
        """
        if dataloader_idx is None:
            self.several = False
        index = dataloader_idx or 0
        if self.failures[index] >= MAX_FAILURES:
            return
        try:
            self._take(batch, self.collectors[index])
        except Exception:
            self.failures[index] += 1
            raise

    def finish(self, index: int) -> Collector:
        """Measures what is left of a data loader's queries.

        Args:
            index: The data loader.

        Returns:
            Its collector; the evaluator there knows the model's outputs, unless nothing came.

        Raises:
            Exception: Whatever goes wrong.
        """
        collector = self.collectors[index]
        try:
            with self.modules.evaluating():
                collector.measure(self.modules.answer)
                collector.prepare(self.modules.answer)
        except Exception:
            self.failures[index] += 1
            raise
        return collector

    def _take(self, batch: Any, collector: Collector) -> None:
        inputs = select("inputs", batch, self.inputs)
        if inputs is None:
            return
        count = count_queries("inputs", inputs)
        chosen = collector.want(count)
        if chosen is None:
            return
        targets = _targets(batch, self.targets, count)
        if collector.add(inputs, targets, chosen):
            with self.modules.evaluating():
                collector.measure(self.modules.answer)


def look(
    evaluator: Evaluator, batch: Any, modules: Modules, inputs: Selector, targets: Selector
) -> int:
    """Tries the whole measurement on one group of a batch, for errors that the user should see.

    Args:
        evaluator: Takes the group; without synchronisation between processes.
        batch: As ``validation_step`` gets it; short ones are repeated.
        modules: What would be measured.
        inputs: What of a batch the module is called with.
        targets: What of a batch is true.

    Returns:
        How many queries the batch has; 0 where there is nothing to see.

    Raises:
        Exception: Whatever goes wrong.
    """
    queries = select("inputs", batch, inputs)
    count = 0 if queries is None else count_queries("inputs", queries)
    if count:
        truth = _targets(batch, targets, count)
        size = evaluator.forwards.queries
        index = (torch.arange(size) % count)[None]
        with modules.evaluating():
            evaluator.update(modules.answer, take(queries, index), take(truth, index), None, size)
    return count


def _targets(batch: Any, targets: Selector, count: int) -> PyTree:
    chosen = select("targets", batch, targets)
    found = count_queries("targets", chosen)
    if found != count:
        raise ValueError(
            f"targets: expected one for each of {count} inputs, got {found}; choose the right "
            "parts of a batch by inputs and targets"
        )
    return chosen
