"""The locator of an archive: how it gets in, and how a worker gets it out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from approxifer_torchserve.codes import Code, LocatingCode, load_locator, make_code
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.staging import ArchiveError

LOCATOR_FILE = "locator.safetensors"
UNCALIBRATED = (
    "no locator is in the archive: this check finds gross faults only (huge numbers, NaN); fit one "
    "with approxifer calibrate and give it by --locator"
)


def put_locator(folder: Path, source: Path, plan: Mapping[str, Any]) -> dict[str, str]:
    """Checks a locator against the plan's code and puts it into an unpacked archive.

    Args:
        folder: The archive's files.
        source: A file of ``save_locator``.
        plan: The archive's plan.

    Returns:
        What the plan's ``worker`` section says of it.

    Raises:
        ConfigError: The file holds no locator, one of another code, or nothing would use it.
    """
    if plan["check"] not in ("screen", "locate"):
        raise ConfigError(
            f"locator: nothing in this archive would use it (check: {plan['check']}, mode: "
            f"{plan['mode']}); set code.byzantine above 0 or policy.verify to parity"
        )
    if plan["code"].get("locator") is not None:
        raise ConfigError(
            "locator: handler.approxifer.code.locator names another one; leave one of them out"
        )
    try:
        locator = load_locator(source)
        _with(make_code(**plan["code"]), locator)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"locator: {error}") from error
    (folder / LOCATOR_FILE).write_bytes(Path(source).read_bytes())
    return {"locator": LOCATOR_FILE, "locator_fingerprint": locator.fingerprint}


def keep_free(folder: Path) -> None:
    """Refuses to write over a file of the user's that has the locator's name."""
    if (folder / LOCATOR_FILE).exists():
        raise ArchiveError(f"the name {LOCATOR_FILE} is taken by the locator; rename yours")


def remove_locator(folder: Path, worker: Mapping[str, Any]) -> None:
    """Takes an earlier locator out of an unpacked archive."""
    if worker.get("locator") is not None:
        (folder / LOCATOR_FILE).unlink(missing_ok=True)


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
        located = _with(code, locator)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{LOCATOR_FILE} of the archive cannot be used ({error}); archive the model again"
        ) from error
    if locator.fingerprint != plan["worker"].get("locator_fingerprint"):
        raise ConfigError(
            f"{LOCATOR_FILE} is not the one that was archived: its numbers differ; archive the "
            "model again"
        )
    return located


def _with(code: Code, locator: Any) -> LocatingCode:
    if not isinstance(code, LocatingCode):
        raise ValueError(f"code {code.name} takes no locator")
    return replace(code, locator=locator)
