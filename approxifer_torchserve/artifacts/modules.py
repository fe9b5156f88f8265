"""The user's own Python code: a name of it, or the one class of a file, and weights that fit it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

COMPILED = "_orig_mod"
"""What torch.compile puts between a module's name and those of its parts."""


class ModelError(ValueError):
    """The model cannot be loaded; the message says what was expected and which option to change."""


def import_name(argument: str, source: str) -> Any:
    """Imports ``module:name``, also from the working directory.

    Args:
        argument: What the name was given for; errors begin with it.
        source: ``module:name``; the module may lie in the working directory.

    Returns:
        What the module has by that name.

    Raises:
        ImportError: There is no such module or name.
    """
    module, _, name = source.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ImportError(f"{argument}: {source!r} cannot be imported: {error}") from error


def make_module(argument: str, path: Path) -> nn.Module:
    """Makes the module whose class is the only one in a file, as TorchServe does.

    Args:
        argument: What the file was given for; errors begin with it.
        path: A Python file, which may import others of its folder.

    Returns:
        What the class makes without arguments.

    Raises:
        ModelError: It is no Python file, has no class or several, or makes no ``nn.Module``.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ModelError(f"{argument}: {path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise ModelError(f"{argument}: {path.name} cannot be imported: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise ModelError(
            f"{argument}: expected one class in {path.name}, as TorchServe does, got {len(classes)}"
        )
    made = classes[0]()
    if not isinstance(made, nn.Module):
        raise ModelError(f"{argument}: the class in {path.name} is no nn.Module")
    return made


def fitting_weights(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor] | None:
    """Picks a module's weights out of those of another that may hold it as an attribute.

    Args:
        state: A state dict, such as a LightningModule's. What torch.compile writes into names
            (``_orig_mod``) is left out, wherever it stands.
        module: The module that the weights shall fit.

    Returns:
        The weights by the module's own names: all of ``state``, else those under the shortest
        prefix (``net.`` and the like) that has these names and no others. None if none has.
    """
    names = set(module.state_dict())
    state = {".".join(p for p in name.split(".") if p != COMPILED): v for name, v in state.items()}
    prefixes = {name[: place + 1] for name in state for place, c in enumerate(name) if c == "."}
    for prefix in ["", *sorted(prefixes, key=len)]:
        fitting = {key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)}
        if set(fitting) == names:
            return fitting
    return None
