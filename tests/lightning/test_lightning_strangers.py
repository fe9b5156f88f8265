"""Training runs as others write them: measured, told before training, or left out with a warning.

Modelled on public bug reports about callbacks; none may break a training run.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import CombinedLoader
from lightning_models import CLASSES, FEATURES, Classifier, loader, points, trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from approxifer_torchserve.lightning import DegradedAccuracy

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*litlogger", "ignore:.*isinstance.treespec"
)
QUIET = {"summary": False, "figure": False}
KEY = "val_degraded/approxifer/s=1/overall"
SANE = {"num_sanity_val_steps": 2}


class Counting(Classifier):
    """Counts the training steps."""

    steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.steps += 1
        return super().training_step(batch, batch_idx)


class Plateau(Classifier):
    """Its learning rate hangs on a key of the callback."""

    monitor = KEY

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": self.monitor},
        }


class Stream(IterableDataset[Any]):
    """Without a length, and with nothing to index."""

    def __init__(self, count: int = 32) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        return zip(*points(self.count, 1), strict=True)


def grouped(**options: Any) -> DegradedAccuracy:
    return DegradedAccuracy(**{"queries": 4, "max_cost": None, **QUIET, **options})


def ours(caught: list[warnings.WarningMessage]) -> list[str]:
    texts = [str(one.message) for one in caught]
    return [text for text in texts if text.startswith("DegradedAccuracy: ")]


def silently(run: Callable[[], Any]) -> list[str]:
    """Runs it; gives the callback's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return ours(caught)


# When it measures


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


# What batches are


class Lengths(Classifier):
    """Takes sequences ``[B, T, 6]`` of any length."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(inputs))
        return self.net(inputs.mean(dim=1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])


def padded(count: int, seed: int, batch: int, kinds: int = 20) -> DataLoader[Any]:
    """Sequences that are padded to the longest of their batch."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 3 + kinds, (count,), generator=draw).tolist()
    rows = [(torch.randn(n, FEATURES, generator=draw), n % CLASSES) for n in lengths]

    def collate(chosen: list[Any]) -> Any:
        most = max(len(x) for x, _ in chosen)
        inputs = [F.pad(x, (0, 0, 0, most - len(x))) for x, _ in chosen]
        return torch.stack(inputs), torch.tensor([y for _, y in chosen])

    return DataLoader(rows, batch_size=batch, collate_fn=collate)  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", [None, 0.15])
@pytest.mark.parametrize("order", ["arrival", "similarity", "grouped"])
def test_batches_of_different_lengths_make_groups_of_one_length(cost: float | None, order: str):
    model, degraded = Lengths(), grouped(max_cost=cost, order=order)
    said = silently(lambda: trainer(degraded, **SANE).fit(model, padded(32, 0, 16),
                                                         padded(400, 1, 16)))  # fmt: skip
    assert said == []
    measured = degraded.table["val"]
    assert measured["groups"] >= (90 if cost is None else 10)
    assert measured["seen"] == 400


def test_without_a_group_of_one_length_it_says_what_to_set():
    model, degraded = Lengths(), grouped()
    # Single images of different sizes, as segmentation validates.
    sizes = [(torch.randn(1, n, FEATURES), torch.tensor([0])) for n in range(1, 9)]
    data = DataLoader(sizes, batch_size=None)  # type: ignore[arg-type]
    run = trainer(degraded, max_epochs=2, **SANE)
    said = silently(lambda: run.fit(model, padded(32, 0, 16), data))
    assert len(said) == 1
    assert "of 8 shapes, and no queries=4 of one" in said[0]
    assert run.current_epoch == 2


def test_outputs_of_different_shapes_are_not_guessed_from_each_other():
    class Dense(Classifier):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.net(inputs).transpose(1, 2)

    rows = []
    for n in (3, 4, 5, 3, 4, 5):
        inputs = torch.randn(8, n, FEATURES)
        rows.append((inputs, torch.zeros(8, n, dtype=torch.int64)))
    degraded = grouped(max_cost=None)
    trainer(degraded).validate(
        Dense(), DataLoader(rows, batch_size=None), verbose=False  # type: ignore[arg-type]
    )  # fmt: skip
    assert degraded.table["val"]["groups"] == 12


