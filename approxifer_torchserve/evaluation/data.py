"""Labelled data from an npz file, a folder of images, or the user's own function."""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from approxifer_torchserve.codes.pytree import PyTree

INPUTS = ("inputs", "images", "x", "data")
TARGETS = ("targets", "labels", "y")
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


class DataError(ValueError):
    """The data cannot be read; the message says what was expected and which option to change."""


@dataclass(frozen=True)
class Data:
    """Queries with their targets.

    Attributes:
        count: How many.
        fetch: From indices to inputs ``[n, *q]`` and targets ``[n, *t]``.
        identity: Differs where the data do, for resuming.
    """

    count: int
    fetch: Callable[[Sequence[int]], tuple[PyTree, PyTree]]
    identity: str


@dataclass(frozen=True)
class Scaling:
    """What is done to pixels in 0..1.

    Attributes:
        mean: Subtracted, one number or one for each channel.
        std: Divided by, likewise.
        size: Height and width of images of a folder; None to keep them as they are.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: int | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Scale ``[n, C, H, W]`` in 0..1."""
        mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (self.mean, self.std))
        return (pixels - mean) / std


def load_data(source: str, scaling: Scaling | None = None) -> Data:
    """Open labelled data.

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


def import_name(argument: str, source: str) -> Any:
    """Import ``module:name``, also from the working directory.

    Raises:
        DataError: There is no such module or name.
    """
    module, _, name = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise DataError(f"{argument}: {source!r} cannot be imported: {error}") from error


def _from_npz(path: Path, scaling: Scaling) -> Data:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    targets = next((arrays[name] for name in TARGETS if name in arrays), None)
    inputs = next((arrays[name] for name in INPUTS if name in arrays), None)
    encoded = arrays.get("jpeg") if inputs is None else None
    if targets is None or (inputs is None and (encoded is None or "offsets" not in arrays)):
        raise DataError(
            f"data: expected one of {INPUTS} and one of {TARGETS} in {path.name}, "
            f"got {sorted(arrays)}"
        )
    truth = torch.from_numpy(targets)
    truth = truth if truth.is_floating_point() else truth.long()

    def fetch(indices: Sequence[int]) -> tuple[PyTree, PyTree]:
        chosen = list(indices)
        if encoded is not None:
            ends = arrays["offsets"]
            images = [
                _decoded(io.BytesIO(encoded[ends[i] : ends[i + 1]].tobytes()), scaling)
                for i in chosen
            ]
            return scaling(torch.stack(images)), truth[chosen]
        assert inputs is not None
        return _as_images(torch.from_numpy(inputs[chosen]), scaling), truth[chosen]

    stamp = path.stat()
    return Data(len(truth), fetch, _identity(path.name, stamp.st_size, stamp.st_mtime_ns, scaling))


def _as_images(values: Tensor, scaling: Scaling) -> Tensor:
    if values.dtype != torch.uint8:
        return values
    pixels = values.float().div(255)
    if pixels.dim() == 3:
        pixels = pixels.unsqueeze(1)
    elif pixels.dim() == 4 and pixels.shape[-1] in (1, 3, 4) and pixels.shape[1] not in (1, 3, 4):
        pixels = pixels.permute(0, 3, 1, 2)
    return scaling(pixels) if pixels.dim() == 4 else pixels


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

    def fetch(indices: Sequence[int]) -> tuple[PyTree, PyTree]:
        chosen = [found[i] for i in indices]
        images = [_decoded(file, scaling) for file, _ in chosen]
        if len({image.shape for image in images}) > 1:
            raise DataError("data: images differ in size or channels; give one size by --size")
        return scaling(torch.stack(images)), torch.tensor([index for _, index in chosen])

    names = [str(file.relative_to(path)) for file, _ in found]
    return Data(len(found), fetch, _identity(path.name, names, scaling))


def _decoded(source: Any, scaling: Scaling) -> Tensor:
    from PIL import Image

    with Image.open(source) as opened:
        image = opened if opened.mode == "L" else opened.convert("RGB")
        if scaling.size is not None:
            image = image.resize((scaling.size, scaling.size))
        pixels = torch.from_numpy(np.array(image)).float().div(255)
    return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def _from_function(source: str) -> Data:
    made = import_name("data", source)
    dataset = made() if callable(made) else made
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(
            f"data: expected {source} to return a dataset with a length and items (input, target), "
            f"got {type(dataset).__name__}"
        )

    def fetch(indices: Sequence[int]) -> tuple[PyTree, PyTree]:
        inputs, targets = default_collate([dataset[i] for i in indices])
        return inputs, targets

    return Data(len(dataset), fetch, _identity(source, len(dataset)))


def _identity(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
