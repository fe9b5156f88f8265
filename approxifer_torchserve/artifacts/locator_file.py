"""Locators as files: safetensors for what was fitted, JSON in its header for the rest."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from approxifer_torchserve.codes import Code, LocatingCode, Locator
from approxifer_torchserve.codes.locators.gaussian import GaussianLocator
from approxifer_torchserve.codes.locators.network import NetworkLocator
from approxifer_torchserve.codes.locators.outlier import OutlierLocator
from approxifer_torchserve.codes.locators.rational import RationalLocator
from approxifer_torchserve.codes.locators.residual import ResidualLocator

HEADER = "approxifer_locator"
FORMAT = 2
_KINDS: dict[str, type[Locator]] = {
    "gaussian": GaussianLocator,
    "network": NetworkLocator,
    "outlier": OutlierLocator,
    "rational": RationalLocator,
    "residual": ResidualLocator,
}


def save_locator(locator: Locator, path: str | Path) -> None:
    """Writes a locator to a file.

    Args:
        locator: Any locator of this package.
        path: Where to; by habit ``*.safetensors``.

    Raises:
        OSError: The file cannot be written.
    """
    header = {"format": FORMAT, "kind": locator.kind, "settings": locator.settings()}
    tensors = {name: value.contiguous() for name, value in locator.tensors().items()}
    save_file(tensors, str(path), metadata={HEADER: json.dumps(header, sort_keys=True)})


def load_locator(path: str | Path) -> Locator:
    """Reads a locator from a file; nothing in it is executed.

    Args:
        path: A file of ``save_locator``.

    Returns:
        A locator equal to the one that was saved.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no locator that this version knows.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file of save_locator: {error}") from error
    if text is None:
        raise ValueError(f"{path} must be a file of save_locator: its header has no {HEADER!r}")
    try:
        header = json.loads(text)
        form, kind, settings = header["format"], header["kind"], header["settings"]
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has a broken header: {error!r}") from error
    known = sorted(_KINDS)
    if form != FORMAT or kind not in known:
        raise ValueError(
            f"{path} must be of format {FORMAT} and one of {known}, got format {form!r} "
            f"and kind {kind!r}"
        )
    try:
        return _KINDS[kind].restore(settings, tensors)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds a broken locator of kind {kind!r}: {error!r}") from error


def with_locator(code: Code, locator: Locator) -> LocatingCode:
    """Returns a code that finds wrong answers with this locator.

    Args:
        code: A code that takes a locator.
        locator: A locator that was fitted to answers of this code.

    Raises:
        ValueError: The code takes no locator, or one of another shape.
    """
    if not isinstance(code, LocatingCode):
        raise ValueError(f"code {code.name} takes no locator")
    return code.with_locator(locator)
