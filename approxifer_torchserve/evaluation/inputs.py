"""Queries without labels, for calibrating: from an npz file, a folder, or the user's function."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.evaluation.data import (
    INPUTS,
    PICTURES,
    DataError,
    Scaling,
    _as_images,
    _decoded,
    import_name,
)


@dataclass(frozen=True)
class Inputs:
    """Queries.

    Attributes:
        count: How many.
        fetch: From indices to inputs, leaves ``[n, *q]``.
    """

    count: int
    fetch: Callable[[Sequence[int]], PyTree]


def load_inputs(source: str, scaling: Scaling | None = None) -> Inputs:
    """Open data of which only the inputs matter.

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
        return _from_npz(path, scaling)
    if path.is_dir():
        return _from_folder(path, scaling)
    if ":" in source and not path.exists():
        return _from_function(source)
    raise DataError(
        f"data: expected an .npz file, a folder with images or module:function, got {source!r}"
    )


def _from_npz(path: Path, scaling: Scaling) -> Inputs:
    with np.load(path, allow_pickle=False) as archive:
        names = archive.files
        found = next((name for name in INPUTS if name in names), None)
        wanted = [found] if found else ["jpeg", "offsets"]
        if not set(wanted) <= set(names):
            raise DataError(f"data: expected one of {INPUTS} in {path.name}, got {sorted(names)}")
        arrays = [archive[name] for name in wanted]
    if found:
        (values,) = arrays
        return Inputs(
            len(values), lambda rows: _as_images(torch.from_numpy(values[list(rows)]), scaling)
        )
    encoded, ends = arrays

    def fetch(rows: Sequence[int]) -> PyTree:
        parts = [encoded[ends[i] : ends[i + 1]].tobytes() for i in rows]
        return _pictures([io.BytesIO(part) for part in parts], scaling)

    return Inputs(len(ends) - 1, fetch)


def _from_folder(path: Path, scaling: Scaling) -> Inputs:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)
    if not files:
        raise DataError(f"data: expected images ({', '.join(sorted(PICTURES))}) in {path}")
    return Inputs(len(files), lambda rows: _pictures([files[i] for i in rows], scaling))


def _pictures(sources: Sequence[Any], scaling: Scaling) -> PyTree:
    images = [_decoded(source, scaling) for source in sources]
    if len({image.shape for image in images}) > 1:
        raise DataError("data: images differ in size or channels; give one size by --size")
    return scaling(torch.stack(images))


def _from_function(source: str) -> Inputs:
    made = import_name("data", source)
    dataset = made() if callable(made) else made
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(
            f"data: expected {source} to return a dataset with a length and items, "
            f"got {type(dataset).__name__}"
        )

    def fetch(rows: Sequence[int]) -> PyTree:
        items = [dataset[i] for i in rows]
        if all(isinstance(item, tuple) and len(item) == 2 for item in items):
            items = [item[0] for item in items]
        return default_collate(items)

    return Inputs(len(dataset), fetch)
