"""When strangers' training runs are measured, and when there is nothing to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning_models import Classifier, loader, points, trainer
from strangers import KEY, QUIET, SANE, Plateau, grouped, silently
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.lightning import DegradedAccuracy

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*litlogger", "ignore:.*isinstance.treespec"
)


@pytest.mark.parametrize(
    ("every", "check", "measured"),
    [(1, 2, 6), (2, 1, 6), (2, 2, 6), (3, 2, 3), (2, 5, 2), (4, 3, 2)],
)
def test_every_n_epochs_counts_from_the_last_one_that_was_measured(
    every: int, check: int, measured: int, tmp_path: Path
):
    degraded = grouped(every_n_epochs=every)
    model = Classifier()
    best = ModelCheckpoint(tmp_path, monitor=KEY, mode="max")
    run = trainer(
        degraded, best,
        max_epochs=12, check_val_every_n_epoch=check, enable_checkpointing=True,
    )  # fmt: skip
    run.fit(model, loader(16), loader(16, seed=1))
    # Four groups of four, each with a parity; the look before training is one group.
    looked = 5 if check == 1 else 0
    assert sum(model.calls) == looked + measured * 4 * 5


def test_all_validations_of_an_epoch_are_alike():
    seen = []

    class Spy(Classifier):
        def on_validation_end(self) -> None:
            seen.append(degraded.table["val"]["epoch"])

    degraded = grouped(every_n_epochs=2)
    run = trainer(degraded, max_epochs=3, val_check_interval=0.5)
    model = Spy()
    run.fit(model, loader(64), loader(16, seed=1))
    assert seen == [0, 0, 0, 0, 2, 2]
    assert sum(model.calls) == 5 + 4 * 4 * 5


def test_a_resumed_run_measures_at_once(tmp_path: Path):
    path = tmp_path / "one.ckpt"
    first = trainer(grouped(every_n_epochs=4))
    first.fit(Classifier())
    first.save_checkpoint(path)
    degraded = grouped(every_n_epochs=4)
    stop = EarlyStopping(KEY, mode="max", patience=9)
    again = trainer(degraded, stop, max_epochs=3, **SANE)
    again.fit(Plateau(), ckpt_path=path)
    assert again.current_epoch == 3
    assert degraded.table["val"]["epoch"] == 1


def test_a_debugging_run_is_as_short_as_it_was():
    model, degraded = Plateau(), DegradedAccuracy(queries=8, **QUIET)
    run = trainer(degraded, fast_dev_run=True)
    said = silently(lambda: run.fit(model, loader(64), loader(16, seed=1, batch=4)))
    assert len(said) == 1
    assert "4 queries to validate are fewer than a group of queries=8" in said[0]


# Where there is nothing to measure


def test_without_validation_it_says_so():
    run = trainer(grouped(), limit_val_batches=0)
    assert ["there is no validation" in text for text in silently(lambda: run.fit(Classifier()))] \
        == [True]  # fmt: skip


def test_a_split_module_is_not_called():
    class FSDPStrategy(SingleDeviceStrategy):
        pass

    model = Plateau()
    run = trainer(grouped(), strategy=FSDPStrategy("cpu"), **SANE)
    said = silently(lambda: run.fit(model))
    assert len(said) == 1
    assert "FSDPStrategy splits the module" in said[0]
    assert model.calls == []


def test_prediction_is_left_alone():
    model, degraded = Classifier(), grouped()
    data = DataLoader(points(16)[0], batch_size=8)
    assert len(trainer(degraded).predict(model, data)) == 2
    assert sum(model.calls) == 16
    assert degraded.table == {}


def test_the_look_before_training_touches_neither_randomness_nor_the_loader():
    class Items(TensorDataset):
        asked: list[int]

        def __getitem__(self, index: int) -> Any:
            self.asked.append(index)
            return super().__getitem__(index)

    def weights(*callbacks: L.Callback) -> torch.Tensor:
        L.seed_everything(4, verbose=False)
        run = trainer(*callbacks)
        model = Classifier()
        shuffled = DataLoader(TensorDataset(*points(64)), batch_size=8, shuffle=True)
        data = Items(*points(32, 1))
        data.asked = []
        run.fit(model, shuffled, DataLoader(data, batch_size=16))
        assert len(data.asked) == 32 + (4 if callbacks else 0)
        return torch.nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(weights(), weights(grouped()))
