"""Files of ``torch.save`` with more in them than tensors, read without running code in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from approxifer_torchserve.artifacts.modules import ModelError


class _Unread:
    """Stands for an object that was left out, such as a ``Path`` among hyperparameters."""

    def __new__(cls, *args: object) -> _Unread:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def load_saved(argument: str, path: Path) -> Any:
    """Reads a file with ``weights_only``; what that refuses is left out, and never made.

    Args:
        argument: What the file was given for; errors begin with it.
        path: The file, such as a Lightning checkpoint.

    Returns:
        What was saved, tensors on the CPU, with an empty object for each that was left out.

    Raises:
        ModelError: The file cannot be read so: it is broken, or an object in it cannot be left
            out (a class of its own that is a dict or a list).
    """
    try:
        return _read(path)
    except (EOFError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"{argument}: {path} cannot be read without running code that may be in it: {error}"
        ) from error


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # torch < 2.6
            raise
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_Unread, name) for name in unknown]):
            return torch.load(path, map_location="cpu", weights_only=True)
