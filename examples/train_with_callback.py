"""Train a digits classifier and see, epoch by epoch, what losing workers would cost.

Usage::

    python -m approxifer_torchserve.examples.train_with_callback --out build/train_digits

takes seconds. Writes ``best.ckpt`` (the epoch with the best accuracy under one lost answer, with
the measured table inside), ``metrics.csv`` and a figure.
"""

import argparse
import logging
import warnings
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.bench.digits.train import SEED, TEST_SHARE, DigitsModule, as_pixels
from approxifer_torchserve.lightning import DegradedAccuracy

MONITOR = "val_degraded/approxifer/s=1/overall"


class ValidatedDigits(DigitsModule):
    """The digits module with an ordinary validation; nothing in it knows of codes."""

    def forward(self, images):
        """Map images ``[B, 1, 8, 8]`` to logits."""
        return self.net(images)

    def validation_step(self, batch, batch_idx):
        """Log loss and accuracy."""
        images, labels = batch
        logits = self(images)
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())


def loaders() -> tuple[DataLoader, DataLoader]:
    """Return scikit-learn's digits for training and for validation."""
    digits = load_digits()
    kept, held, kept_labels, held_labels = train_test_split(
        digits.images,
        digits.target,
        test_size=TEST_SHARE,
        random_state=SEED,
        stratify=digits.target,
    )
    parts = [
        TensorDataset(as_pixels(images).float().div(255).unsqueeze(1), torch.from_numpy(labels))
        for images, labels in ((kept, kept_labels), (held, held_labels))
    ]
    return (
        DataLoader(parts[0], batch_size=64, shuffle=True, drop_last=True),
        DataLoader(parts[1], batch_size=64),
    )


def train(out: Path, epochs: int) -> str:
    """Train; return the path of the best checkpoint."""
    L.seed_everything(SEED, verbose=False)
    training, validation = loaders()
    # The data are small: all of them are grouped. The default keeps the cost below a quarter.
    degraded = DegradedAccuracy(
        ["approxifer", "approxifer:nodes=authors", "replication", "uncoded"],
        queries=8,
        stragglers=[1, 2],
        max_cost=None,
    )
    best = ModelCheckpoint(
        out, filename="best", monitor=MONITOR, mode="max", enable_version_counter=False
    )
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[degraded, best],
        logger=CSVLogger(out, name="", version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = ValidatedDigits(max_lr=1e-2, total_steps=epochs * len(training))
    trainer.fit(module, training, validation)
    return best.best_model_path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="train with the callback, on digits")
    parser.add_argument("--out", type=Path, default=Path("build/train_digits"))
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    print(f"best checkpoint: {train(arguments.out, arguments.epochs)}")
