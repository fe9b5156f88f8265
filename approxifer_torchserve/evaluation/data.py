"""Labelled data from an npz file, a folder of images, or the user's own function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import default_collate

from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.evaluation.inputs import (
    INPUTS,
    PICTURES,
    DataError,
    Scaling,
    inputs_of_arrays,
    inputs_of_pictures,
    named_dataset,
)

TARGETS = ("targets", "labels", "y")


@dataclass(frozen=True)
class Data:
    """Queries with their targets.

    Attributes:
        count: How many there are.
        fetch: From indices to inputs ``[n, *q]`` and targets ``[n, *t]``.
        identity: Differs where the data do, for resuming.
    """

    count: int
    fetch: Callable[[Sequence[int]], tuple[PyTree, PyTree]]
    identity: str


def load_data(source: str, scaling: Scaling | None = None) -> Data:
    """Opens labelled data.

    Args:
        source: A ``.npz`` file with ``inputs`` (or ``images``, ``x``, ``data``; or encoded images
            in ``jpeg`` with ``offsets``) and ``targets`` (or ``labels``, ``y``); a folder with one
            folder of images for each class; or ``module:function`` that returns a dataset of pairs.
        scaling: What to do to the pixels of images (uint8 ones); None for only 0..1.

    Returns:
        The data; uint8 images become float32 ``[n, C, H, W]`` in 0..1 and are scaled.

    Raises:
        DataError: There is nothing of that kind there.
    """
    scaling = scaling or Scaling()
    path = Path(source)
    if path.suffix == ".npz" and path.is_file():
        return _from_npz(path, scaling)
    if path.is_dir():
        return _from_folder(path, scaling)
    if ":" in source and not path.exists():
        return _from_function(source)
    raise DataError(
        f"data: expected an .npz file, a folder with one folder of images for each class, or "
        f"module:function, got {source!r}"
    )


def _from_npz(path: Path, scaling: Scaling) -> Data:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    targets = next((arrays[name] for name in TARGETS if name in arrays), None)
    inputs = inputs_of_arrays(arrays, scaling)
    if targets is None or inputs is None:
        raise DataError(
            f"data: expected one of {INPUTS} and one of {TARGETS} in {path.name}, "
            f"got {sorted(arrays)}"
        )
    truth = torch.from_numpy(targets)
    truth = truth if truth.is_floating_point() else truth.long()
    fetch = inputs.fetch
    stamp = path.stat()
    return Data(
        len(truth),
        lambda indices: (fetch(indices), truth[list(indices)]),
        _identity(path.name, stamp.st_size, stamp.st_mtime_ns, scaling),
    )


def _from_folder(path: Path, scaling: Scaling) -> Data:
    classes = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
    found = [
        (file, index)
        for index, name in enumerate(classes)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in PICTURES
    ]
    if not found:
        raise DataError(
            f"data: expected a folder for each class with images ({', '.join(sorted(PICTURES))}) "
            f"in {path}, got {classes or 'no folder'}"
        )
    files = [file for file, _ in found]
    truth = torch.tensor([index for _, index in found])
    fetch = inputs_of_pictures(files, scaling).fetch
    names = [str(file.relative_to(path)) for file in files]
    return Data(
        len(files),
        lambda indices: (fetch(indices), truth[list(indices)]),
        _identity(path.name, names, scaling),
    )


def _from_function(source: str) -> Data:
    dataset = named_dataset(source, "items (input, target)")

    def fetch(indices: Sequence[int]) -> tuple[PyTree, PyTree]:
        inputs, targets = default_collate([dataset[i] for i in indices])
        return inputs, targets

    return Data(len(dataset), fetch, _identity(source, len(dataset)))


def _identity(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