@pytest.mark.parametrize("sanity", [0, 2])
def test_a_batch_that_is_one_tensor_is_told_before_training(sanity: int):
    class Steps(BoringModel):
        steps = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.steps += 1
            return super().training_step(batch, batch_idx)

    class Auto(Steps):
        """The batch itself is input and target."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(32, 32)

    model = Steps()
    with pytest.raises(ValueError, match=r"inputs=0: expected parts .* set inputs to None"):
        trainer(grouped(), num_sanity_val_steps=sanity).fit(model)
    assert model.steps == 0
    degraded = grouped(inputs=None, targets=None)
    trainer(degraded, num_sanity_val_steps=sanity).fit(Auto())
    assert degraded.table["val"]["heads"] == {"output": "regression"}


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": "image"}, "inputs='image': there is no such part"),
        ({"targets": 2}, "targets=2: there is no such part"),
        ({"targets": lambda batch: batch[1][:3]}, "targets: expected one for each of"),
        ({"targets": lambda batch: batch[1].tolist()}, "targets: expected tensors, got int"),
        ({"outputs": "logits"}, "outputs='logits': expected parts"),
        ({"inputs": lambda batch: batch[0][:, :2]}, "the module failed on inputs of shapes"),
        ({"inputs": lambda batch: batch[0].long()}, "must be floating point"),
        ({"task": "regression"}, "task regression: expected targets of the predictions' shape"),
    ],
)
def test_wrong_arguments_are_told_before_training(options: dict, words: str, sanity: int):
    model = Counting()
    with pytest.raises((ValueError, TypeError, RuntimeError), match=words):
        trainer(grouped(**options), num_sanity_val_steps=sanity).fit(model)
    assert model.steps == 0


def test_a_method_that_is_not_there_is_told_by_name():
    with pytest.raises(ValueError, match="forward: expected a method of Classifier, got 'logits'"):
        trainer(grouped(forward="logits")).fit(Classifier())


def test_labels_may_be_popped_by_the_step():
    class Pops(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return F.cross_entropy(self.net(batch["x"]), batch.pop("labels"))

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            labels = batch.pop("labels")
            self.log("val_loss", F.cross_entropy(self.net(batch["x"]), labels))

    def mapping(seed: int) -> DataLoader[Any]:
        rows = [{"x": x, "labels": y} for x, y in zip(*points(32, seed), strict=True)]
        return DataLoader(rows, batch_size=8)  # type: ignore[arg-type]

    degraded = grouped(inputs="x", targets="labels")
    trainer(degraded, **SANE).fit(Pops(), mapping(0), mapping(1))
    assert degraded.table["val"]["groups"] == 8


def test_batches_may_be_none_or_empty():
    def collate(rows: list[Any]) -> Any:
        """Drops what is broken; of the second batch nothing is left, the last is none."""
        good = [(x, y) for x, y in rows if x[0] < 1e6]
        if len(rows) == 3:
            return None
        inputs = torch.stack([x for x, _ in good]) if good else torch.zeros(0, FEATURES)
        return inputs, torch.tensor([int(y) for _, y in good], dtype=torch.int64)

    inputs, targets = points(19, 1)
    inputs[:4] = inputs[8:12] = 1e9
    data = DataLoader(TensorDataset(inputs, targets), batch_size=4, collate_fn=collate)
    degraded = grouped()
    said = silently(lambda: trainer(degraded, **SANE).fit(Classifier(), loader(32), data))
    assert said == []
    assert degraded.table["val"]["groups"] == 2


@pytest.mark.parametrize("sanity", [0, 2])
def test_a_stream_is_measured(sanity: int):
    degraded = DegradedAccuracy(queries=4, **QUIET)
    run = trainer(degraded, EarlyStopping(KEY, mode="max"), num_sanity_val_steps=sanity)
    run.fit(Classifier(), loader(32), DataLoader(Stream(400), batch_size=16))
    assert degraded.table["val"]["groups"] > 5


def test_batches_of_another_kind_may_be_left_out():
    """A second data loader without labels, which only the user's own step knows."""
    unlabelled = DataLoader(TensorDataset(points(16)[0]), batch_size=8)
    degraded = grouped(inputs=lambda batch: batch[0] if len(batch) == 2 else None)
    stop = EarlyStopping(f"{KEY}/dataloader_idx_0", mode="max")
    run = trainer(degraded, stop, max_epochs=2, **SANE)
    said = silently(lambda: run.fit(Classifier(), loader(32), [loader(32, seed=1), unlabelled]))
    assert run.current_epoch == 2
    assert set(degraded.table) == {"val/0"}
    assert ["data loader 1 is left out" in text for text in said] == [True]


