"""Files of ``torch.save`` with more in them than tensors, read without running code in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch


class _Unread:
    """Stands for an object that was left out, such as a ``Path`` among hyperparameters."""

    def __new__(cls, *args: object) -> _Unread:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def read_saved(path: Path) -> Any:
    """Reads a file with ``weights_only``; what that refuses is left out, and never made.

    Args:
        path: The file, such as a Lightning checkpoint.

    Returns:
        What was saved, tensors on the CPU, with an empty object for each that was left out.

    Raises:
        OSError: The file cannot be read.
        pickle.UnpicklingError: An object cannot be left out (a class of its own that is a dict or
            a list), or the file is broken.
        RuntimeError: The file is broken.
        ValueError: It is of another format.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # torch < 2.6
            raise
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_Unread, name) for name in unknown]):
            return torch.load(path, map_location="cpu", weights_only=True)
