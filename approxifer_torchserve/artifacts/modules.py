"""Names of the user's own Python code, imported from where the command runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def import_name(argument: str, source: str) -> Any:
    """Imports ``module:name``, also from the working directory.

    Args:
        argument: What the name was given for; errors begin with it.
        source: The name.

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
