"""The plan: what plugin and worker must know of an archive, as ``docs/protocol.md`` has it.

Built once, when the archive is made, so that nothing has to be agreed on when a model starts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from approxifer_torchserve import __version__
from approxifer_torchserve.artifacts.report import AccuracyReport, code_key
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.serving.archive.inspection import Capability
from approxifer_torchserve.serving.archive.verification import verification
from approxifer_torchserve.serving.config import ApproxiferConfig, ConfigError

PLAN_FILE = "plan.json"
FORMAT = 1


def build_plan(
    config: ApproxiferConfig,
    capability: Capability,
    report: AccuracyReport | None,
    handler: str = "",
    workers: int | None = None,
) -> dict[str, Any]:
    """Decides the mode and whether a reconstructed answer may be given to a client.

    Args:
        config: The user's settings.
        capability: What the wrapped handler can do.
        report: Accuracy of codes on this model, or None.
        handler: The user's handler as its manifest named it.
        workers: The workers this model will have (threads are shared out among them); None
            means as many as the code wants.

    Raises:
        ConfigError: The code's settings do not make a code, or the handler cannot be wrapped.
    """
    if capability.refused:
        raise ConfigError("; ".join(capability.refused))
    settings = {"name": config.code.name, **config.code.settings()}
    try:
        code = make_code(**settings)
        shape = code.plan()
        wanted = shape.num_workers
        mode, why, models = shape.mode, "", list(code.models)
        if mode in ("systematic", "coded") and not capability.codable:
            why = "not coded: " + "; ".join(capability.reasons)
            shape = make_code("uncoded", queries=config.code.queries, stragglers=0).plan()
            mode, models = shape.mode, ["base"] * shape.num_workers
    except (TypeError, ValueError) as error:
        raise ConfigError(f"handler.approxifer.code: {error}") from error
    roles = sorted(set(code.models) - {"base"})
    if roles and mode != code.mode and config.enabled:
        raise ConfigError(
            f"handler.approxifer.code.name: {code.name} needs weights of its own "
            f"({', '.join(roles)}), and this handler cannot be coded "
            f"({'; '.join(capability.reasons)}); use replication or approxifer"
        )
    checked = verification(config, code, mode, "; ".join(capability.reasons))
    if not config.policy.idempotent and (mode == "coded" or shape.copies > 1):
        raise ConfigError(
            f"handler.approxifer.policy.idempotent: false: {config.code.name} sends each request "
            f"to several workers ({mode}); use systematic ApproxIFER or uncoded"
        )
    if not config.policy.idempotent and "reconstruct" in config.policy.on_late:
        raise ConfigError(
            "handler.approxifer.policy.idempotent: false: parity and decode jobs preprocess each "
            "request again; leave reconstruct out of policy.on_late"
        )
    reconstruct, reason = _reconstruct(mode, config, report)
    policy = config.policy
    if policy.on_wrong == "reconstruct" and config.enabled:
        fine, lacking = _accurate(config, report)
        if not fine:
            raise ConfigError(
                f"handler.approxifer.policy.on_wrong: reconstruct needs a report that allows it "
                f"({lacking}); give one by --report, or set policy.min_degraded_accuracy to 0"
            )
    return {
        "format": FORMAT,
        "package": __version__,
        "enabled": config.enabled,
        "mode": mode,
        "code": settings,
        "queries": shape.queries,
        "num_workers": shape.num_workers,
        "quorum": shape.quorum,
        "copies": shape.copies,
        "systematic": list(shape.systematic),
        "models": models,
        "check": checked.check,
        "agree": checked.agree,
        "screen_quorum": checked.screen_quorum,
        "policy": {
            "late_after_ms": policy.late_after_ms,
            "hedge": "hedge" in policy.on_late,
            "reconstruct": reconstruct,
            "reconstruct_reason": why or reason,
            "group_delay_ms": policy.group_delay_ms,
            "deadline_ms": policy.deadline_ms,
            "prefer_exact_ms": policy.prefer_exact_ms,
            "max_extra_load": policy.max_extra_load,
            "idempotent": policy.idempotent,
            "verify": policy.verify,
            "verify_wait": policy.verify_wait,
            "on_wrong": policy.on_wrong,
            "probe_every_s": policy.probe_every_s,
            "quarantine": policy.quarantine.model_dump(),
        },
        "worker": {
            "handler": handler,
            "envelope": config.envelope,
            "staged": capability.staged,
            "workers": workers or wanted,
            "tolerance": policy.tolerance.model_dump(),
        },
    }


def _reconstruct(
    mode: str, config: ApproxiferConfig, report: AccuracyReport | None
) -> tuple[bool, str]:
    policy = config.policy
    if mode == "coded":
        return True, "every query is coded, so every answer is decoded"
    if mode != "systematic":
        return False, f"a {mode} model has nothing to reconstruct from"
    if "reconstruct" not in policy.on_late:
        return False, "handler.approxifer.policy.on_late does not list reconstruct"
    return _accurate(config, report)


def _accurate(config: ApproxiferConfig, report: AccuracyReport | None) -> tuple[bool, str]:
    """Tells whether decoded answers are good enough for clients, and why."""
    policy = config.policy
    if policy.min_degraded_accuracy == 0:
        return True, "handler.approxifer.policy.min_degraded_accuracy is 0: the user insists"
    if report is None:
        return False, "no report in the archive"
    key = code_key(config.code.name, config.code.settings())
    found = report.codes.get(key) or report.codes.get(config.code.name)
    if found is None:
        return False, f"the report says nothing of {key}"
    needed = policy.min_degraded_accuracy * report.base_accuracy
    said = f"A_d {found.A_d:.3f}, needed {needed:.3f}"
    if found.A_d < needed - 1e-9:  # 0.8 * 0.9 is a little more than 0.72
        return False, f"{said} (min_degraded_accuracy times the base's {report.base_accuracy:.3f})"
    return True, said


def read_plan(model_dir: Path) -> Mapping[str, Any]:
    """Reads ``plan.json`` of an unpacked archive; names of files in it become their paths.

    Raises:
        ConfigError: It is missing, not JSON, or of another format.
    """
    path = model_dir / PLAN_FILE
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{PLAN_FILE} cannot be read ({error}); archive the model again"
        ) from None
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        got = plan.get("format") if isinstance(plan, dict) else type(plan).__name__
        raise ConfigError(
            f"{PLAN_FILE}: expected format {FORMAT}, got {got!r}; archive the model again"
        )
    worker = plan.get("worker", {})
    if worker.get("locator") is not None:
        worker["locator"] = str(model_dir / worker["locator"])
    for role, name in worker.get("weights", {}).items():
        worker["weights"][role] = str(model_dir / name)
    return plan
