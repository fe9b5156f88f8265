"""Strangers' batches: of different lengths, one tensor, popped, empty, streams, joined loaders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities import CombinedLoader
from lightning_models import CLASSES, FEATURES, Classifier, loader, points, trainer
from strangers import KEY, QUIET, SANE, Counting, Stream, grouped, silently
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.lightning import DegradedAccuracy

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*litlogger", "ignore:.*isinstance.treespec"
)


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
