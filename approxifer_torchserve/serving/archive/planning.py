"""Decides how an archive is served: its plan, out of settings, handler and accuracy report.

What cannot be served as it was asked for is refused here, while the archive is made.
"""

from __future__ import annotations

from dataclasses import asdict

from approxifer_torchserve import __version__
from approxifer_torchserve.artifacts.report import AccuracyReport
from approxifer_torchserve.codes import Mode, make_code
from approxifer_torchserve.codes import Plan as Shape
from approxifer_torchserve.serving.archive.inspection import Capability
from approxifer_torchserve.serving.archive.verification import verification
from approxifer_torchserve.serving.config import SECTION, ApproxiferConfig, CodeConfig, ConfigError
from approxifer_torchserve.serving.plan import (
    FORMAT,
    Plan,
    PlanPolicy,
    PlanWorker,
    Unwrapped,
)


def build_plan(
    config: ApproxiferConfig,
    capability: Capability,
    report: AccuracyReport | None,
    handler: str = "",
    unwrapped: Unwrapped | None = None,
) -> Plan:
    """Decides the mode, the check, and whether a reconstructed answer may be given to a client.

    Args:
        config: The user's settings.
        capability: What the wrapped handler can do.
        report: Accuracy of codes on this model, or None.
        handler: The user's handler as its manifest named it.
        unwrapped: What it takes to undo the wrapping.

    Returns:
        A plan for as many workers as the code wants, that names no files of the archive.

    Raises:
        ConfigError: The code's settings do not make a code, the handler cannot be wrapped, or
            what is asked for cannot be had; names the key.
    """
    if capability.refused:
        raise ConfigError("; ".join(capability.refused))
    reasons = "; ".join(capability.reasons)
    try:
        code = config.code.make()
        served = code
        if code.mode in ("systematic", "coded") and not capability.codable:
            served = make_code("uncoded", queries=code.queries, stragglers=0)
        shape = served.plan()
        wanted = code.plan().num_workers
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{SECTION}.code: {error}") from error
    if code.roles and shape.mode != code.mode and config.enabled:
        raise ConfigError(
            f"{SECTION}.code.name: {code.name} needs weights of its own "
            f"({', '.join(code.roles)}), and this handler cannot be coded "
            f"({reasons}); use replication or approxifer"
        )
    checked = verification(config, code, shape.mode, reasons)
    _refuse_second_runs(config, shape)
    reconstruct, reason = _reconstruct(shape.mode, config, report)
    policy = config.policy
    if policy.on_wrong == "reconstruct" and config.enabled:
        fine, lacking = _accurate(config, report)
        if not fine:
            raise ConfigError(
                f"{SECTION}.policy.on_wrong: reconstruct needs a report that allows it "
                f"({lacking}); give one by --report, or set policy.min_degraded_accuracy to 0"
            )
    return Plan(
        format=FORMAT,
        package=__version__,
        enabled=config.enabled,
        mode=shape.mode,
        code=CodeConfig(name=config.code.name, **config.code.settings()),
        queries=shape.queries,
        num_workers=shape.num_workers,
        quorum=shape.quorum,
        copies=shape.copies,
        systematic=shape.systematic,
        models=served.models,
        **asdict(checked),
        policy=PlanPolicy(
            hedge="hedge" in policy.on_late,
            reconstruct=reconstruct,
            reconstruct_reason=reason if served is code else f"not coded: {reasons}",
            **policy.model_dump(include=set(PlanPolicy.model_fields)),
        ),
        worker=PlanWorker(
            handler=handler,
            envelope=config.envelope,
            staged=capability.staged,
            workers=wanted,
            tolerance=policy.tolerance,
            locator=None,
            locator_fingerprint=None,
            weights={},
            warm_up=None,
            unwrapped=unwrapped or Unwrapped(),
        ),
    )


def _refuse_second_runs(config: ApproxiferConfig, shape: Shape) -> None:
    """Raises ``ConfigError`` where a request must run once only and the plan is to run it twice."""
    key = f"{SECTION}.policy.idempotent: false"
    if config.policy.idempotent:
        return
    if shape.mode == "coded" or shape.copies > 1:
        raise ConfigError(
            f"{key}: {config.code.name} sends each request to several workers ({shape.mode}); use "
            "systematic ApproxIFER or uncoded"
        )
    if "reconstruct" in config.policy.on_late:
        raise ConfigError(
            f"{key}: parity and decode jobs preprocess each request again; leave reconstruct out "
            "of policy.on_late"
        )


def _reconstruct(
    mode: Mode, config: ApproxiferConfig, report: AccuracyReport | None
) -> tuple[bool, str]:
    """Tells whether clients may get reconstructed answers, and why."""
    if mode == "coded":
        return True, "every query is coded, so every answer is decoded"
    if mode != "systematic":
        return False, f"a {mode} model has nothing to reconstruct from"
    if "reconstruct" not in config.policy.on_late:
        return False, f"{SECTION}.policy.on_late does not list reconstruct"
    return _accurate(config, report)


def _accurate(config: ApproxiferConfig, report: AccuracyReport | None) -> tuple[bool, str]:
    """Tells whether decoded answers are good enough for clients, and why."""
    policy = config.policy
    if policy.min_degraded_accuracy == 0:
        return True, f"{SECTION}.policy.min_degraded_accuracy is 0: the user insists"
    if report is None:
        return False, "no report in the archive"
    key = config.code.key()
    found = report.codes.get(key) or report.codes.get(config.code.name)
    if found is None:
        return False, f"the report says nothing of {key}"
    needed = policy.min_degraded_accuracy * report.base_accuracy
    said = f"A_d {found.A_d:.3f}, needed {needed:.3f}"
    if found.A_d < needed - 1e-9:  # 0.8 * 0.9 is a little more than 0.72
        return False, f"{said} (min_degraded_accuracy times the base's {report.base_accuracy:.3f})"
    return True, said
