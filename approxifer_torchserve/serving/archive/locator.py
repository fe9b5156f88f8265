"""Puts a locator into an archive."""

from __future__ import annotations

from pathlib import Path

from approxifer_torchserve.artifacts.locator_file import load_locator, with_locator
from approxifer_torchserve.serving.archive.staging import ArchiveError
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.plan import Plan, PlanWorker

LOCATOR_FILE = "locator.safetensors"
UNCALIBRATED = (
    "no locator is in the archive: this check finds gross faults only (huge numbers, NaN); fit one "
    "with approxifer calibrate and give it by --locator"
)


def put_locator(folder: Path, source: Path, plan: Plan) -> Plan:
    """Checks a locator against the plan's code and puts it into an unpacked archive.

    Args:
        folder: The archive's files.
        source: A file of ``save_locator``.
        plan: The archive's plan.

    Returns:
        The plan with the locator in it.

    Raises:
        ConfigError: The file holds no locator, one of another code, or nothing would use it.
    """
    if not plan.locates:
        raise ConfigError(
            f"locator: nothing in this archive would use it (check: {plan.check}, mode: "
            f"{plan.mode}); set code.byzantine above 0 or policy.verify to parity"
        )
    if plan.code.settings().get("locator") is not None:
        raise ConfigError(
            "locator: handler.approxifer.code.locator names another one; leave one of them out"
        )
    try:
        locator = load_locator(source)
        with_locator(plan.code.make(), locator)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"locator: {error}") from error
    (folder / LOCATOR_FILE).write_bytes(Path(source).read_bytes())
    return plan.with_worker(locator=LOCATOR_FILE, locator_fingerprint=locator.fingerprint)


def keep_free(folder: Path) -> None:
    """Refuses to write over a file of the user's that has the locator's name."""
    if (folder / LOCATOR_FILE).exists():
        raise ArchiveError(f"the name {LOCATOR_FILE} is taken by the locator; rename yours")


def remove_locator(folder: Path, worker: PlanWorker) -> None:
    """Takes an earlier locator out of an unpacked archive."""
    if worker.locator is not None:
        (folder / LOCATOR_FILE).unlink(missing_ok=True)
