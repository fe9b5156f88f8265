"""Train the digits network with Lightning and write what the demo serves.

Usage::

    python -m approxifer_torchserve.bench.digits.train --out build/digits

writes ``digits.pt`` (weights), ``test/<index>.png`` (images the network never saw) and
``labels.json`` (their labels, and the network's accuracy on them).
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.bench.digits.model import DigitsNet

SEED = 0
TEST_SHARE = 0.4


class DigitsModule(L.LightningModule):
    """Cross entropy with a one-cycle schedule; images are shifted by up to one pixel.

    Args:
        max_lr: Peak of the learning rate's cycle.
        total_steps: How many steps the optimiser takes in the whole training.
    """

    def __init__(self, max_lr: float, total_steps: int) -> None:
        super().__init__()
        self.max_lr = max_lr
        self.total_steps = total_steps
        self.net = DigitsNet()

    def training_step(
        self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int
    ) -> torch.Tensor:
        """Returns the loss of one batch."""
        images, labels = batch
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        return F.cross_entropy(self.net(images.roll((dy, dx), (2, 3))), labels)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW under a one-cycle learning rate, stepped with every batch."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.max_lr, weight_decay=1e-2)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.max_lr, total_steps=self.total_steps
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def as_pixels(images: NDArray[np.float64]) -> torch.Tensor:
    """Returns scikit-learn's digits (0..16) as the bytes that a PNG holds: ``[n, 8, 8]`` uint8."""
    return torch.from_numpy(images * 15).to(torch.uint8)


def train(out: Path, epochs: int) -> float:
    """Trains, writes the files, and returns the test accuracy (a fraction)."""
    L.seed_everything(SEED, verbose=False)
    digits = load_digits()
    kept, held, kept_labels, held_labels = train_test_split(
        digits.images,
        digits.target,
        test_size=TEST_SHARE,
        random_state=SEED,
        stratify=digits.target,
    )
    data = TensorDataset(
        as_pixels(kept).float().div(255).unsqueeze(1), torch.from_numpy(kept_labels)
    )
    loader = DataLoader(data, batch_size=64, shuffle=True, drop_last=True)
    module = DigitsModule(max_lr=1e-2, total_steps=epochs * len(loader))
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)

    pixels, labels = as_pixels(held), torch.from_numpy(held_labels)
    net = module.net.eval()
    with torch.inference_mode():
        guesses = net(pixels.float().div(255).unsqueeze(1)).argmax(1)
    accuracy = float((guesses == labels).float().mean())

    (out / "test").mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), out / "digits.pt")
    for index, image in enumerate(pixels.numpy()):
        Image.fromarray(image, mode="L").save(out / "test" / f"{index}.png")
    (out / "labels.json").write_text(json.dumps({"labels": labels.tolist(), "accuracy": accuracy}))
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="train the digits network")
    parser.add_argument("--out", type=Path, default=Path("build/digits"))
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    accuracy = train(arguments.out, arguments.epochs)
    print(f"test accuracy {accuracy:.4f}")
