"""A model to evaluate, from a ``.mar``, from TorchScript, or from a class and its weights."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from approxifer_torchserve.artifacts.modules import (
    ModelError,
    fitting_weights,
    import_name,
    make_module,
)
from approxifer_torchserve.artifacts.saved import load_saved


def load_model(source: str, weights: Path | None = None) -> tuple[nn.Module, str]:
    """Loads a model in eval mode.

    Args:
        source: A ``.mar``; a TorchScript file; or ``module:Class`` (or a function) that makes an
            ``nn.Module`` without arguments.
        weights: For the last: a state dict, or a Lightning checkpoint, whose module may hold the
            network as an attribute.

    Returns:
        The model, and a text that differs where its weights do, for resuming.

    Raises:
        ModelError: There is none, or its parts do not fit.
    """
    path = Path(source)
    if path.is_file():
        if weights is not None:
            raise ModelError("weights: expected only with --model module:Class, not with a file")
        loaded = _from_mar(path) if zipfile.is_zipfile(path) and _is_mar(path) else _script(path)
    elif ":" in source:
        try:
            made = import_name("model", source)
        except ImportError as error:
            raise ModelError(str(error)) from error
        module = made() if callable(made) else made
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"model: expected {source} to make an nn.Module, got {type(module).__name__}"
            )
        loaded = module if weights is None else load_weights(module, weights)
    else:
        raise ModelError(
            f"model: expected a .mar, a TorchScript file or module:Class, got {source!r}"
        )
    loaded.eval()
    return loaded, _identity(loaded)


def load_weights(module: nn.Module, path: Path) -> nn.Module:
    """Loads a state dict or a checkpoint into a module.

    Args:
        module: Receives the weights; a checkpoint's may hold it as an attribute.
        path: A file of ``torch.save``; read with ``weights_only``.

    Returns:
        The module.

    Raises:
        ModelError: The file cannot be read, or its names do not fit the module.
    """
    saved = load_saved("weights", path)
    state = saved.get("state_dict", saved) if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping):
        raise ModelError(f"weights: expected a state dict in {path}, got {type(saved).__name__}")
    fitting = fitting_weights(state, module)
    if fitting is None:
        raise ModelError(
            f"weights: {path} does not fit {type(module).__name__}: expected names like "
            f"{sorted(module.state_dict())[:3]}, got {sorted(state)[:3]}"
        )
    module.load_state_dict(fitting)
    return module


def _script(path: Path) -> nn.Module:
    try:
        loaded: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ModelError(
            f"model: {path} is no TorchScript file ({str(error).splitlines()[0]}); for a state "
            "dict give --model module:Class --weights file"
        ) from error
    return loaded


def _is_mar(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return "MAR-INF/MANIFEST.json" in archive.namelist()


def _from_mar(path: Path) -> nn.Module:
    """Loads a model as TorchServe's BaseHandler would; the handler itself is not run."""
    with tempfile.TemporaryDirectory(prefix="approxifer-evaluate-") as name, zipfile.ZipFile(
        path
    ) as archive:  # fmt: skip
        archive.extractall(name)
        folder = Path(name)
        model = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())["model"]
        serialized = model.get("serializedFile")
        if not model.get("modelFile"):
            if not serialized:
                raise ModelError(
                    f"model: {path.name} names neither modelFile nor serializedFile, so its "
                    "handler loads the model itself; give --model module:Class --weights file"
                )
            return _script(folder / serialized)
        module = make_module("model", folder / model["modelFile"])
        return load_weights(module, folder / serialized) if serialized else module


def _identity(module: nn.Module) -> str:
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
