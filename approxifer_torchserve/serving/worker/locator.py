"""The code of an archive, with the locator that lies beside its plan."""

from __future__ import annotations

from pathlib import Path

from approxifer_torchserve.artifacts.locator_file import load_locator, with_locator
from approxifer_torchserve.codes import Code
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.plan import Plan


def archived_code(plan: Plan, model_dir: Path) -> Code:
    """Makes the code of a plan, with the archive's locator if it has one.

    Args:
        plan: The archive's plan.
        model_dir: The unpacked archive.

    Raises:
        ConfigError: The locator is missing, broken, or not the one that was archived.
    """
    code = plan.code.make()
    if plan.worker.locator is None:
        return code
    path = model_dir / plan.worker.locator
    try:
        locator = load_locator(path)
        located = with_locator(code, locator)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path.name} of the archive cannot be used ({error}); archive the model again"
        ) from error
    if locator.fingerprint != plan.worker.locator_fingerprint:
        raise ConfigError(
            f"{path.name} is not the one that was archived: its numbers differ; archive the "
            "model again"
        )
    return located
