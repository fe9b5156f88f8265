"""Wraps a model into one coded ``.mar``: the user's files, our entry file, the plan.

The archive stays an ordinary one. On a server without the plugin, or with ``enabled: false``, it
answers as the user's handler would.
"""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from approxifer_torchserve.artifacts.report import AccuracyReport, ReportError, load_report
from approxifer_torchserve.serving.archive import staging
from approxifer_torchserve.serving.archive.inspection import (
    Capability,
    handler_file,
    inspect_handler,
)
from approxifer_torchserve.serving.archive.locator import (
    UNCALIBRATED,
    keep_free,
    put_locator,
    remove_locator,
)
from approxifer_torchserve.serving.archive.planning import build_plan
from approxifer_torchserve.serving.archive.probe import remove_probe, write_probe
from approxifer_torchserve.serving.archive.sample import SampleReport, content_type_of, run_sample
from approxifer_torchserve.serving.archive.staging import ArchiveError
from approxifer_torchserve.serving.archive.weights import keep_free as keep_weights_free
from approxifer_torchserve.serving.archive.weights import put_weights, remove_weights
from approxifer_torchserve.serving.config import ConfigError, load_config
from approxifer_torchserve.serving.plan import PLAN_FILE, Plan, Unwrapped

ENTRY_FILE = "approxifer_handler.py"
REPORT_FILE = "approxifer-report.json"
CONFIG_FILE = "model-config.yaml"
BATCH_SIZE = 8
# TorchServe's own default. Our queue's polls return at once whatever it is; a server without the
# plugin would hold lone requests back for all of it.
MAX_BATCH_DELAY_MS = 100
LEAST_RESPONSE_TIMEOUT_S = 10
DEADLINES_PER_TIMEOUT = 3


class ArchiveReport(BaseModel):
    """What was made of a model.

    Args:
        path: The archive.
        model_name: As its manifest names it.
        mode: How it will be served: systematic, coded, replicated or uncoded.
        capability: What its handler can do, and why not more.
        plan: The plan that is in the archive.
        warnings: Settings that were kept although they do not fit.
        sample: What the self-test found; None without a sample.
        archiver_command: torch-model-archiver's command line that packs the same files.
        register_command: curl's command line that registers the archive.
    """

    path: Path
    model_name: str
    mode: str
    capability: Capability
    plan: Plan
    warnings: list[str] = []
    sample: SampleReport | None = None
    archiver_command: str
    register_command: str


