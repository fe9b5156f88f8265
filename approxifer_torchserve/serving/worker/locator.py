"""The code of an archive, with the locator that lies beside its plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from approxifer_torchserve.artifacts.locator_file import load_locator, with_locator
from approxifer_torchserve.codes import Code, make_code
from approxifer_torchserve.serving.config import ConfigError


def archived_code(plan: Mapping[str, Any]) -> Code:
    """Makes the code of a plan, with the archive's locator if it has one.

    Args:
        plan: From ``read_plan``, which makes the locator's name a path.

    Raises:
        ConfigError: The locator is missing, broken, or not the one that was archived.
    """
    code = make_code(**plan["code"])
    path = plan["worker"].get("locator")
    if path is None:
        return code
    try:
        locator = load_locator(path)
        located = with_locator(code, locator)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{Path(path).name} of the archive cannot be used ({error}); archive the model again"
        ) from error
    if locator.fingerprint != plan["worker"].get("locator_fingerprint"):
        raise ConfigError(
            f"{Path(path).name} is not the one that was archived: its numbers differ; archive the "
            "model again"
        )
    return located
