"""Measure what DegradedAccuracy adds to validation time.

Usage::

    python -m approxifer_torchserve.examples.callback_cost

validates small models with and without the callback in turn, on data it makes, and prints the
median times and their ratio. Times are the process's CPU time on one thread, which other programs
on the machine disturb little. ``--max-cost`` shows what other budgets cost.
"""

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Sequence

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.lightning import DegradedAccuracy


class Validated(L.LightningModule):
    """A network under validation that logs its loss and accuracy, as most do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images):
        """Map images to logits."""
        return self.net(images)

    def validation_step(self, batch, batch_idx):
        """Log the loss and the accuracy."""
        images, labels = batch
        logits = self.net(images)
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())


def convolutional(width: int) -> nn.Module:
    """Three convolutions for images ``[B, 3, 32, 32]``."""
    layers: list[nn.Module] = []
    for channels, more in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(channels, more, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * 16, 10))


MODELS = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)),
    "convolutional, 16 wide": lambda: convolutional(16),
    "convolutional, 32 wide": lambda: convolutional(32),
}


def seconds(module: L.LightningModule, data: DataLoader, callbacks: Sequence[L.Callback]) -> float:
    """Validate once and return how long it took."""
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    started = time.process_time()
    trainer.validate(module, data, verbose=False)
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="what the callback costs")
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--max-cost", type=float, default=None)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    torch.set_num_threads(1)
    images = torch.randn(arguments.queries, 3, 32, 32)
    labels = torch.randint(10, (arguments.queries,))
    data = DataLoader(TensorDataset(images, labels), batch_size=arguments.batch_size)
    options = {} if arguments.max_cost is None else {"max_cost": arguments.max_cost}
    print(f"{'model':24} {'without, s':>10} {'with, s':>10} {'added':>7}")
    for name, make in MODELS.items():
        module = Validated(make())
        times: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(arguments.rounds + 1):
            for added in (False, True):
                callbacks = [DegradedAccuracy(summary=False, **options)] if added else []
                taken = seconds(module, data, callbacks)
                if turn:  # the first round warms up
                    times[added].append(taken)
        without, with_it = (statistics.median(times[added]) for added in (False, True))
        print(f"{name:24} {without:10.3f} {with_it:10.3f} {with_it / without - 1:+7.0%}")


if __name__ == "__main__":
    main()