def wrap_archive(
    source: Path | None = None,
    *,
    export_path: Path,
    model_name: str | None = None,
    handler: str | None = None,
    model_file: Path | None = None,
    serialized_file: Path | None = None,
    extra_files: Sequence[Path | str] = (),
    requirements_file: Path | None = None,
    config_file: Path | None = None,
    version: str | None = None,
    runtime: str = "python",
    settings: Mapping[str, Any] | None = None,
    approxifer: Mapping[str, Any] | None = None,
    report: Path | None = None,
    locator: Path | None = None,
    weights: Mapping[str, Path] | None = None,
    sample: Path | None = None,
    sample_content_type: str | None = None,
    archive_format: str = "default",
    force: bool = False,
    rewrap: bool = False,
) -> ArchiveReport:
    """Makes a coded archive of an existing archive, or of a model's parts.

    Args:
        source: An existing ``.mar``, ``.tar.gz`` or unpacked archive; None to use the parts.
        export_path: Directory that receives the archive.
        model_name: Name of the model; needed with parts, and otherwise renames it.
        handler: With parts: the user's handler file or the name of one of TorchServe's.
        model_file: With parts: the model's architecture.
        serialized_file: With parts: its weights.
        extra_files: With parts: whatever else the handler reads.
        requirements_file: With parts: packages to install at registration.
        config_file: A ``model-config.yaml``; with ``source`` it replaces the archive's.
        version: The model's version; ``1.0`` with parts, else the archive's own.
        runtime: With parts: ``python`` or ``python3``.
        settings: Further top-level keys of ``model-config.yaml``, such as ``batchSize``.
        approxifer: Settings for ``handler.approxifer``, merged over the file's section by section.
        report: Accuracy report that may allow reconstruction.
        locator: A locator of ``approxifer calibrate`` (``save_locator``) for this model and code;
            None for the code's own, which finds gross faults only.
        weights: Files with the weights of a code's roles, such as ParM's ``parity``: TorchScript,
            or safetensors for the model's own architecture.
        sample: A request body to try the wrapped handler on, in a process of its own.
        sample_content_type: Its content type; None to go by the file's name.
        archive_format: As torch-model-archiver's.
        force: Replace an archive that is there.
        rewrap: ``source`` is a coded archive: undo its wrapping first.

    Returns:
        What was made.

    Raises:
        ArchiveError: The model cannot be wrapped; says why and what to change.
        ConfigError: A setting is wrong; names its key.
    """
    with tempfile.TemporaryDirectory(prefix="approxifer-archive-") as own:
        folder = Path(own) / "model"
        folder.mkdir()
        if source is not None:
            _only_parts(handler, model_file, serialized_file, requirements_file, extra_files)
            manifest = staging.unpack(Path(source), folder)
            _unwrap(folder, manifest, rewrap)
        else:
            if model_name is None or handler is None:
                raise ArchiveError("expected either source, or model_name and handler")
            manifest = staging.from_parts(
                folder,
                model_name=model_name,
                handler=handler,
                model_file=model_file,
                serialized_file=serialized_file,
                extra_files=extra_files,
                requirements_file=requirements_file,
                config_file=config_file,
                version=version or "1.0",
                runtime=runtime,
            )
        model = manifest["model"]
        if model_name is not None:
            model["modelName"] = model_name
        if version is not None:
            model["modelVersion"] = version
        if source is not None and config_file is not None:
            model["configFile"] = CONFIG_FILE
            (folder / CONFIG_FILE).write_bytes(Path(config_file).read_bytes())
        user_handler = model["handler"]
        if (folder / ENTRY_FILE).exists() or handler_file(user_handler) == ENTRY_FILE:
            raise ArchiveError(f"the name {ENTRY_FILE} is taken by the entry file; rename yours")
        user_yaml = _read_yaml(folder, model.get("configFile"))
        unwrapped = Unwrapped(configFile=model.get("configFile"), yaml=user_yaml)
        merged = _merge(user_yaml, settings or {}, approxifer or {})
        config = load_config(merged)
        capability = inspect_handler(
            folder, user_handler, merged, str(manifest.get("runtime", "python"))
        )
        if capability.refused:
            raise ArchiveError(
                "this model cannot be served coded: " + "; ".join(capability.refused)
            )
        accuracy = None if report is None else _load_report(Path(report))
        if report is not None:
            (folder / REPORT_FILE).write_bytes(Path(report).read_bytes())
        if locator is not None:
            keep_free(folder)
        keep_weights_free(folder)
        (folder / ENTRY_FILE).write_bytes(_entry_file().read_bytes())

        def write(found: Capability) -> tuple[Plan, list[str]]:
            plan = build_plan(config, found, accuracy, user_handler, unwrapped)
            workers = plan.worker.workers
            yaml_, warnings = _defaults(merged, config.enabled, workers, config.policy.deadline_ms)
            plan = plan.with_worker(workers=int(yaml_.get("minWorkers", workers)))
            if locator is not None:
                plan = put_locator(folder, Path(locator), plan)
            elif plan.locates:
                warnings.append(UNCALIBRATED)
            plan = put_weights(folder, weights or {}, plan, model)
            if accuracy is not None:
                _check_weights(accuracy, weights or {})
            if plan.worker.weights and not plan.policy.reconstruct:
                warnings.append(f"no parity is used: {plan.policy.reconstruct_reason}")
            plan.write(folder)
            name = model.get("configFile") or CONFIG_FILE
            text = yaml.safe_dump(yaml_, sort_keys=False)
            (folder / name).write_text(text, encoding="utf-8")
            return plan, warnings

        plan, warnings = write(capability)
        wrapped = {**manifest, "model": {**model, "handler": ENTRY_FILE}}
        wrapped["model"]["configFile"] = model.get("configFile") or CONFIG_FILE
        found = None
        if config.policy.probe_every_s > 0 and sample is None:
            raise ConfigError(
                "handler.approxifer.policy.probe_every_s: probes need a sample request (--sample)"
            )
        if sample is not None:
            found = run_sample(folder, wrapped, Path(sample), sample_content_type)
            if capability.codable and not found.codable:
                why = found.reason or "the sample cannot be coded"
                capability = capability.without_interpolation(why)
                plan, warnings = write(capability)
            capability = capability.model_copy(update={"staged": found.staged, "checked": True})
            if config.policy.probe_every_s > 0:
                if not found.known_prediction:
                    raise ConfigError(
                        "handler.approxifer.policy.probe_every_s: this handler's predictions "
                        f"cannot be had for probes: {found.reason}"
                    )
                kind = sample_content_type or content_type_of(Path(sample))
                write_probe(folder, Path(sample), kind, bytes.fromhex(found.known_prediction))
        path = staging.pack(folder, wrapped, Path(export_path), archive_format, force)
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return ArchiveReport(
        path=path,
        model_name=wrapped["model"]["modelName"],
        mode=plan.mode,
        capability=capability,
        plan=plan,
        warnings=warnings,
        sample=found,
        archiver_command=_archiver_command(wrapped, files, archive_format),
        register_command=_register_command(path),
    )


def _only_parts(*parts: Any) -> None:
    if any(parts):
        raise ArchiveError(
            "handler, model_file, serialized_file, requirements_file and extra_files go with parts "
            "only; source has its own"
        )


