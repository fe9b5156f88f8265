"""Small modules and data for the callback's tests."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FEATURES, CLASSES = 6, 4


def points(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, FEATURES, generator=draw)
    teacher = torch.randn(FEATURES, CLASSES, generator=torch.Generator().manual_seed(99))
    return inputs, (inputs @ teacher).argmax(dim=1)


def loader(count: int = 64, seed: int = 0, batch: int = 16) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*points(count, seed)), batch_size=batch)


class Classifier(L.LightningModule):
    """Two layers with dropout; counts what it is called with."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.net = nn.Sequential(
            nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES)
        )
        self.lr = lr
        self.calls: list[int] = []
        self.modes: set[bool] = set()

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls.append(len(inputs))
        self.modes.add(self.net[2].training)
        return self.net(inputs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return F.cross_entropy(self.net(inputs), targets)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def test_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(64)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(64, seed=1)


class TwoHeads(Classifier):
    """A class and a quantity from one input; batches are mappings."""

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        logits = self.net(inputs)
        return {"kind": logits, "size": inputs[:, :2] * 1.5}


def mapping_loader(count: int = 40) -> DataLoader[Any]:
    inputs, targets = points(count, 1)
    rows = [
        {"image": x, "truth": {"kind": y, "size": x[:2]}}
        for x, y in zip(inputs, targets, strict=True)
    ]
    return DataLoader(rows, batch_size=10)  # type: ignore[arg-type]


def trainer(*callbacks: L.Callback, **options: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        **options,
    }
    return L.Trainer(callbacks=list(callbacks), **settings)
