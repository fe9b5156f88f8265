"""The data sets and models that the measurement runs on, from folders that the user names."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HALF = 5000
"""Test images in the first half; the rest is the second."""
HALVES = ("first", "second")


@dataclass(frozen=True)
class Set:
    """Images, labels and a frozen model.

    Attributes:
        images: float32 ``[n, *q]``, as the model takes them.
        labels: int64 ``[n]``, the right classes.
        model: A function from images to logits, frozen.
    """

    images: Tensor
    labels: Tensor
    model: Any


def split(images: int, measure_on: str) -> dict[str, range]:
    """Says which images are for what: one half calibrates, without labels, the other measures.

    Args:
        images: How many there are, more than ``HALF``.
        measure_on: The half that measures, one of ``HALVES``.

    Returns:
        Rows of ``fit`` (three quarters of the calibrating half), ``held_out`` (thresholds; the rest
        of it) and ``trial`` (the measuring half).
    """
    halves = dict(zip(HALVES, (range(HALF), range(HALF, images)), strict=True))
    trial = halves.pop(measure_on)
    (calibration,) = halves.values()
    fit = len(calibration) * 3 // 4
    return {"fit": calibration[:fit], "held_out": calibration[fit:], "trial": trial}


def _mnist(folder: Path) -> tuple[Tensor, Tensor]:
    with np.load(folder / "mnist_test.npz") as file:
        images = torch.from_numpy(file["images"]).float()[:, None] / 255
        return images, torch.from_numpy(file["labels"]).long()


def _cifar10(folder: Path) -> tuple[Tensor, Tensor]:
    from PIL import Image

    with np.load(folder / "cifar10_test.npz") as file:
        data, offsets, labels = file["jpeg"].tobytes(), file["offsets"], file["labels"]
    spans = pairwise(offsets)
    pixels = [np.asarray(Image.open(io.BytesIO(data[start:end]))) for start, end in spans]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]
    deviation = torch.tensor([0.2471, 0.2435, 0.2616])[:, None, None]
    return (images - mean) / deviation, torch.from_numpy(labels).long()


SETS = {"mnist": (_mnist, "mnist_cnn.ts.pt"), "cifar10": (_cifar10, "cifar10_resnet20.ts.pt")}


def load_set(name: str, data: Path, models: Path) -> Set:
    """Reads a test set and its model.

    Args:
        name: ``mnist`` or ``cifar10``.
        data: Folder with ``mnist_test.npz`` or ``cifar10_test.npz``.
        models: Folder with ``mnist_cnn.ts.pt`` or ``cifar10_resnet20.ts.pt`` (TorchScript).

    Returns:
        The set.

    Raises:
        OSError: A file of the set or of its model is missing.
    """
    read, file = SETS[name]
    images, labels = read(data)
    return Set(images, labels, torch.jit.load(str(models / file)).eval())
