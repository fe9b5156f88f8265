"""What was made of a model, and the command lines that go with it."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, computed_field

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
        changes: What was changed in ``model-config.yaml``, as the lines of a unified diff.
        sample: What the self-test found; None without a sample.
        archiver_command: torch-model-archiver's command line that packs the same files.
        initial_workers: How many workers to ask for when it is registered: as many as the code
            wants. None where the user's own ``minWorkers`` says it.
    """

    model_config = ConfigDict(protected_namespaces=())

    path: Path
    model_name: str
    mode: str
    capability: Capability
    plan: Plan
    warnings: list[str] = []
    changes: list[str] = []
    sample: SampleReport | None = None
    archiver_command: str
    initial_workers: int | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def register_command(self) -> str:
        """The command line for curl that registers the archive with a server on this machine."""
        url = f"http://127.0.0.1:8081/models?url={quote(self.path.name)}"
        if self.initial_workers is not None:
            url += f"&initial_workers={self.initial_workers}"
        return shlex.join(["curl", "-X", "POST", url])


def archiver_command(archive: Unpacked, archive_format: str) -> str:
    """Returns the command that packs an archive in its unpacked folder, without MAR-INF."""
    model = archive.model
    words = ["torch-model-archiver", "--model-name", model["modelName"]]
    words += ["--handler", model["handler"], "--version", str(model.get("modelVersion", "1.0"))]
    for option, key in (
        ("--model-file", "modelFile"),
        ("--serialized-file", "serializedFile"),
        ("--requirements-file", "requirementsFile"),
        ("--config-file", "configFile"),
    ):
        if key in model:
            words += [option, model[key]]
    # The whole folder: of a folder that is named itself the archiver packs the files without it.
    words += ["--extra-files", "."]
    words += [] if archive_format == "default" else ["--archive-format", archive_format]
    return shlex.join(words)
