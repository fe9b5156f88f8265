"""Weights of their own that some codes need beside the base model's, read from files.

A code's ``models`` names them: ParM's ``parity`` is a model that was trained to answer sums of
queries. Evaluation and serving read the same files with ``load``. Neither kind of file is a pickle,
so that reading one runs no Python that may be in it.
"""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn


class OwnWeightsError(ValueError):
    """A file of weights cannot be used; the message says what was expected and what came."""


def load(path: Path, like: nn.Module | None, device: torch.device | str) -> nn.Module:
    """Read a model: TorchScript, or safetensors with the weights of a model that is at hand.

    Which of the two a file is, is told by what is in it and not by its name.

    Args:
        path: The file.
        like: The base model, whose architecture safetensors' weights are for; it is copied and left
            as it is. None if there is none: then only TorchScript can be read.
        device: Where the model shall be.

    Returns:
        A model in eval mode whose parameters need no gradient.

    Raises:
        OwnWeightsError: There is no such file, it is neither of the two, or its weights do not fit
            ``like``.

    Example:
        >>> import tempfile
        >>> base = nn.Linear(4, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "parity.safetensors"
        ...     save(nn.Linear(4, 2), path)
        ...     load(path, like=base, device="cpu")
        Linear(in_features=4, out_features=2, bias=True)
    """
    if not path.is_file():
        raise OwnWeightsError(f"{path}: expected a file with weights, there is none")
    model = _script(path, device) if zipfile.is_zipfile(path) else _filled(path, like, device)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def save(model: nn.Module, path: Path) -> None:
    """Write a model's weights as ``load`` reads them.

    Args:
        model: An eager model, whose architecture whoever reads the file has; TorchScript has a
            ``save`` of its own.
        path: The file, ``.safetensors`` by custom.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(model, str(path))


def _script(path: Path, device: torch.device | str) -> nn.Module:
    try:
        model: nn.Module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise OwnWeightsError(
            f"{path}: expected TorchScript or safetensors, got another kind of archive "
            f"({_first_line(error)}); what torch.save writes is a pickle and is not read: save the "
            "state dict with safetensors.torch.save_model, or the model with torch.jit.save"
        ) from error
    return model


def _filled(path: Path, like: nn.Module | None, device: torch.device | str) -> nn.Module:
    if like is None:
        raise OwnWeightsError(
            f"{path}: expected TorchScript, since no base model is at hand whose architecture "
            "other weights could be for; save the model with torch.jit.save"
        )
    # Copied without gradients: TorchScript's copies would be no leaves of the graph else.
    with torch.no_grad():
        model = copy.deepcopy(like).to(device)
    try:
        load_model(model, path, strict=True, device=str(device))
    except SafetensorError as error:
        raise OwnWeightsError(
            f"{path}: expected TorchScript or safetensors, got neither ({_first_line(error)}); "
            "save the state dict with safetensors.torch.save_model"
        ) from error
    except RuntimeError as error:
        raise OwnWeightsError(
            f"{path}: expected the weights of the base model's architecture, "
            f"{type(like).__name__}, got others: {error}; for another architecture save the model "
            "with torch.jit.save"
        ) from error
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
