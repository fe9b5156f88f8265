"""What goes wrong in a later epoch of strangers' runs ends in one warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning_models import Classifier, loader, points, trainer
from strangers import KEY, SANE, Counting, Plateau, Stream, grouped, silently
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*litlogger", "ignore:.*isinstance.treespec"
)


class Breaks(Plateau):
    """Its forward fails from the second epoch on, in batches that are not the loader's."""

    steps, since = 0, 1

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.steps += 1
        return super().training_step(batch, batch_idx)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.current_epoch >= self.since and not self.trainer.sanity_checking:
            raise KeyError("no such neighbour")
        return self.net(inputs)


def test_an_error_in_a_later_epoch_is_one_warning(tmp_path: Path):
    degraded = grouped()
    stop = EarlyStopping(KEY, mode="max", patience=9)
    best = ModelCheckpoint(tmp_path, monitor=KEY, mode="max", save_top_k=-1)
    run = trainer(degraded, stop, best, max_epochs=4, enable_checkpointing=True, **SANE)
    said = silently(lambda: run.fit(Breaks()))
    assert len(said) == 1
    assert "ModuleFailedError" in said[0]
    assert "no such neighbour" in said[0]
    assert run.current_epoch == 4
    assert degraded.table["val"]["epoch"] == 0
    with pytest.raises(RuntimeError, match="no such neighbour"):
        trainer(grouped(strict=True), max_epochs=4, **SANE).fit(Breaks())


def test_an_error_in_the_first_epoch_leaves_monitors_nan():
    class Broken(Breaks):
        since = 0

    model = Broken()
    run = trainer(grouped(), EarlyStopping(KEY, mode="max", check_finite=False), max_epochs=2,
                  **SANE)  # fmt: skip
    said = silently(lambda: run.fit(model))
    assert len(said) == 1
    assert run.current_epoch == 2
    assert run.callback_metrics[KEY].isnan()


def test_a_wrong_argument_that_nobody_could_see_before_is_a_warning():
    model = Counting()
    run = trainer(grouped(inputs="image"), EarlyStopping(KEY, mode="max"), max_epochs=2)
    said = silently(lambda: run.fit(model, loader(32), DataLoader(Stream(), batch_size=8)))
    assert len(said) == 1
    assert "inputs='image': there is no such part" in said[0]
    assert model.steps > 0


def test_some_bad_batches_cost_only_themselves():
    def targets(batch: Any) -> Any:
        if batch[1][0] == 0:
            raise IndexError("a bad label")
        return batch[1]

    inputs, classes = points(64, 1)
    classes[::4] = 1
    classes[8] = 0
    data = DataLoader(TensorDataset(inputs, classes), batch_size=4)
    degraded = grouped(targets=targets)
    said = silently(lambda: trainer(degraded, **SANE).fit(Classifier(), loader(32), data))
    assert len(said) == 1
    assert degraded.table["val"]["groups"] == 15


def test_a_test_without_labels_after_training_is_a_warning():
    degraded = grouped()
    run = trainer(degraded, **SANE)
    model = Classifier()
    run.fit(model)
    unlabelled = DataLoader(TensorDataset(points(16)[0]), batch_size=8)
    said = silently(lambda: run.test(model, unlabelled, verbose=False))
    assert len(said) == 1
    assert "targets=1: there is no such part" in said[0]
    assert "test" not in degraded.table
    with pytest.raises(ValueError, match="targets=1: there is no such part"):
        trainer(grouped()).test(Classifier(), unlabelled, verbose=False)


def test_a_figure_that_a_logger_does_not_take_is_a_warning(tmp_path: Path):
    class Refuses(CSVLogger):
        def log_image(self, **values: Any) -> None:
            raise ConnectionError("offline")

    degraded = grouped(figure=True)
    run = trainer(degraded, logger=Refuses(tmp_path), **SANE)
    said = silently(lambda: run.fit(Classifier()))
    assert len(said) == 1
    assert "offline" in said[0]
