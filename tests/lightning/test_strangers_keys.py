"""What strangers hang on the callback's keys: schedulers, early stopping, file names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning_models import Classifier, loader, points, trainer
from strangers import KEY, QUIET, SANE, Counting, Plateau, grouped, silently
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.lightning import DegradedAccuracy

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*litlogger", "ignore:.*isinstance.treespec"
)


@pytest.mark.parametrize("model", [Classifier, Plateau])
@pytest.mark.parametrize("sanity", [0, 2])
def test_a_small_validation_set_is_one_group_at_least(
    model: type[Classifier], sanity: int, tmp_path: Path
):
    degraded = DegradedAccuracy(**QUIET)
    stop = EarlyStopping(KEY, mode="max")
    best = ModelCheckpoint(tmp_path, monitor=KEY, mode="max")
    run = trainer(
        degraded, stop, best,
        max_epochs=2, enable_checkpointing=True, num_sanity_val_steps=sanity,
    )  # fmt: skip
    said = silently(lambda: run.fit(model(), loader(64), loader(16, seed=1)))
    assert len(said) == 1
    assert "max_cost=0.15 of 16 queries pays for less than one group of 8" in said[0]
    assert run.current_epoch == 2
    assert degraded.table["val"]["groups"] == 1
    # One group is no basis for serving.
    saved = torch.load(best.best_model_path, weights_only=True)["callbacks"]
    assert saved[degraded.state_key]["table"]["val"]["groups"] == 1
    assert saved[degraded.state_key]["reports"] == {}


def test_a_first_batch_says_nothing_of_the_others():
    """Batches of a number of tokens: the first has two sequences."""
    inputs = DataLoader(TensorDataset(*points(32, 1)), batch_sampler=[[0, 1], [*range(2, 32)]])
    degraded = DegradedAccuracy(**{**QUIET, "max_cost": None})
    run = trainer(degraded, EarlyStopping(KEY, mode="max"), **SANE)
    assert silently(lambda: run.fit(Classifier(), loader(64), inputs)) == []
    assert degraded.table["val"]["groups"] == 4


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize("batch", [2, 5, 64])
def test_fewer_queries_than_a_group_are_told_before_training(sanity: int, batch: int):
    model, stop = Counting(), EarlyStopping(KEY, mode="max")
    run = trainer(DegradedAccuracy(**QUIET), stop, num_sanity_val_steps=sanity)
    with pytest.raises(ValueError, match=r"queries: 5 queries to validate are fewer .* monitored"):
        run.fit(model, loader(64), loader(5, batch=batch))
    assert model.steps == 0
    # Nobody needs the figures: one warning, in two epochs.
    run = trainer(DegradedAccuracy(**QUIET), num_sanity_val_steps=sanity, max_epochs=2)
    said = silently(lambda: run.fit(model, loader(64), loader(5, batch=batch)))
    assert len(said) == 1
    assert "lower queries, or validate more" in said[0]


@pytest.mark.parametrize("spelling", ["approxifer:nodes=authors", "approxifer+nodes=authors"])
@pytest.mark.parametrize("insert", [True, False])
def test_keys_survive_in_file_names(spelling: str, insert: bool, tmp_path: Path):
    class Spelt(Plateau):
        monitor = f"val_degraded/{spelling}/s=1/overall"

    best = ModelCheckpoint(
        tmp_path, monitor=Spelt.monitor, mode="max",
        filename="{epoch}-{" + Spelt.monitor + ":.3f}", auto_insert_metric_name=insert,
    )  # fmt: skip
    stop = EarlyStopping(Spelt.monitor, mode="max")
    logger = CSVLogger(tmp_path / "log")
    degraded = grouped(codes=["approxifer:nodes=authors"])
    run = trainer(degraded, best, stop, enable_checkpointing=True, logger=logger, **SANE)
    run.fit(Spelt())
    key = "val_degraded/approxifer+nodes=authors/s=1/overall"
    assert best.best_model_score == run.callback_metrics[key]
    assert Path(best.best_model_path).is_file()
    value = f"{best.best_model_score:.3f}.ckpt"
    assert best.best_model_path.endswith(f"overall={value}" if insert else f"0-{value}")
    assert not [k for k in run.callback_metrics if ":" in k]
    assert key in (Path(logger.log_dir) / "metrics.csv").read_text()


def test_codes_and_prefixes_make_safe_keys_of_their_own():
    from approxifer_torchserve.lightning.keys import log_key

    assert log_key("spline:path=/a b/{c}:x=1e-05") == "spline+path=_a_b_c_+x=1e-05"
    assert log_key("a']['b") == "a_b"
    with pytest.raises(ValueError, match="prefix: expected a name without '/' or ':'"):
        DegradedAccuracy(prefix="a:b")


@pytest.mark.parametrize("sanity", [0, 2])
def test_a_monitor_that_would_never_see_a_value_is_told_before_training(sanity: int):
    model = Counting()
    wrong = "val_degraded/approxifer/s=2/overall"
    run = trainer(grouped(), EarlyStopping(wrong, mode="max"), num_sanity_val_steps=sanity)
    with pytest.raises(ValueError, match=r"s=2/overall': expected .* such as .*s=1/overall"):
        run.fit(model)
    assert model.steps == 0
    lenient = EarlyStopping(wrong, mode="max", strict=False)
    trainer(grouped(), lenient, num_sanity_val_steps=sanity).fit(model)
    assert model.steps > 0


def test_keys_of_several_data_loaders_are_checked_with_their_suffix():
    both = [loader(32, seed=1), loader(32, seed=2)]
    run = trainer(grouped(), EarlyStopping(KEY, mode="max"), **SANE)
    with pytest.raises(ValueError, match="overall/dataloader_idx_0"):
        run.fit(Classifier(), loader(32), both)
    stop = EarlyStopping(f"{KEY}/dataloader_idx_1", mode="max")
    run = trainer(grouped(), stop, max_epochs=2, **SANE)
    run.fit(Classifier(), loader(32), both)
    assert stop.best_score > 0
