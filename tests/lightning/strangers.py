"""What the tests of strangers' training runs share: modules, data, and what the callback says.

Modelled on public bug reports about callbacks; none may break a training run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning_models import Classifier, points
from torch.utils.data import IterableDataset

from approxifer_torchserve.lightning import DegradedAccuracy

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
