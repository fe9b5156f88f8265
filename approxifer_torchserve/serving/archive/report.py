"""What was made of a model, and the command lines that go with it."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from approxifer_torchserve.serving.archive.inspection import Capability
from approxifer_torchserve.serving.archive.packing import Unpacked
from approxifer_torchserve.serving.archive.sample import SampleReport
from approxifer_torchserve.serving.plan import Plan


class ArchiveReport(BaseModel):
    """What was made of a model.

    Attributes:
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

    model_config = ConfigDict(protected_namespaces=())

    path: Path
    model_name: str
    mode: str
    capability: Capability
    plan: Plan
    warnings: list[str] = []
    sample: SampleReport | None = None
    archiver_command: str
    register_command: str


def archiver_command(archive: Unpacked, archive_format: str) -> str:
    """Returns the command that packs the files of an archive where they are unpacked."""
    model = archive.model
    words = ["torch-model-archiver", "--model-name", model["modelName"]]
    words += ["--handler", model["handler"], "--version", str(model.get("modelVersion", "1.0"))]
    named = {model["handler"]}
    for option, key in (
        ("--model-file", "modelFile"),
        ("--serialized-file", "serializedFile"),
        ("--requirements-file", "requirementsFile"),
        ("--config-file", "configFile"),
    ):
        if key in model:
            words += [option, model[key]]
            named.add(model[key])
    files = (path for path in archive.folder.rglob("*") if path.is_file())
    extra = {path.relative_to(archive.folder).parts[0] for path in files}
    words += ["--extra-files", ",".join(sorted(extra - named))]
    words += [] if archive_format == "default" else ["--archive-format", archive_format]
    return shlex.join(words)


def register_command(path: Path) -> str:
    """Returns the command that registers an archive with a server on this machine."""
    url = f"http://127.0.0.1:8081/models?url={path.name}"
    return shlex.join(["curl", "-X", "POST", url])
