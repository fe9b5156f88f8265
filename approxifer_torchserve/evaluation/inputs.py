"""Queries without labels: from an npz file, a folder of images, or the user's own function."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from approxifer_torchserve.artifacts.modules import import_name
from approxifer_torchserve.codes.pytree import PyTree

INPUTS = ("inputs", "images", "x", "data")
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


class DataError(ValueError):
    """The data cannot be read; the message says what was expected and which option to change."""


@dataclass(frozen=True)
class Scaling:
    """What is done to pixels in 0..1.

    Attributes:
        mean: Subtracted, one number or one for each channel.
        std: What is divided by then, one number or one for each channel.
        size: Height and width of images of a folder; None to keep them as they are.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: int | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Scales ``[n, C, H, W]`` in 0..1."""
        mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (self.mean, self.std))
        return (pixels - mean) / std


@dataclass(frozen=True)
class Inputs:
    """Queries.

    Attributes:
        count: How many there are.
        fetch: From indices to inputs, leaves ``[n, *q]``.
    """

    count: int
    fetch: Callable[[Sequence[int]], PyTree]


def load_inputs(source: str, scaling: Scaling | None = None) -> Inputs:
    """Opens data of which only the inputs matter.

    Args:
        source: A ``.npz`` file with ``inputs`` (or ``images``, ``x``, ``data``; or encoded images
            in ``jpeg`` with ``offsets``); a folder with images in it or below; or
            ``module:function`` that returns a dataset of inputs or of (input, target).
        scaling: What to do to the pixels of images (uint8 ones); None for only 0..1.

    Returns:
        The inputs; uint8 images become float32 ``[n, C, H, W]`` in 0..1 and are scaled.

    Raises:
        DataError: There is nothing of that kind there.
    """
    scaling = scaling or Scaling()
    path = Path(source)
    if path.suffix == ".npz" and path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        found = inputs_of_arrays(arrays, scaling)
        if found is None:
            raise DataError(f"data: expected one of {INPUTS} in {path.name}, got {sorted(arrays)}")
        return found
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)
        if not files:
            raise DataError(f"data: expected images ({', '.join(sorted(PICTURES))}) in {path}")
        return inputs_of_pictures(files, scaling)
    if ":" in source and not path.exists():
        return _from_function(source)
    raise DataError(
        f"data: expected an .npz file, a folder with images or module:function, got {source!r}"
    )


def inputs_of_arrays(arrays: Mapping[str, np.ndarray[Any, Any]], scaling: Scaling) -> Inputs | None:
    """Finds the inputs among an npz file's arrays; None if there are none."""
    values = next((arrays[name] for name in INPUTS if name in arrays), None)
    if values is not None:
        found = values
        return Inputs(
            len(found), lambda rows: _as_images(torch.from_numpy(found[list(rows)]), scaling)
        )
    if "jpeg" not in arrays or "offsets" not in arrays:
        return None
    encoded, ends = arrays["jpeg"], arrays["offsets"]

    def fetch(rows: Sequence[int]) -> PyTree:
        parts = [encoded[ends[i] : ends[i + 1]].tobytes() for i in rows]
        return _pictures([io.BytesIO(part) for part in parts], scaling)

    return Inputs(len(ends) - 1, fetch)


def inputs_of_pictures(files: Sequence[Path], scaling: Scaling) -> Inputs:
    """Takes image files as inputs."""
    return Inputs(len(files), lambda rows: _pictures([files[i] for i in rows], scaling))


def named_dataset(source: str, items: str) -> Any:
    """Makes the dataset that ``module:function`` returns, or that ``module:name`` is.

    Args:
        source: ``module:function`` or ``module:name``.
        items: What its items should be, for the error.

    Raises:
        DataError: There is no such name, or what is there has no length or items.
    """
    try:
        made = import_name("data", source)
    except ImportError as error:
        raise DataError(str(error)) from error
    dataset = made() if callable(made) else made
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(
            f"data: expected {source} to return a dataset with a length and {items}, "
            f"got {type(dataset).__name__}"
        )
    return dataset


def _from_function(source: str) -> Inputs:
    dataset = named_dataset(source, "items")

    def fetch(rows: Sequence[int]) -> PyTree:
        items = [dataset[i] for i in rows]
        if all(isinstance(item, tuple) and len(item) == 2 for item in items):
            items = [item[0] for item in items]
        return default_collate(items)

    return Inputs(len(dataset), fetch)


def _as_images(values: Tensor, scaling: Scaling) -> Tensor:
    if values.dtype != torch.uint8:
        return values
    pixels = values.float().div(255)
    if pixels.dim() == 3:
        pixels = pixels.unsqueeze(1)
    elif pixels.dim() == 4 and pixels.shape[-1] in (1, 3, 4) and pixels.shape[1] not in (1, 3, 4):
        pixels = pixels.permute(0, 3, 1, 2)
    return scaling(pixels) if pixels.dim() == 4 else pixels


def _pictures(sources: Sequence[Any], scaling: Scaling) -> Tensor:
    images = [_decoded(source, scaling) for source in sources]
    if len({image.shape for image in images}) > 1:
        raise DataError("data: images differ in size or channels; give one size by --size")
    return scaling(torch.stack(images))


def _decoded(source: Any, scaling: Scaling) -> Tensor:
    from PIL import Image

    with Image.open(source) as opened:
        image = opened if opened.mode == "L" else opened.convert("RGB")
        if scaling.size is not None:
            image = image.resize((scaling.size, scaling.size))
        pixels = torch.from_numpy(np.array(image)).float().div(255)
    return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)
