"""What a coded archive carries beside the user's files: how it gets in, and out again.

The entry file and the plan always; a model-config.yaml where it differs from the user's; and, where
they are given or asked for, the accuracy report, a locator, the weights of a code's roles
(``archive.weights``), and the sample: the request on which workers warm up, and the known query
that every worker is asked now and then if the plan asks for probes. ``probe.json`` is there only
then, and the plugin reads it (docs/protocol.md).

All of it lies in one folder, but for the two files that TorchServe looks for at the top.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from importlib import resources
from pathlib import Path

from approxifer_torchserve.artifacts.locator_file import load_locator, with_locator
from approxifer_torchserve.serving.archive.inspection import handler_file
from approxifer_torchserve.serving.archive.options import Options
from approxifer_torchserve.serving.archive.packing import ArchiveError, Unpacked
from approxifer_torchserve.serving.archive.sample import SampleReport, content_type_of
from approxifer_torchserve.serving.archive.settings import CONFIG_FILE, Settings
from approxifer_torchserve.serving.archive.weights import put_weights
from approxifer_torchserve.serving.config import SECTION, ConfigError
from approxifer_torchserve.serving.plan import FOLDER, PLAN_FILE, PREDICTIONS, Plan, WarmUp

ENTRY_FILE = "approxifer_handler.py"
REPORT_FILE = f"{FOLDER}/report.json"
LOCATOR_FILE = f"{FOLDER}/locator.safetensors"
PROBE_FILE = f"{FOLDER}/probe.json"
BODY_FILE = f"{FOLDER}/sample.body"
PREDICTION_FILE = f"{FOLDER}/probe.safetensors"
UNCALIBRATED = (
    "no locator is in the archive: this check finds gross faults only (huge numbers, NaN); fit one "
    "with approxifer calibrate and give it by --locator"
)


def keep_names_free(archive: Unpacked) -> None:
    """Raises ``ArchiveError`` where a file of the user's would be written over."""
    handler = handler_file(archive.model["handler"])
    for name in (FOLDER, ENTRY_FILE, CONFIG_FILE):
        if (archive.folder / name).exists() or handler == name:
            raise ArchiveError(f"the name {name} is taken by what wrapping adds; rename yours")


def put_contents(
    archive: Unpacked, plan: Plan, settings: Settings, options: Options
) -> tuple[Plan, list[str]]:
    """Puts all but the sample into an archive; a second call replaces what the first put in.

    Args:
        archive: The user's files.
        plan: How it is served.
        settings: The ``model-config.yaml`` of the coded model.
        options: The user's files for it.

    Returns:
        The plan as it lies in the archive, with the names of files in it, and warnings.

    Raises:
        ConfigError: A file is not what this plan needs; says which option to change.
        ArchiveError: The handler cannot use weights of a role.
    """
    folder, warnings = archive.folder, []
    (folder / FOLDER).mkdir(exist_ok=True)
    entry = resources.files("approxifer_torchserve.handlers").joinpath(ENTRY_FILE)
    (folder / ENTRY_FILE).write_bytes(entry.read_bytes())
    if options.report is not None:
        (folder / REPORT_FILE).write_bytes(options.report.read_bytes())
    if options.locator is not None:
        plan = _put_locator(folder, options.locator, plan)
    elif plan.locates:
        warnings.append(UNCALIBRATED)
    plan = put_weights(archive, options.weights, plan)
    if plan.worker.weights and not plan.policy.reconstruct:
        warnings.append(f"no parity is used: {plan.policy.reconstruct_reason}")
    plan.write(folder)
    if settings.changed:
        settings.write(folder)
    return plan, warnings


def _put_locator(folder: Path, source: Path, plan: Plan) -> Plan:
    """Checks a file of ``save_locator`` against the plan's code and puts it in."""
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
    (folder / LOCATOR_FILE).write_bytes(source.read_bytes())
    return plan.with_worker(locator=LOCATOR_FILE, locator_fingerprint=locator.fingerprint)


def put_sample(
    folder: Path, plan: Plan, settings: Settings, options: Options, found: SampleReport | None
) -> Plan:
    """Puts the sample in if workers warm up on it, or if the plan asks for probes.

    Args:
        folder: The archive's files.
        plan: How it is served.
        settings: The user's; they may do without warm-up.
        options: What was asked for, with the sample.
        found: What became of it; None without one.

    Returns:
        The plan as it lies in the archive, which says what workers warm up on.

    Raises:
        ConfigError: Probes are asked for, and there is no sample, or its prediction cannot be had.
    """
    if not plan.enabled:
        return plan
    probed, warms_up = plan.policy.probe_every_s > 0, settings.config.warms_up
    if probed:
        _put_probe(folder, options, found)
    if options.sample is None or not (probed or warms_up):
        return plan
    (folder / BODY_FILE).write_bytes(options.sample.read_bytes())
    if warms_up:
        kind = options.sample_content_type or content_type_of(options.sample)
        plan = plan.with_worker(warm_up=WarmUp(file=BODY_FILE, content_type=kind))
        plan.write(folder)
    return plan


def _put_probe(folder: Path, options: Options, found: SampleReport | None) -> None:
    """Puts in what makes the sample a known query: the model's prediction for it."""
    key = f"{SECTION}.policy.probe_every_s"
    if options.sample is None or found is None:
        raise ConfigError(f"{key}: probes need a sample request (--sample)")
    if not found.known_prediction:
        raise ConfigError(
            f"{key}: this handler's predictions cannot be had for probes: {found.reason}"
        )
    (folder / PREDICTION_FILE).write_bytes(bytes.fromhex(found.known_prediction))
    kind = options.sample_content_type or content_type_of(options.sample)
    probe = {
        "headers": PREDICTIONS,
        "parameters": [{"name": "body", "content_type": kind, "file": BODY_FILE}],
        "prediction": PREDICTION_FILE,
    }
    (folder / PROBE_FILE).write_text(json.dumps(probe, indent=1), encoding="utf-8")


def wrapped(archive: Unpacked) -> Unpacked:
    """Returns the archive under the manifest of a coded one, which names our entry file."""
    model = {**archive.model, "handler": ENTRY_FILE}
    if (archive.folder / CONFIG_FILE).exists():
        model["configFile"] = CONFIG_FILE
    return dataclasses.replace(archive, manifest={**archive.manifest, "model": model})


def unwrap(archive: Unpacked) -> None:
    """Takes everything that an earlier wrapping put in out of an archive again.

    Raises:
        ArchiveError: Its plan does not say what was wrapped.
    """
    folder, model = archive.folder, archive.model
    try:
        worker = Plan.read(folder).worker
    except ConfigError as error:
        raise ArchiveError(
            f"source: its {PLAN_FILE} does not say what was wrapped ({error})"
        ) from error
    model["handler"] = worker.handler
    model["configFile"] = worker.unwrapped.configFile
    if model["configFile"] is None:
        del model["configFile"]
    shutil.rmtree(folder / FOLDER)
    for name in (ENTRY_FILE, CONFIG_FILE):
        (folder / name).unlink(missing_ok=True)