def test_data_loaders_that_are_joined_are_one():
    class Pairs(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            assert set(batch) == {"a", "b"}

    both = CombinedLoader({"a": loader(32), "b": loader(16, seed=2)}, "max_size_cycle")
    degraded = grouped(inputs=lambda batch: batch["a"][0], targets=lambda batch: batch["b"][1])
    trainer(degraded, EarlyStopping(KEY, mode="max"), **SANE).fit(Pairs(), loader(32), both)
    assert degraded.table["val"]["groups"] == 8


# What modules do


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("sanity", [0, 2])
def test_a_forward_that_needs_gradients_gets_them(inference_mode: bool, sanity: int):
    class Forces(Classifier):
        """Derives its prediction, as models of molecules do."""

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            inputs = inputs.requires_grad_(True)
            energy = self.net(inputs).square().sum()
            return torch.autograd.grad(energy, inputs)[0]

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return F.mse_loss(self.net(batch[0])[:, 0], batch[1].float())

    inputs, _ = points(32)
    data = DataLoader(TensorDataset(inputs, inputs.clone()), batch_size=8)
    degraded = grouped()
    run = trainer(degraded, inference_mode=inference_mode, num_sanity_val_steps=sanity)
    model = Forces()
    said = silently(lambda: run.fit(model, loader(32), data))
    assert said == []
    assert degraded.table["val"]["groups"] == 8
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_precisions(precision: Any):
    degraded = grouped()
    trainer(degraded, precision=precision, **SANE).fit(Classifier())
    for case in degraded.table["val"]["cases"]:
        assert 0 <= case["scores"]["output"]["overall"] <= 1


def test_what_forward_logs_of_coded_queries_is_dropped(tmp_path: Path):
    class Logs(Classifier):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            logits = self.net(inputs)
            self.log("size", logits.norm(), on_step=True)
            return logits

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self(batch[0])

    (alone,) = trainer().validate(Logs(), verbose=False)
    (both,) = trainer(grouped()).validate(Logs(), verbose=False)
    assert both["size_epoch"] == alone["size_epoch"]
    assert both["val_degraded/base"] > 0


def test_a_compiled_module_is_not_compiled_again():
    def compiles(*callbacks: L.Callback) -> int:
        torch._dynamo.reset()
        graphs = []

        def backend(graph: Any, example: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        class Compiled(Classifier):
            def __init__(self) -> None:
                super().__init__()
                self.net = torch.compile(self.net, backend=backend)  # type: ignore[assignment]
                self.modes = set()

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                return self.net(inputs)

            def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
                self(batch[0])

        trainer(*callbacks, max_epochs=2, **SANE).fit(Compiled(), loader(64), loader(90, batch=30))
        return len(graphs)

    degraded = grouped()
    assert 0 < compiles() == compiles(degraded)
    assert degraded.table["val"]["groups"] == 22


@pytest.mark.parametrize("kind", ["class", "quantity"])
def test_a_diverged_model_is_no_error(kind: str):
    class Diverges(Classifier):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            out = self.net(inputs) if kind == "class" else inputs
            return out * math.nan if self.current_epoch else out

    inputs, classes = points(32, 1)
    targets = classes if kind == "class" else inputs.clone()
    data = DataLoader(TensorDataset(inputs, targets), batch_size=8)
    stop = EarlyStopping(KEY, mode="max" if kind == "class" else "min", patience=9)
    run = trainer(grouped(), stop, max_epochs=3, **SANE)
    said = silently(lambda: run.fit(Diverges(), loader(32), data))
    assert said == []
    assert run.current_epoch == 3


# What others hang on its keys


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


# What goes wrong later


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
