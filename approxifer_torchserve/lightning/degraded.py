"""A callback that tells, at every validation, what losing workers would cost in accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from approxifer_torchserve.corruption import corruption_kinds
from approxifer_torchserve.evaluation import Domain, Task, make_cases
from approxifer_torchserve.evaluation.forwards import check_roles
from approxifer_torchserve.evaluation.grouping import Order
from approxifer_torchserve.evaluation.report import serving_part
from approxifer_torchserve.evaluation.showing import Measured, draw_table
from approxifer_torchserve.lightning.figures import log_figure
from approxifer_torchserve.lightning.keys import log_key
from approxifer_torchserve.lightning.measurement import Measurement, Settings, Stage
from approxifer_torchserve.lightning.skips import Skips

STATE_VERSION = 1


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
    * with ``byzantine``: ``hits``, ``false_suspicions``, ``clean_false_suspicions``.

    ``val_degraded/base`` is the module itself on the same queries. ``uncoded`` is the row without
    a code: a lost answer is replaced by the mean prediction of earlier groups. With several outputs
    each has its own keys, ``.../<output>/overall``, and the plain key is their mean. With several
    data loaders keys end in ``/dataloader_idx_<i>``. Regression logs relative errors.

    In keys a code is spelt without a colon, ``approxifer+nodes=authors`` (see ``keys.log_key``);
    other callbacks may monitor it, and write it in file names, in either spelling.

    It does not break a training run. What would fail is tried on a first batch in Lightning's
    sanity check (without one on the dataset's first items), and raised there, before training
    starts. What goes wrong later is left out, with one warning that says what to set. In epochs
    that are skipped nothing is logged, and a ``monitor`` sees the last values, or NaN before there
    are any.

    Args:
        codes: Names with options, ``approxifer:nodes=authors``, or mappings with ``name``.
        queries: K.
        stragglers: S, one or several; each S makes codes of its own, which share forwards.
        byzantine: E, wrong answers beside the S lost ones.
        prefix: Second half of the keys' first part; give several callbacks different ones.
        every_n_epochs: Measure in the first epoch that is validated, and whenever n epochs or more
            have passed since; all validations of one epoch alike.
        max_groups: The most groups for each data loader (and process), or None.
        max_cost: The most queries to run through the module, as a share of those validated; None to
            group all of them. The default keeps the added time below a quarter; one group is
            measured whatever it costs.
        inputs: What of a batch the module is called with: index, key, attribute or function; None
            for the batch itself. A function that returns None leaves a batch out. Batches are taken
            before ``validation_step`` may change them.
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
        strict: Raise what would be left out with a warning.

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
        inputs: int | Callable[[Any], Any] | str | None = 0,
        targets: int | Callable[[Any], Any] | str | None = 1,
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
        strict: bool = False,
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
        if not prefix or prefix != log_key(prefix):
            raise ValueError(
                "prefix: expected a name without '/' or ':', of letters, digits and any of "
                f"._=+-, got {prefix!r}"
            )
        losses = [stragglers] if isinstance(stragglers, int) else list(stragglers)
        self.cases = make_cases(codes, queries, losses, byzantine)
        labels = {case.spec.label for case in self.cases}
        if len({log_key(label) for label in labels}) < len(labels):
            raise ValueError(f"codes: expected different keys, got alike ones of {sorted(labels)}")
        self.settings = Settings(
            cases=self.cases,
            queries=queries,
            prefix=prefix,
            every_n_epochs=every_n_epochs,
            max_groups=max_groups,
            max_cost=max_cost,
            inputs=inputs,
            targets=targets,
            outputs=outputs,
            forward=forward,
            weights=dict(weights or {}),
            order=order,
            seed=seed,
            options={
                "task": task,
                "max_patterns": max_patterns,
                "seed": seed,
                "domain": domain,
                "error_kind": error_kind,
                "error_scale": error_scale,
                "ignore_index": ignore_index,
            },
        )
        check_roles([case.code for case in self.cases], self.settings.weights)
        self.byzantine, self.summary, self.figure = byzantine, summary, figure
        self._skips = Skips(strict)
        self._measurement: Measurement | None = None
        self.table: dict[str, Measured] = {}
        """The last result for each stage and data loader, ``val``, ``val/1``, ``test``; plain
        values, as the checkpoint has them."""

    @property
    def state_key(self) -> str:
        """Tells several callbacks apart in a checkpoint."""
        codes = [case.key for case in self.cases]
        return self._generate_state_key(
            prefix=self.settings.prefix, queries=self.settings.queries, codes=codes
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the codes, the options and the measured table, as plain values."""
        settings = self.settings
        parts = {
            name: serving_part(measured)
            for name, measured in self.table.items()
            if not measured.get("few")
        }
        return {
            "version": STATE_VERSION,
            "queries": settings.queries,
            "byzantine": self.byzantine,
            "codes": [
                {"code": c.spec.label, "name": c.spec.name, "s": c.lost, "settings": {**c.settings}}
                for c in self.cases
            ],
            "options": {
                **settings.options,
                "every_n_epochs": settings.every_n_epochs,
                "max_groups": settings.max_groups,
                "max_cost": settings.max_cost,
                "order": settings.order,
                "weights": sorted(settings.weights),
            },
            "table": self.table,
            # What approxifer archive --from-checkpoint packs.
            "reports": {name: part for name, part in parts.items() if part},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up a checkpoint's table; the options remain this callback's own."""
        self.table = dict(state_dict.get("table", {}))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses two callbacks that would write the same keys, and a ``forward`` that is none."""
        others = [c for c in trainer.callbacks if isinstance(c, DegradedAccuracy)]  # type: ignore[attr-defined]
        prefix = self.settings.prefix
        if [c.settings.prefix for c in others].count(prefix) > 1:
            raise ValueError(
                f"prefix: expected another one for each DegradedAccuracy, got {prefix!r} more "
                "than once"
            )
        self._skips.restart()
        self._measurement = Measurement(self.settings, self._skips, trainer, pl_module)
        self._measurement.respell(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the module."""
        self._measurement = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the keys log-safe that learning rate schedulers monitor; there are some by now."""
        if self._measurement is not None:
            self._measurement.respell(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what can be known of the validations to come.

        Raises:
            ValueError: Something is monitored that will never be logged.
            Exception: A first batch cannot be measured, and there was no sanity check to say so.
        """
        if self._measurement is not None:
            self._measurement.before_training(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins, unless this is the sanity check or an epoch to skip."""
        if self._measurement is not None:
            self._measurement.begin(trainer, "val", trainer.num_val_batches)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins."""
        if self._measurement is not None:
            self._measurement.begin(trainer, "test", trainer.num_test_batches)

    # Batches are taken before the step, which may pop the labels to call model(**batch).

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int | None = None,
    ) -> None:
        """Draws queries from the batch; measures when there are enough."""
        self._take(trainer, batch, dataloader_idx)

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int | None = None,
    ) -> None:
        """Draws queries from the batch; measures when there are enough."""
        self._take(trainer, batch, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures what is left, adds up over processes, logs."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures what is left, adds up over processes, logs."""
        self._finish(trainer, pl_module, "test")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the last validation."""
        self._show(trainer, "val")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the result of ``Trainer.validate``."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._show(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the result."""
        self._show(trainer, "test")

    def _take(self, trainer: Trainer, batch: Any, dataloader_idx: int | None) -> None:
        if self._measurement is not None:
            self._measurement.take(trainer, batch, dataloader_idx)

    def _finish(self, trainer: Trainer, pl_module: LightningModule, stage: Stage) -> None:
        if self._measurement is not None:
            values = self._measurement.finish(trainer, stage)
            self.table |= self._measurement.table
            # Equal on all processes by now; sync_dist only tells Lightning so.
            pl_module.log_dict(values, sync_dist=True, add_dataloader_idx=False)

    def _show(self, trainer: Trainer, stage: Stage) -> None:
        with self._skips.guard():
            for name, measured in self.table.items():
                if name.split("/")[0] != stage or not trainer.is_global_zero:
                    continue
                if self.summary:
                    from rich.console import Console

                    Console(highlight=False).print(draw_table(measured))
                if self.figure:
                    key = f"{stage}_{self.settings.prefix}{name[len(stage) :]}/accuracy"
                    log_figure(trainer.loggers, key, measured, trainer.global_step)
