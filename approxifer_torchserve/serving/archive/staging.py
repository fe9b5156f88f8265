"""Opens model archives of any form into a folder, and packs a folder into one.

Packing and copying parts is left to ``model_archiver``; its copy step deletes a folder named after
the model in the machine's temporary directory, so it is given a temporary directory of its own.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MANIFEST = Path("MAR-INF") / "MANIFEST.json"


class ArchiveError(ValueError):
    """An archive cannot be opened, wrapped or written; the message says what to change."""


def archiver() -> Any:
    """Returns ``model_archiver``'s packaging utilities.

    Raises:
        ArchiveError: It is not installed.
    """
    try:
        from model_archiver.model_packaging_utils import ModelExportUtils
    except ImportError:
        raise ArchiveError(
            "torch-model-archiver is not installed; pip install 'approxifer-torchserve[serve]'"
        ) from None
    return ModelExportUtils


def unpack(source: Path, folder: Path) -> dict[str, Any]:
    """Opens a ``.mar``, ``.tar.gz``, ``.tgz`` or unpacked archive into an empty folder.

    Returns:
        The manifest; it is not left in the folder.

    Raises:
        ArchiveError: It is none of these, or has no manifest.
    """
    if not source.exists():
        raise ArchiveError(f"archive: there is no {source}")
    if source.is_dir():
        shutil.copytree(source, folder, dirs_exist_ok=True)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as packed:
            packed.extractall(folder)
    elif tarfile.is_tarfile(source):
        if not hasattr(tarfile, "data_filter"):
            raise ArchiveError("tar archives need Python 3.10.12, 3.11.4 or newer; use a .mar")
        with tarfile.open(source) as tar:
            try:
                tar.extractall(folder, filter="data")
            except tarfile.FilterError as error:
                raise ArchiveError(f"archive {source.name} is not safe to open: {error}") from None
        _lift(folder)
    else:
        raise ArchiveError(f"archive {source.name}: expected a .mar, a .tar.gz or a folder")
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ArchiveError(f"archive {source.name} has no readable {MANIFEST}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("model"), dict):
        raise ArchiveError(f"archive {source.name}: {MANIFEST} has no model section")
    if "handler" not in manifest["model"]:
        raise ArchiveError(f"archive {source.name}: {MANIFEST} names no handler")
    shutil.rmtree(path.parent)
    return manifest


def _lift(folder: Path) -> None:
    # TorchServe's tar archives have one folder at the top.
    entries = list(folder.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and not (folder / MANIFEST).exists():
        inner = entries[0].rename(folder.with_name(folder.name + ".inner"))
        folder.rmdir()
        inner.rename(folder)


def from_parts(
    folder: Path,
    *,
    model_name: str,
    handler: str,
    model_file: Path | None = None,
    serialized_file: Path | None = None,
    extra_files: Sequence[Path | str] = (),
    requirements_file: Path | None = None,
    config_file: Path | None = None,
    version: str = "1.0",
    runtime: str = "python",
) -> dict[str, Any]:
    """Copies a model's parts into an empty folder as torch-model-archiver does.

    Returns:
        The manifest.

    Raises:
        ArchiveError: A part is missing or the name is not allowed; names the argument.
    """
    if runtime not in ("python", "python3"):
        raise ArchiveError(f"runtime: only Python handlers can be wrapped, got {runtime!r}")
    utils = archiver()
    from model_archiver.model_archiver_config import ModelArchiverConfig
    from model_archiver.model_archiver_error import ModelArchiverError

    for argument, path in (
        ("model_file", model_file),
        ("serialized_file", serialized_file),
        ("requirements_file", requirements_file),
        ("config_file", config_file),
    ):
        if path is not None and not path.is_file():
            raise ArchiveError(f"{argument}: there is no file {path}")
    parts = {
        "model_file": _text(model_file),
        "serialized_file": _text(serialized_file),
        "extra_files": ",".join(str(item) for item in extra_files) or None,
        "requirements_file": _text(requirements_file),
        "config_file": _text(config_file),
    }
    # The archiver copies what is before the colon only if it has no ".py".
    copied = handler.split(":", 1)[0]
    config = ModelArchiverConfig(
        model_name=model_name, handler=handler, version=version, runtime=runtime, **parts
    )
    before = tempfile.tempdir
    try:
        utils.check_model_name_regex_or_exit(model_name)
        manifest = json.loads(utils.generate_manifest_json(config))
        with tempfile.TemporaryDirectory() as own:
            tempfile.tempdir = own
            made = utils.copy_artifacts(model_name, runtime, handler=copied, **parts)
            shutil.copytree(made, folder, dirs_exist_ok=True)
    except (ModelArchiverError, OSError, ValueError) as error:
        raise ArchiveError(f"parts cannot be archived: {error}") from None
    finally:
        tempfile.tempdir = before
    return dict(manifest)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def pack(
    folder: Path, manifest: dict[str, Any], export_path: Path, archive_format: str, force: bool
) -> Path:
    """Packs a folder under its manifest's model name.

    Args:
        folder: The files, without manifest.
        manifest: Written into the archive.
        export_path: Existing directory that receives the archive.
        archive_format: ``default`` (compressed .mar), ``zip-store``, ``tgz`` or ``no-archive``.
        force: Replace what is there?

    Returns:
        The archive's path.

    Raises:
        ArchiveError: The format is unknown, or something is there and ``force`` is not set.
    """
    utils = archiver()
    from model_archiver.model_packaging_utils import archiving_options

    if archive_format not in archiving_options:
        known = ", ".join(archiving_options)
        raise ArchiveError(f"archive_format: expected one of {known}, got {archive_format!r}")
    name = manifest["model"]["modelName"]
    target = Path(utils.get_archive_export_path(str(export_path), name, archive_format))
    if target.exists():
        if not force:
            raise ArchiveError(f"{target} is there already; remove it or set force")
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    export_path.mkdir(parents=True, exist_ok=True)
    utils.archive(
        str(export_path), name, str(folder), json.dumps(manifest, indent=2), archive_format
    )
    return target
