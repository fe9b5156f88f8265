"""What `wrap_archive` is given: the model, and what its archive shall have beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Parts(_Given):
    """A model in parts, as torch-model-archiver takes it.

    Attributes:
        model_name: The model's name.
        handler: The user's handler file, or the name of one of TorchServe's.
        model_file: The model's architecture.
        serialized_file: Its weights.
        extra_files: Whatever else the handler reads.
        requirements_file: Packages to install at registration.
        config_file: A ``model-config.yaml``.
        version: The model's version.
        runtime: ``python`` or ``python3``.
    """

    model_name: str
    handler: str
    model_file: Path | None = None
    serialized_file: Path | None = None
    extra_files: tuple[Path | str, ...] = ()
    requirements_file: Path | None = None
    config_file: Path | None = None
    version: str = "1.0"
    runtime: str = "python"


class Existing(_Given):
    """An archive that is there.

    Attributes:
        path: A ``.mar``, a ``.tar.gz`` or an unpacked archive.
        model_name: A new name for the model; None leaves it its own.
        version: A new version; None leaves it its own.
        config_file: A ``model-config.yaml`` that replaces the archive's.
        rewrap: Whether the archive may be a coded one, whose wrapping is undone first.
    """

    path: Path
    model_name: str | None = None
    version: str | None = None
    config_file: Path | None = None
    rewrap: bool = False


class Options(_Given):
    """What a coded archive shall have beside the model.

    Attributes:
        settings: Further top-level keys of ``model-config.yaml``, such as ``batchSize``.
        approxifer: Settings for ``handler.approxifer``, merged over the file's section by section.
        report: An accuracy report that may allow reconstruction.
        locator: A locator of ``approxifer calibrate`` (``save_locator``) for this model and code;
            None for the code's own, which finds gross faults only.
        weights: Files with the weights of a code's roles, such as ParM's ``parity``: TorchScript,
            or safetensors for the model's own architecture.
        sample: A request body to try the wrapped handler on, in a process of its own; workers warm
            up on it.
        sample_content_type: Its content type; None to go by the file's name.
    """

    settings: dict[str, Any] = {}
    approxifer: dict[str, Any] = {}
    report: Path | None = None
    locator: Path | None = None
    weights: dict[str, Path] = {}
    sample: Path | None = None
    sample_content_type: str | None = None
