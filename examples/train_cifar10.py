"""Train ResNet-20 on CIFAR-10 with the callback, on a GPU if there is one.

Usage::

    python -m approxifer_torchserve.examples.train_cifar10 --train DATA --test DATA --epochs 30

DATA: an ``.npz`` with ``images`` (uint8 ``[n, 32, 32, 3]``) and ``labels``, or with ``jpeg``,
``offsets`` and ``labels``; or a folder with one folder of images for each class.
"""

import argparse
import warnings
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.evaluation.data import load_data
from approxifer_torchserve.evaluation.inputs import Scaling
from approxifer_torchserve.lightning import DegradedAccuracy

SCALING = Scaling((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), size=32)


class Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2015)."""

    def __init__(self, channels: int, more: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, more, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(more),
            nn.ReLU(),
            nn.Conv2d(more, more, 3, padding=1, bias=False),
            nn.BatchNorm2d(more),
        )
        same = channels == more and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(channels, more, 1, stride, bias=False), nn.BatchNorm2d(more)
            )
        )

    def forward(self, images):
        """Map ``[B, channels, H, W]`` to ``[B, more, H/stride, W/stride]``."""
        return F.relu(self.body(images) + self.shortcut(images))


class ResNet20(L.LightningModule):
    """ResNet-20 with widths 16, 32, 64, SGD and a one-cycle schedule.

    Args:
        max_lr: Peak of the learning rate's cycle.
    """

    def __init__(self, max_lr: float = 0.2) -> None:
        super().__init__()
        self.save_hyperparameters()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        ]  # fmt: skip
        channels = 16
        for more, stride in ((16, 1), (32, 2), (64, 2)):
            for place in range(3):
                layers.append(Block(channels, more, stride if place == 0 else 1))
                channels = more
        self.net = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)
        )

    def forward(self, images):
        """Map images ``[B, 3, 32, 32]`` to logits ``[B, 10]``."""
        return self.net(images)

    def training_step(self, batch, batch_idx):
        """Return the loss on mirrored and shifted images."""
        images, labels = batch
        flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(flipped, images.flip(3), images)
        dy, dx = torch.randint(0, 9, (2,)).tolist()
        images = F.pad(images, (4, 4, 4, 4))[:, :, dy : dy + 32, dx : dx + 32]
        return F.cross_entropy(self(images), labels)

    def validation_step(self, batch, batch_idx):
        """Log the accuracy."""
        images, labels = batch
        self.log("val_accuracy", (self(images).argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        """SGD with momentum under a one-cycle learning rate."""
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.hparams.max_lr, momentum=0.9, weight_decay=5e-4
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams.max_lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def tensors(source: str, limit: int | None) -> TensorDataset:
    """Read all images of a file or folder, scaled."""
    data = load_data(source, SCALING)
    count = data.count if limit is None else min(limit, data.count)
    # Spread over the whole, for folders are sorted by class.
    rows = torch.linspace(0, data.count - 1, count).long().tolist()
    return TensorDataset(*data.fetch(rows))


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description="train ResNet-20 with the callback")
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--limit", type=int, help="use this many images of each, to try it")
    parser.add_argument("--out", type=Path, default=Path("build/train_cifar10"))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", ".*does not have many workers.*")

    L.seed_everything(0)
    degraded = DegradedAccuracy(
        ["approxifer", "approxifer:nodes=authors", "uncoded"], queries=8, stragglers=[1, 2]
    )
    best = ModelCheckpoint(
        arguments.out,
        filename="best",
        monitor="val_degraded/approxifer:nodes=authors/s=1/overall",
        mode="max",
        enable_version_counter=False,
    )
    gpu = torch.cuda.is_available()
    trainer = L.Trainer(
        max_epochs=arguments.epochs,
        accelerator="gpu" if gpu else "cpu",
        devices=1,
        precision="bf16-mixed" if gpu else "32-true",
        callbacks=[degraded, best],
        logger=CSVLogger(arguments.out, name="", version=""),
    )
    training = DataLoader(
        tensors(arguments.train, arguments.limit),
        batch_size=arguments.batch_size,
        shuffle=True,
        drop_last=True,
    )
    validation = DataLoader(tensors(arguments.test, arguments.limit), batch_size=512)
    trainer.fit(ResNet20(), training, validation)
    print(f"best checkpoint: {best.best_model_path}")


if __name__ == "__main__":
    main()
