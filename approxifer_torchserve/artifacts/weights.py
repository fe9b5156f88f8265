"""Weights of their own that some codes need beside the base model's, read from files.

A code's ``models`` names them: ParM's ``parity`` is a model that was trained to answer sums of
queries. Evaluation and serving read the same files with ``load``. Neither kind of file is a pickle,
so that reading one runs no Python that may be in it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from approxifer_torchserve.codes import Code

PURPOSE = "approxifer"
"""The key in a safetensors file's metadata of what the weights are for, JSON."""


class OwnWeightsError(ValueError):
    """A file of weights cannot be used; the message says what was expected and what came."""


def load(
    path: Path,
    like: nn.Module | None,
    device: torch.device | str,
    about: Mapping[str, str] | None = None,
) -> nn.Module:
    """Reads a model: TorchScript, or safetensors with the weights of a model that is at hand.

    Which of the two a file is, is told by what is in it and not by its name.

    Args:
        path: A file of ``save``, of ``safetensors`` or of ``torch.jit.save``.
        like: The base model, whose architecture safetensors' weights are for; it is copied and left
            as it is. None if there is none: then only TorchScript can be read.
        device: Where the model shall be.
        about: What the weights shall have been trained for, see ``describe``. Where the file says
            something else they are refused; TorchScript, and files of others, say nothing.

    Returns:
        A model in eval mode whose parameters need no gradient.

    Raises:
        OwnWeightsError: There is no such file, it is neither of the two, its weights do not fit
            ``like``, or they were trained for another code.

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
    if zipfile.is_zipfile(path):
        model = _script(path, device)
    else:
        model = _filled(path, like, device)
        check_purpose(path, about or {})
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def save(model: nn.Module, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Writes a model's weights as ``load`` reads them.

    Args:
        model: A model whose architecture is at hand where the file will be read; another one is
            written by ``torch.jit.save``.
        path: The file, ``.safetensors`` by custom.
        about: What they were trained for, see ``describe``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # As one text: the order of several is another one in each process, and so is the file's digest.
    said = {PURPOSE: json.dumps(dict(about), sort_keys=True)} if about else None
    save_model(model, str(path), metadata=said)


def describe(code: Code, role: str) -> dict[str, str]:
    """Says what weights of a code's own are for: with another K or S they would be of no use.

    Args:
        code: A code with weights of its own.
        role: One of its ``roles``, such as ``parity``.

    Returns:
        Texts, for ``save`` and ``load``.

    Example:
        >>> from approxifer_torchserve.codes import make_code
        >>> describe(make_code("parm", queries=4, stragglers=1), "parity")
        {'code': 'parm', 'queries': '4', 'stragglers': '1', 'role': 'parity'}
    """
    return {
        "code": code.name,
        "queries": str(code.queries),
        "stragglers": str(code.stragglers),
        "role": role,
    }


def check_purpose(path: Path, about: Mapping[str, str]) -> None:
    """Refuses weights whose file says that they were trained for something else.

    Args:
        path: A safetensors file; one that says nothing is taken.
        about: What it shall be for, see ``describe``.

    Raises:
        OwnWeightsError: It says something else, or nothing that can be read.
    """
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(PURPOSE, "{}")
    try:
        said = dict(json.loads(text))
    except (RecursionError, TypeError, ValueError) as error:
        raise OwnWeightsError(
            f"{path}: expected {PURPOSE!r} in its header to be a JSON object, got {text[:80]!r}"
        ) from error
    if any(said.get(key, value) != value for key, value in about.items()):
        found = {key: said[key] for key in about if key in said}
        raise OwnWeightsError(
            f"{path}: expected weights that were trained for {dict(about)}, got some for {found}"
        )


def digest(path: Path) -> str:
    """Names what is in a file of weights, so that a report says which ones it measured.

    Args:
        path: A file of any kind.

    Returns:
        Its sha256 in hexadecimal.
    """
    with path.open("rb") as file:
        found = hashlib.sha256()
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


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
