"""Wraps a model into one coded ``.mar``: the user's files, our entry file, the plan.

The archive stays an ordinary one. On a server without the plugin, or with ``enabled: false``, it
answers as the user's handler would. The steps::

    unpack ─▶ settings ─▶ inspect ─▶ plan ─▶ contents ─▶ sample ─▶ pack
                                       ▲                   │
                                       └── cannot be coded ┘
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from approxifer_torchserve.artifacts.report import load_report
from approxifer_torchserve.serving.archive import contents, timing
from approxifer_torchserve.serving.archive.inspection import Capability, inspect_handler
from approxifer_torchserve.serving.archive.options import Existing, Options, Parts
from approxifer_torchserve.serving.archive.packing import ArchiveError, Unpacked, open_source, pack
from approxifer_torchserve.serving.archive.planning import build_plan
from approxifer_torchserve.serving.archive.report import ArchiveReport, archiver_command
from approxifer_torchserve.serving.archive.sample import run_sample
from approxifer_torchserve.serving.archive.settings import Settings, read_settings
from approxifer_torchserve.serving.plan import Plan

__all__ = ["ArchiveError", "ArchiveReport", "Existing", "Options", "Parts", "wrap_archive"]


def wrap_archive(
    source: Parts | Existing,
    options: Options | None = None,
    *,
    export_path: Path,
    archive_format: str = "default",
    force: bool = False,
) -> ArchiveReport:
    """Makes a coded archive of a model's parts, or of an archive that is there.

    Args:
        source: The model.
        options: What the archive shall have beside it; None for defaults.
        export_path: The directory that receives the archive.
        archive_format: As torch-model-archiver's.
        force: Whether to replace an archive that is there.

    Returns:
        What was made.

    Raises:
        ArchiveError: The model cannot be wrapped; says why and what to change.
        ConfigError: A setting is wrong; names its key.
        ReportError: The accuracy report cannot be used, or is of other weights.

    Example:
        >>> wrap_archive(  # doctest: +SKIP
        ...     Existing(path="resnet.mar"),
        ...     Options(approxifer={"code": {"queries": 8, "stragglers": 1}}),
        ...     export_path=Path("store"),
        ... ).mode
        'systematic'
    """
    options = options or Options()
    with tempfile.TemporaryDirectory(prefix="approxifer-archive-") as own:
        archive = _unpack(source, Path(own) / "model")
        contents.keep_names_free(archive)
        replaced = source.config_file if isinstance(source, Existing) else None
        settings = read_settings(archive, options, replaced)
        capability = _inspect(archive, settings)
        plan, warnings = _plan_and_fill(archive, settings, capability, options)
        coded, found = contents.wrapped(archive), None
        if options.sample is not None:
            found = run_sample(coded, options.sample, options.sample_content_type)
            if plan.enabled and capability.codable and not found.codable:
                why = found.reason or "the sample cannot be coded"
                capability = capability.without_interpolation(why)
                plan, warnings = _plan_and_fill(archive, settings, capability, options)
            capability = capability.model_copy(update={"staged": found.staged, "checked": True})
            warnings += timing.misfits(settings, found)
        plan = contents.put_sample(archive.folder, plan, settings, options, found)
        path = pack(coded, export_path, archive_format, force)
        return ArchiveReport(
            path=path,
            model_name=coded.model["modelName"],
            mode=plan.mode,
            capability=capability,
            plan=plan,
            warnings=warnings,
            changes=settings.diff(),
            sample=found,
            archiver_command=archiver_command(coded, archive_format),
            initial_workers=settings.workers_to_ask(plan.worker.workers),
        )


def _unpack(source: Parts | Existing, folder: Path) -> Unpacked:
    """Opens the source; a coded archive only where that is asked for, its wrapping undone."""
    archive = open_source(source, folder)
    if isinstance(source, Existing) and archive.model["handler"] == contents.ENTRY_FILE:
        if not source.rewrap:
            raise ArchiveError("source is a coded archive already; set rewrap to wrap it anew")
        contents.unwrap(archive)
    return archive


def _inspect(archive: Unpacked, settings: Settings) -> Capability:
    runtime = str(archive.manifest.get("runtime", "python"))
    found = inspect_handler(archive.folder, archive.model["handler"], settings.merged, runtime)
    if found.refused:
        raise ArchiveError("this model cannot be served coded: " + "; ".join(found.refused))
    return found


def _plan_and_fill(
    archive: Unpacked, settings: Settings, capability: Capability, options: Options
) -> tuple[Plan, list[str]]:
    """Decides the plan and puts into the archive what it needs; returns it with warnings."""
    report = None if options.report is None else load_report(options.report)
    plan = build_plan(
        settings.config, capability, report, archive.model["handler"], settings.unwrapped
    )
    misfits = settings.warnings(plan.worker.workers)
    workers = settings.integer("minWorkers") or plan.worker.workers
    plan = plan.with_worker(workers=max(1, workers))
    plan, warnings = contents.put_contents(archive, plan, settings, options)
    if report is not None:
        report.check_weights(options.weights)
    return plan, misfits + warnings
