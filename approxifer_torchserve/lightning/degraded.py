"""A callback that tells, at every validation, what losing workers would cost in accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.corruption import corruption_kinds
from approxifer_torchserve.evaluation import Domain, Evaluator, Task, make_cases
from approxifer_torchserve.evaluation.forwards import check_roles
from approxifer_torchserve.evaluation.grouping import Order
from approxifer_torchserve.evaluation.report import serving_part
from approxifer_torchserve.evaluation.showing import Measured, as_measured, draw_table
from approxifer_torchserve.lightning.collector import Collector, select
from approxifer_torchserve.lightning.figures import log_figure

STATE_VERSION = 1
LOGGED = (
    "healthy", "overall", "lost_only", "worst", "agreement", "agreement_lost", "healthy_agreement",
)  # fmt: skip


class DegradedAccuracy(Callback):
    """Measures codes on the module under validation or test, and logs what they cost.

    Queries are drawn from the batches that Lightning validates, grouped by K, encoded, run through
    the module, robbed of S answers in every way (or a seeded sample of ways), and decoded. Logged
    for each code and S, under ``val_degraded/<code>/s=<S>/`` (``test_degraded/`` in a test):

    * ``healthy``: every answer in;
    * ``overall``: A_o, over all queries;
    * ``lost_only``: A_d, over the queries whose own answer was lost; for fully coded codes that is
      all of them, and the table marks it;
    * ``worst``: A_o of the pattern that costs the most;
    * ``position/<i>``: A_d when coded query i is lost;
    * ``agreement``, ``agreement_lost``: with the module's own decisions, whatever is true;
    * with ``byzantine``: ``hits``, ``false_convictions``, ``clean_false_convictions``.

    ``val_degraded/base`` is the module itself on the same queries. ``uncoded`` is the row without
    a code: a lost answer is replaced by the mean prediction of earlier groups. With several outputs
    each has its own keys, ``.../<output>/overall``, and the plain key is their mean. With several
    data loaders keys end in ``/dataloader_idx_<i>``. Regression logs relative errors.

    In epochs that are skipped nothing is logged, and a ``monitor`` sees the last values.

    Args:
        codes: Names with options, ``approxifer:nodes=authors``, or mappings with ``name``.
        queries: K.
        stragglers: S, one or several; each S makes codes of its own, which share forwards.
        byzantine: E, wrong answers beside the S lost ones.
        prefix: Second half of the keys' first part; give several callbacks different ones.
        every_n_epochs: Measure in every n-th training epoch, beginning with the first.
        max_groups: The most groups for each data loader (and process), or None.
        max_cost: The most queries to run through the module, as a share of those validated; None to
            group all of them. The default keeps the added time below a quarter.
        inputs: What of a batch the module is called with: index, key, attribute or function.
        targets: What of a batch is true, likewise.
        outputs: What of the module's output to decode, likewise; None for all.
        forward: A method of the module to call instead of the module itself.
        weights: Models that answer for codes with weights of their own, by the codes' ``roles``:
            ``{"parity": model}`` for ``parm``. Called like the module; moved to its device.
        task: What outputs are; None to guess: floating point targets are a regression.
        domain: What is decoded.
        order: How queries are grouped and placed.
        max_patterns: The most patterns of losses for each code.
        error_kind: What wrong answers are: ``gaussian``, ``sign_flip``, …, see ``corruption``.
        error_scale: Their size; None for the kind's own.
        ignore_index: Class index that is not scored.
        seed: Of everything that is drawn.
        summary: Print a table at the end.
        figure: Give the loggers a figure at the end.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument is out of range, or a code lacks weights; the message names it.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from lightning.pytorch.callbacks import ModelCheckpoint
        >>> degraded = DegradedAccuracy(["approxifer", "uncoded"], queries=8, stragglers=[1, 2])
        >>> best = ModelCheckpoint(monitor="val_degraded/approxifer/s=1/overall", mode="max")
        >>> trainer = Trainer(callbacks=[degraded, best], accelerator="cpu", logger=False)
    """

    def __init__(
        self,
        codes: Sequence[str | dict[str, Any]] = ("approxifer", "uncoded"),
        queries: int = 8,
        stragglers: int | Sequence[int] = 1,
        byzantine: int = 0,
        prefix: str = "degraded",
        every_n_epochs: int = 1,
        max_groups: int | None = None,
        max_cost: float | None = 0.15,
        inputs: int | Callable[[Any], Any] | str = 0,
        targets: int | Callable[[Any], Any] | str = 1,
        outputs: int | Callable[[Any], Any] | str | None = None,
        forward: str | None = None,
        weights: Mapping[str, nn.Module] | nn.ModuleDict | None = None,
        task: Task | None = None,
        domain: Domain = "logits",
        order: Order = "arrival",
        max_patterns: int = 64,
        error_kind: str = "gaussian",
        error_scale: float | None = None,
        ignore_index: int = -100,
        seed: int = 0,
        summary: bool = True,
        figure: bool = True,
    ) -> None:
        super().__init__()
        for argument, value in (("every_n_epochs", every_n_epochs), ("max_groups", max_groups)):
            if value is not None and value < 1:
                raise ValueError(f"{argument}: expected at least 1, got {value}")
        if max_cost is not None and not max_cost > 0:
            raise ValueError(f"max_cost: expected a share above 0, or None, got {max_cost}")
        if error_kind not in corruption_kinds():
            raise ValueError(
                f"error_kind: expected one of {sorted(corruption_kinds())}, got {error_kind!r}"
            )
        if not prefix or "/" in prefix:
            raise ValueError(f"prefix: expected a name without '/', got {prefix!r}")
        losses = [stragglers] if isinstance(stragglers, int) else list(stragglers)
        self.cases = make_cases(codes, queries, losses, byzantine)
        self.weights = dict(weights or {})
        check_roles([case.code for case in self.cases], self.weights)
        self.queries, self.byzantine, self.prefix = queries, byzantine, prefix
        self.every_n_epochs, self.max_groups, self.max_cost = every_n_epochs, max_groups, max_cost
        self.inputs, self.targets, self.outputs, self.forward = inputs, targets, outputs, forward
        self.order, self.seed = order, seed
        self.summary, self.figure = summary, figure
        self._options: dict[str, Any] = {
            "task": task,
            "max_patterns": max_patterns,
            "seed": seed,
            "domain": domain,
            "error_kind": error_kind,
            "error_scale": error_scale,
            "ignore_index": ignore_index,
        }
        self._evaluators: dict[tuple[str, int], Evaluator] = {}
        self._collectors: dict[int, Collector] | None = None
        self.table: dict[str, Measured] = {}
        """The last result for each stage and data loader, ``val``, ``val/1``, ``test``; plain
        values, as the checkpoint has them."""

    @property
    def state_key(self) -> str:
        """Tells several callbacks apart in a checkpoint."""
        codes = [case.key for case in self.cases]
        return self._generate_state_key(prefix=self.prefix, queries=self.queries, codes=codes)

    def state_dict(self) -> dict[str, Any]:
        """Return the codes, the options and the measured table, as plain values."""
        parts = {name: serving_part(measured) for name, measured in self.table.items()}
        return {
            "version": STATE_VERSION,
            "queries": self.queries,
            "byzantine": self.byzantine,
            "codes": [
                {"code": c.spec.label, "name": c.spec.name, "s": c.lost, "settings": {**c.settings}}
                for c in self.cases
            ],
            "options": {
                **self._options,
                "every_n_epochs": self.every_n_epochs,
                "max_groups": self.max_groups,
                "max_cost": self.max_cost,
                "order": self.order,
                "weights": sorted(self.weights),
            },
            "table": self.table,
            # What approxifer archive --from-checkpoint packs.
            "reports": {name: part for name, part in parts.items() if part},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's table; the options remain this callback's own."""
        self.table = dict(state_dict.get("table", {}))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse two callbacks that would write the same keys."""
        others = [c for c in trainer.callbacks if isinstance(c, DegradedAccuracy)]  # type: ignore[attr-defined]
        if [c.prefix for c in others].count(self.prefix) > 1:
            raise ValueError(
                f"prefix: expected another one for each DegradedAccuracy, got {self.prefix!r} more "
                "than once"
            )
        self._evaluators, self._collectors = {}, None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, unless this is the sanity check or an epoch to skip."""
        self._begin(trainer, "val", trainer.num_val_batches)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin(trainer, "test", trainer.num_test_batches)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw queries from the batch; measure when there are enough."""
        self._take(trainer, pl_module, batch, dataloader_idx)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw queries from the batch; measure when there are enough."""
        self._take(trainer, pl_module, batch, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what is left, add up over processes, log."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what is left, add up over processes, log."""
        self._finish(trainer, pl_module, "test")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last validation."""
        self._show(trainer, "val")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the result of ``Trainer.validate``."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._show(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the result."""
        self._show(trainer, "test")

    def _begin(self, trainer: Trainer, stage: str, loaders: Sequence[float]) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        skip = trainer.sanity_checking or (fitting and trainer.current_epoch % self.every_n_epochs)
        self._collectors = None if skip else {}
        if skip:
            return
        for module in self.weights.values():
            module.to(trainer.strategy.root_device)
        for index in range(len(loaders)):
            key = (stage, index)
            if key not in self._evaluators:
                own = {role: self._answer(trainer, m) for role, m in self.weights.items()}
                self._evaluators[key] = Evaluator(self.cases, weights=own, **self._options)
            assert self._collectors is not None
            self._collectors[index] = Collector(
                self._evaluators[key],
                max_groups=self.max_groups,
                max_cost=self.max_cost,
                order=self.order,
                # Other queries on each process, the same ones in each epoch.
                seed=self.seed + 7919 * trainer.global_rank,
            )

    def _take(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, dataloader_idx: int
    ) -> None:
        if self._collectors is None:
            return
        collector = self._collectors[dataloader_idx]
        inputs = select("inputs", batch, self.inputs)
        leaf = pytree.tree_leaves(inputs)[0]
        if not isinstance(leaf, torch.Tensor):
            raise TypeError(
                f"inputs: expected tensors, got {type(leaf).__name__}; choose the module's inputs "
                "by inputs"
            )
        chosen = collector.want(len(leaf))
        if chosen is None:
            return
        targets = select("targets", batch, self.targets)
        if collector.add(inputs, targets, chosen):
            with self._evaluating(trainer, pl_module) as forward:
                collector.measure(forward)

    @contextmanager
    def _evaluating(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> Iterator[Callable[[PyTree], PyTree]]:
        """Give the module in eval mode; its modes and all random states are put back after."""
        called = pl_module if self.forward is None else getattr(pl_module, self.forward)
        parts = (pl_module, *self.weights.values())
        modes = [(module, module.training) for part in parts for module in part.modules()]
        with isolate_rng(), torch.no_grad():
            torch.manual_seed(self.seed)
            for part in parts:
                part.eval()
            try:
                yield self._answer(trainer, called)
            finally:
                # Not train(mode), which would set all children alike.
                for module, mode in modes:
                    module.training = mode

    def _answer(self, trainer: Trainer, called: Callable[[Any], Any]) -> Callable[[PyTree], PyTree]:
        def forward(inputs: PyTree) -> PyTree:
            with trainer.precision_plugin.forward_context():
                return select("outputs", called(inputs), self.outputs)

        return forward

    def _finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._collectors is None:
            return
        values: dict[str, float] = {}
        for index, collector in self._collectors.items():
            with self._evaluating(trainer, pl_module) as forward:
                collector.measure(forward)
                collector.prepare(forward)
            known = bool(collector.evaluator.heads)
            if not trainer.strategy.reduce_boolean_decision(known, all=True):
                rank_zero_warn(f"DegradedAccuracy: data loader {index} gave some process nothing")
                continue
            counts = torch.tensor(
                [collector.seen, collector.left, collector.evaluator.groups],
                device=trainer.strategy.root_device,
            )
            seen, left, groups = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
            if not groups:
                rank_zero_warn(
                    f"DegradedAccuracy: {left} queries drawn of {seen} are not one group of "
                    f"{self.queries}: raise max_cost, or set it to None"
                )
                continue
            measured = as_measured(collector.evaluator, stage, seen=seen, left=left, groups=groups)
            measured["epoch"] = trainer.current_epoch
            name = stage if len(self._collectors) == 1 else f"{stage}/{index}"
            self.table[name] = measured
            suffix = "" if len(self._collectors) == 1 else f"/dataloader_idx_{index}"
            values |= {f"{key}{suffix}": value for key, value in self._flat(measured)}
        self._collectors = None
        # Equal on all processes by now; sync_dist only tells Lightning so.
        pl_module.log_dict(values, sync_dist=True, add_dataloader_idx=False)

    def _flat(self, measured: Measured) -> Iterator[tuple[str, float]]:
        """Give the keys and values to log; what is not defined is not logged."""
        start = f"{measured['stage']}_{self.prefix}"
        heads = list(measured["heads"])
        yield from _with_mean(f"{start}/", "base", heads, measured["base"])
        for case in measured["cases"]:
            key = f"{start}/{case['code']}/s={case['s']}/"
            for name in LOGGED:
                each = {head: case["scores"][head][name] for head in heads}
                yield from _with_mean(key, name, heads, each)
            for worker in range(case["workers"]):
                each = {head: case["scores"][head]["positions"][worker] for head in heads}
                yield from _with_mean(key, f"position/{worker}", heads, each)
            for name, value in (case["locator"] or {}).items():
                if value is not None:
                    yield f"{key}{name}", value

    def _show(self, trainer: Trainer, stage: str) -> None:
        for name, measured in self.table.items():
            if name.split("/")[0] != stage or not trainer.is_global_zero:
                continue
            if self.summary:
                from rich.console import Console

                Console(highlight=False).print(draw_table(measured))
            if self.figure:
                key = f"{stage}_{self.prefix}{name[len(stage) :]}/accuracy"
                log_figure(trainer.loggers, key, measured, trainer.global_step)


def _with_mean(
    start: str, name: str, heads: Sequence[str], values: Mapping[str, float | None]
) -> Iterator[tuple[str, float]]:
    known = {head: value for head, value in values.items() if value is not None}
    if known:
        yield f"{start}{name}", sum(known.values()) / len(known)
    if len(heads) > 1:
        for head, value in known.items():
            yield f"{start}{head}/{name}", value
