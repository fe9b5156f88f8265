"""What the callback does in one run of a trainer: looks, measures rounds, and gives the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from approxifer_torchserve.evaluation import Evaluator
from approxifer_torchserve.evaluation.grouping import Order
from approxifer_torchserve.evaluation.showing import Measured, as_measured
from approxifer_torchserve.evaluation.specs import Case
from approxifer_torchserve.lightning.batches import Selector, first_batch, max_queries
from approxifer_torchserve.lightning.collector import Collector
from approxifer_torchserve.lightning.keys import (
    check_monitors,
    flatten,
    monitored,
    possible_keys,
    respell,
)
from approxifer_torchserve.lightning.modules import Modules
from approxifer_torchserve.lightning.round import Round, look
from approxifer_torchserve.lightning.skips import Skips

Stage = Literal["val", "test"]

# Each process holds a part of each layer there, and calls of the module are not redirected.
_SHARDED = {"FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy"}


@dataclass(frozen=True)
class Settings:
    """The callback's arguments, as ``DegradedAccuracy`` describes them.

    Attributes:
        cases: A code for each of the values of ``stragglers``.
        weights: Models by role.
        options: The evaluator's.
    """

    cases: tuple[Case, ...]
    queries: int
    prefix: str
    every_n_epochs: int
    max_groups: int | None
    max_cost: float | None
    inputs: Selector
    targets: Selector
    outputs: Selector
    forward: str | None
    weights: dict[str, nn.Module]
    order: Order
    seed: int
    options: dict[str, Any]


class Measurement:
    """The rounds of one run of a trainer.

    Args:
        settings: What to measure.
        skips: What becomes of errors.
        trainer: What runs.
        pl_module: What is measured.

    Attributes:
        table: Results so far, by stage and data loader: ``val``, ``val/1``.

    Raises:
        ValueError: ``forward`` is no method of the module.
    """

    def __init__(
        self, settings: Settings, skips: Skips, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        self.settings, self.skips = settings, skips
        self.modules = Modules(
            trainer, pl_module, settings.weights, settings.forward, settings.outputs, settings.seed
        )
        self.table: dict[str, Measured] = {}
        self._evaluators: dict[tuple[Stage, int], Evaluator] = {}
        self._round: Round | None = None
        self._last_epoch: int | None = None
        # By data loader (None where there is one): queries of a batch, and the module's outputs.
        self._looked: dict[int | None, tuple[int, tuple[str, ...]]] = {}
        self._logged: set[str] = set()

    def respell(self, trainer: Trainer) -> None:
        """Makes the keys log-safe that others monitor, or write in file names."""
        for stage in ("val", "test"):
            respell(trainer, self._start(stage), self.settings.cases)

    def before_training(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what can be known of the validations to come.

        Raises:
            ValueError: Something is monitored that will never be logged.
            Exception: A first batch cannot be measured, and there was no sanity check to say so.
        """
        if not trainer.enable_validation:
            self.skips.skip("none", "there is no validation, so nothing will be measured")
        elif not self._is_split(trainer):
            if not self._looked:
                with isolate_rng():
                    batch = first_batch(trainer, pl_module, self.settings.queries)
                if batch is not None:
                    self.look(batch, None)
            self._check_what_was_seen(trainer)

    def begin(self, trainer: Trainer, stage: Stage, loaders: Sequence[float]) -> None:
        """Begins a round, unless this is the sanity check or an epoch to skip.

        Args:
            trainer: What runs.
            stage: Which round it is.
            loaders: The numbers of batches.
        """
        self._round = None
        if trainer.sanity_checking or self._is_split(trainer):
            return
        if _fitting(trainer):
            epoch, last = trainer.current_epoch, self._last_epoch
            if last is not None and 0 < epoch - last < self.settings.every_n_epochs:
                return
            self._last_epoch = epoch

        def collector(index: int) -> Collector:
            if (stage, index) not in self._evaluators:
                self._evaluators[stage, index] = self._evaluator()
            return Collector(
                self._evaluators[stage, index],
                max_groups=self.settings.max_groups,
                max_cost=self.settings.max_cost,
                order=self.settings.order,
                # Other queries on each process, the same ones in each epoch.
                seed=self.settings.seed + 7919 * trainer.global_rank,
            )

        self._round = Round(
            stage,
            len(loaders),
            collector,
            self.modules,
            self.settings.inputs,
            self.settings.targets,
        )

    def take(self, trainer: Trainer, batch: Any, dataloader_idx: int | None) -> None:
        """Draws queries from a batch, or only looks at it in the sanity check.

        Args:
            trainer: What runs.
            batch: As the step gets it; None is none.
            dataloader_idx: None where Lightning tells no data loaders apart.

        Raises:
            Exception: Whatever the look finds. In a round: if strict, or if nothing was ever
                measured and there is no training to break.
        """
        if batch is None:
            return
        if trainer.sanity_checking:
            if dataloader_idx not in self._looked and not self._is_split(trainer):
                self.look(batch, dataloader_idx)
        elif self._round is not None:
            with self.skips.guard(raises=not _fitting(trainer)):
                self._round.take(batch, dataloader_idx)

    def finish(self, trainer: Trainer, stage: Stage) -> dict[str, float]:
        """Measures what is left, and adds up over processes, all of which must call it.

        Args:
            trainer: What runs.
            stage: Which round it is.

        Returns:
            What to log.

        Raises:
            Exception: As ``take`` does.
        """
        values: dict[str, float] = {}
        current, self._round = self._round, None
        if current is not None:
            for index in range(len(current.collectors) if current.several else 1):
                measured = self._measured(trainer, current, index)
                if measured is not None:
                    suffix = f"/dataloader_idx_{index}" if current.several else ""
                    self.table[f"{stage}/{index}" if current.several else stage] = measured
                    flat = flatten(measured, self.settings.prefix)
                    values |= {f"{key}{suffix}": value for key, value in flat}
        if _fitting(trainer) and not trainer.sanity_checking:
            # A monitor that finds no key at all ends the training; NaN is no improvement.
            for key in monitored(trainer, self._start(stage)):
                if key not in values and key not in self._logged:
                    values[key] = float("nan")
        self._logged |= set(values)
        return values

    def look(self, batch: Any, dataloader_idx: int | None) -> None:
        """Tries the whole measurement on one group of a batch, before training starts.

        Args:
            batch: As the step gets it; of an empty one nothing is learnt.
            dataloader_idx: None where Lightning tells no data loaders apart.

        Raises:
            Exception: Whatever goes wrong; messages name the arguments to change.
        """
        evaluator = self._evaluator()
        count = look(evaluator, batch, self.modules, self.settings.inputs, self.settings.targets)
        if count:
            self._looked[dataloader_idx] = (count, tuple(evaluator.heads))
            self.skips.proved = True

    def _measured(self, trainer: Trainer, current: Round, index: int) -> Measured | None:
        known = False
        collector = current.collectors[index]
        with self.skips.guard(raises=not _fitting(trainer)):
            collector = current.finish(index)
            known = bool(collector.evaluator.heads)
        # From here on all processes do the same.
        if not trainer.strategy.reduce_boolean_decision(known, all=True):
            if not current.failures[index]:
                self.skips.skip(
                    "nothing",
                    f"data loader {index} is left out: some process got no query of it, or failed "
                    "and says so itself",
                )
            return None
        counts = torch.tensor(
            [collector.seen, collector.left, collector.evaluator.groups],
            device=trainer.strategy.root_device,
        )
        seen, left, groups = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
        size = self.settings.queries
        if not groups:
            if collector.seen < size:
                text = (
                    f"{seen} queries are fewer than a group of queries={size}, so nothing is "
                    "measured; lower queries, or validate more"
                )
            else:
                text = (
                    f"{left} queries drawn of {seen} are of {collector.forms} shapes, and no "
                    f"queries={size} of one, so nothing is measured; give them one shape (inputs "
                    "may be a function that pads or crops), raise max_cost, or lower queries"
                )
            if not current.failures[index]:
                self.skips.skip("few", text)
            return None
        measured = as_measured(
            collector.evaluator, current.stage, seen=seen, left=left, groups=groups
        )
        measured["epoch"] = trainer.current_epoch
        measured["few"] = not collector.affords(seen // trainer.world_size)
        if measured["few"]:
            self.skips.say(
                "cost",
                f"max_cost={self.settings.max_cost} of {seen} queries pays for less than one group "
                f"of {size}; one was measured all the same, which is too little for an archive to "
                "go by: raise max_cost, or set it to None",
            )
        self.skips.proved = True
        return measured

    def _check_what_was_seen(self, trainer: Trainer) -> None:
        start = self._start("val")
        insisted = [key for key, strict in monitored(trainer, start).items() if strict]
        batches = trainer.num_val_batches
        for index, (count, _) in self._looked.items():
            most = max_queries(trainer, index, count)
            if most < self.settings.queries:
                text = (
                    f"{most} queries to validate are fewer than a group of queries="
                    f"{self.settings.queries}, so nothing will be measured; lower queries, or "
                    "validate more"
                )
                if insisted and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                    raise ValueError(f"queries: {text}; {insisted} is monitored")
                self.skips.skip("few", text)
        if None not in self._looked and len(self._looked) < len(batches):
            return
        possible: set[str] = set()
        for index, (_, heads) in self._looked.items():
            suffix = "" if index is None else f"/dataloader_idx_{index}"
            keys = possible_keys(start, self.settings.cases, heads)
            possible |= {f"{key}{suffix}" for key in keys}
        if possible:
            check_monitors(insisted, possible)

    def _is_split(self, trainer: Trainer) -> bool:
        kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
        if kinds & _SHARDED:
            self.skips.skip(
                "split",
                f"{type(trainer.strategy).__name__} splits the module, which can then not be "
                "called beside the training: nothing is measured; use ddp, or measure a checkpoint "
                "by approxifer evaluate",
            )
        return bool(kinds & _SHARDED)

    def _evaluator(self) -> Evaluator:
        return Evaluator(self.settings.cases, weights=self.modules.own, **self.settings.options)

    def _start(self, stage: str) -> str:
        return f"{stage}_{self.settings.prefix}/"


def _fitting(trainer: Trainer) -> bool:
    return bool(trainer.state.fn == TrainerFn.FITTING)
