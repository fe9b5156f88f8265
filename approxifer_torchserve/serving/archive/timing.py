"""Holds what a sample took against the times that the user has set."""

from __future__ import annotations

from approxifer_torchserve.serving.archive.sample import SampleReport
from approxifer_torchserve.serving.archive.settings import Settings
from approxifer_torchserve.serving.config import SECTION


def misfits(settings: Settings, found: SampleReport) -> list[str]:
    """Says which settings this model cannot keep to, by what its sample took.

    Args:
        settings: The user's; what is unset is TorchServe's own and not looked at.
        found: What the self-test measured, on this machine and with one request at a time.
    """
    usual = found.milliseconds.get("raw", 0.0)
    first = max(usual, found.first_ms)
    said: list[str] = []
    if not settings.config.enabled:
        return said
    for key, limit in _policy(settings).items():
        if usual > limit:
            said.append(
                f"{SECTION}.policy.{key} is {limit:g} ms, and the sample took {usual:.0f} ms: "
                f"{_CONSEQUENCES[key]}; raise it, or leave it out"
            )
    # A process that warms up has its slow first request before it is up.
    at_start = settings.config.warms_up
    served = usual if at_start else first
    limits = [("responseTimeout", 1000, served), ("clientTimeoutInMills", 1, served)]
    if at_start:
        limits.append(("startupTimeout", 1000, first))
    for key, unit, took in limits:
        limit_ms = unit * (settings.integer(key) or 0)
        if 0 < limit_ms < took:
            which = "the sample" if usual > limit_ms else "the first request to a process"
            said.append(
                f"{key} is {limit_ms} ms, and {which} took {took:.0f} ms: "
                f"{_CONSEQUENCES[key]}; raise it, or leave it out"
            )
    return said


_CONSEQUENCES = {
    "late_after_ms": "every request would be late, and sent again",
    "deadline_ms": "every request would be answered 503",
    "responseTimeout": "TorchServe would restart the worker before it answers",
    "startupTimeout": "TorchServe would restart the worker before it is up",
    "clientTimeoutInMills": "the client would be given up first",
}


def _policy(settings: Settings) -> dict[str, float]:
    """Returns the policy's times that are numbers, in milliseconds."""
    policy = settings.config.policy
    times = {"late_after_ms": policy.late_after_ms, "deadline_ms": policy.deadline_ms}
    return {key: ms for key, ms in times.items() if isinstance(ms, (int, float))}