def _unwrap(folder: Path, manifest: dict[str, Any], rewrap: bool) -> None:
    """Undoes an earlier wrapping, if it is allowed to."""
    model = manifest["model"]
    if model["handler"] != ENTRY_FILE:
        return
    if not rewrap:
        raise ArchiveError("source is a coded archive already; set rewrap to wrap it anew")
    try:
        worker = Plan.read(folder).worker
        model["handler"] = worker.handler
        (folder / model.pop("configFile")).unlink()
        if worker.unwrapped.configFile is not None:
            model["configFile"] = worker.unwrapped.configFile
            text = yaml.safe_dump(worker.unwrapped.yaml, sort_keys=False)
            (folder / worker.unwrapped.configFile).write_text(text, encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"source: its {PLAN_FILE} does not say what was wrapped") from error
    (folder / PLAN_FILE).unlink()
    (folder / ENTRY_FILE).unlink(missing_ok=True)
    (folder / REPORT_FILE).unlink(missing_ok=True)
    remove_locator(folder, worker)
    remove_weights(folder, worker)
    remove_probe(folder)


def _load_report(path: Path) -> AccuracyReport:
    try:
        return load_report(path)
    except ReportError as error:
        raise ConfigError(str(error)) from None


def _check_weights(report: AccuracyReport, weights: Mapping[str, Path]) -> None:
    try:
        report.check_weights(weights)
    except ReportError as error:
        raise ConfigError(str(error)) from None


def _read_yaml(folder: Path, name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    try:
        read = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
    except OSError:
        raise ArchiveError(f"the manifest names {name}, which is not in the archive") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {error}") from None
    if read is not None and not isinstance(read, dict):
        raise ConfigError(f"{name}: expected a mapping, got {type(read).__name__}")
    return read or {}


def _merge(
    user: Mapping[str, Any], settings: Mapping[str, Any], approxifer: Mapping[str, Any]
) -> dict[str, Any]:
    merged = {**user, **settings}
    handler = merged.get("handler") or {}
    if not isinstance(handler, Mapping):
        raise ConfigError(f"handler: expected a mapping, got {type(handler).__name__}")
    section = handler.get("approxifer") or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"handler.approxifer: expected a mapping, got {type(section).__name__}")
    section = dict(section)
    for key, value in approxifer.items():
        old = section.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = {**old, **value}
        section[key] = value
    return {**merged, "handler": {**handler, "approxifer": section}}


def _defaults(
    user: Mapping[str, Any], enabled: bool, workers: int, deadline_ms: float
) -> tuple[dict[str, Any], list[str]]:
    """Adds what a coded model needs, unless the user has set it; nothing if not enabled."""
    result = dict(user)
    if not enabled:
        return result, []
    timeout = math.ceil(DEADLINES_PER_TIMEOUT * deadline_ms / 1000)
    minimum = int(result.get("minWorkers", result.get("maxWorkers", workers)))
    result.setdefault("minWorkers", minimum)
    result.setdefault("maxWorkers", max(minimum, workers))
    result.setdefault("batchSize", BATCH_SIZE)
    result.setdefault("maxBatchDelay", MAX_BATCH_DELAY_MS)
    result.setdefault("responseTimeout", max(LEAST_RESPONSE_TIMEOUT_S, timeout))
    warnings = []
    if minimum < workers:
        warnings.append(f"minWorkers is {minimum}; the code wants {workers} distinct workers")
    if result["responseTimeout"] * 1000 < deadline_ms:
        warnings.append(
            f"responseTimeout is {result['responseTimeout']} s, below deadline_ms {deadline_ms}"
        )
    if result["maxBatchDelay"] <= 0:
        warnings.append("maxBatchDelay is 0: TorchServe then never batches more than 2 requests")
    return result, warnings


def _entry_file() -> Path:
    return handlers_folder() / ENTRY_FILE


def handlers_folder() -> Path:
    """Returns the folder of the entry files, installed or in a checkout."""
    try:
        return Path(str(resources.files("approxifer_torchserve.handlers")))
    except ModuleNotFoundError:
        return Path(__file__).parents[2] / "handlers"


def _archiver_command(manifest: Mapping[str, Any], files: Sequence[str], form: str) -> str:
    model = manifest["model"]
    words = ["torch-model-archiver", "--model-name", model["modelName"], "--handler", ENTRY_FILE]
    words += ["--version", str(model.get("modelVersion", "1.0"))]
    named = {ENTRY_FILE}
    for option, key in (
        ("--model-file", "modelFile"),
        ("--serialized-file", "serializedFile"),
        ("--requirements-file", "requirementsFile"),
        ("--config-file", "configFile"),
    ):
        if key in model:
            words += [option, model[key]]
            named.add(model[key])
    extra = sorted({f.split("/")[0] for f in files} - named)
    words += ["--extra-files", ",".join(extra)]
    words += [] if form == "default" else ["--archive-format", form]
    return shlex.join(words)


def _register_command(path: Path) -> str:
    url = f"http://127.0.0.1:8081/models?url={path.name}"
    return shlex.join(["curl", "-X", "POST", url])
