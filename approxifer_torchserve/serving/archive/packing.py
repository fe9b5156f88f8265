"""Opens model archives of any form into a folder, and packs a folder into one.

An archive may come from anybody: whatever its members, links and manifest name must lie inside it.
Packing and copying parts is left to ``model_archiver``; its copy step deletes a folder named after
the model in the machine's temporary directory, so it is given a temporary directory of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from approxifer_torchserve.serving.archive.options import Existing, Parts
from approxifer_torchserve.serving.plan import check_inside

MANIFEST = Path("MAR-INF") / "MANIFEST.json"
FILE_KEYS = ("modelFile", "serializedFile", "requirementsFile", "configFile")
"""Keys of a manifest's section ``model`` that name files of the archive."""
_BROKEN = (
    OSError,
    EOFError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # a compression that Python has not
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class ArchiveError(ValueError):
    """An archive cannot be opened, wrapped or written; the message says what to change."""


def _archiver() -> Any:
    """Returns ``model_archiver``'s packaging utilities."""
    try:
        from model_archiver.model_packaging_utils import ModelExportUtils
    except ImportError:
        raise ArchiveError(
            "torch-model-archiver is not installed; pip install 'approxifer-torchserve[serve]'"
        ) from None
    return ModelExportUtils


@dataclass(frozen=True)
class Unpacked:
    """An archive while it is being wrapped.

    Attributes:
        folder: Its files, without the manifest.
        manifest: What its ``MANIFEST.json`` holds.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def model(self) -> dict[str, Any]:
        """The manifest's section ``model``."""
        return self.manifest["model"]  # type: ignore[no-any-return]


def open_source(source: Parts | Existing, folder: Path) -> Unpacked:
    """Puts a model's files into a folder of their own.

    Args:
        source: The model.
        folder: Receives the files; it does not exist yet, its parent does.

    Returns:
        The files, with the manifest under the name and version that were asked for.

    Raises:
        ArchiveError: The source is no archive, a part is missing, or something in it leads out of
            it; says what to change.
    """
    folder.mkdir()
    if isinstance(source, Parts):
        return Unpacked(folder, _from_parts(source, folder))
    found = Unpacked(folder, _from_archive(source.path, folder))
    renamed = {"modelName": source.model_name, "modelVersion": source.version}
    found.model.update({key: value for key, value in renamed.items() if value is not None})
    _check_names(found, source.path.name)
    return found


def _from_archive(source: Path, folder: Path) -> dict[str, Any]:
    if not source.exists():
        raise ArchiveError(f"archive: there is no {source}")
    unpack: Callable[[Path, Path], None]
    if source.is_dir():
        unpack = _copy_folder
    elif zipfile.is_zipfile(source):
        unpack = _unzip
    elif tarfile.is_tarfile(source):
        unpack = _untar
    else:
        raise ArchiveError(f"archive {source.name}: expected a .mar, a .tar.gz or a folder")
    try:
        unpack(source, folder)
    except _BROKEN as error:
        raise ArchiveError(f"archive {source.name} cannot be opened: {error}") from error
    path = folder / MANIFEST
    if (folder / "WAR-INF").is_dir():
        raise ArchiveError(
            f"archive {source.name} is a workflow: wrap a model's own archive. As a node of a "
            "workflow a coded archive is served plainly"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ArchiveError(f"archive {source.name} has no readable {MANIFEST}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("model"), dict):
        raise ArchiveError(f"archive {source.name}: {MANIFEST} has no model section")
    if "handler" not in manifest["model"]:
        raise ArchiveError(f"archive {source.name}: {MANIFEST} names no handler")
    shutil.rmtree(path.parent)
    return manifest


def _copy_folder(source: Path, folder: Path) -> None:
    top = source.resolve()
    # Links are followed: what they lead to would be packed, wherever it is.
    for path in source.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(top):
            raise ArchiveError(
                f"archive {source.name}: {path.relative_to(source)} is a link that leads out of "
                "the archive; put the file itself there"
            )
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _unzip(source: Path, folder: Path) -> None:
    with zipfile.ZipFile(source) as packed:
        for name in packed.namelist():
            # Python would drop the dots, TorchServe refuses the archive.
            _inside(source.name, "its member", name)
        packed.extractall(folder)


def _untar(source: Path, folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise ArchiveError("tar archives need Python 3.10.12, 3.11.4 or newer; use a .mar")
    with tarfile.open(source) as tar:
        try:
            tar.extractall(folder, filter="data")
        except tarfile.FilterError as error:
            raise ArchiveError(f"archive {source.name} is not safe to open: {error}") from None
    _lift(folder)


def _lift(folder: Path) -> None:
    # TorchServe's tar archives have one folder at the top.
    entries = list(folder.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and not (folder / MANIFEST).exists():
        inner = entries[0].rename(folder.with_name(folder.name + ".inner"))
        folder.rmdir()
        inner.rename(folder)


def _inside(archive: str, what: str, name: object) -> None:
    try:
        if not isinstance(name, str):
            raise ValueError("expected the name of a file inside the archive")
        check_inside(name)
    except ValueError as error:
        raise ArchiveError(f"archive {archive}: {what} {name!r}: {error}") from None


def _check_names(archive: Unpacked, name: str) -> None:
    """Sees that a manifest names nothing outside its archive, which we would read or write."""
    model = archive.model
    for key in ("modelName", "handler"):
        if not isinstance(model.get(key), str):
            raise ArchiveError(f"archive {name}: {key}: expected a name, got {model.get(key)!r}")
    for key in FILE_KEYS:
        if model.get(key) is None:
            model.pop(key, None)
        else:
            _inside(name, f"{key} of its manifest,", model[key])
    _check_model_name(model["modelName"])


def _check_model_name(name: str) -> None:
    from model_archiver.model_archiver_error import ModelArchiverError

    try:
        _archiver().check_model_name_regex_or_exit(name)
        if name.endswith("\n"):  # which the archiver's expression lets through
            raise ModelArchiverError("a line break at its end")
    except ModelArchiverError as error:
        raise ArchiveError(
            f"model name {name!r}: {str(error).splitlines()[0]}; give another with --model-name"
        ) from None


def _from_parts(parts: Parts, folder: Path) -> dict[str, Any]:
    """Copies a model's parts as torch-model-archiver does; returns the manifest."""
    if parts.runtime not in ("python", "python3"):
        raise ArchiveError(f"runtime: only Python handlers can be wrapped, got {parts.runtime!r}")
    utils = _archiver()
    from model_archiver.model_archiver_config import ModelArchiverConfig
    from model_archiver.model_archiver_error import ModelArchiverError

    files: dict[str, str | None] = {}
    for argument in ("model_file", "serialized_file", "requirements_file", "config_file"):
        path = getattr(parts, argument)
        if path is not None and not path.is_file():
            raise ArchiveError(f"{argument}: there is no file {path}")
        files[argument] = None if path is None else str(path)
    files["extra_files"] = ",".join(str(item) for item in parts.extra_files) or None
    # The archiver copies what is before the colon only if it has no ".py".
    copied = parts.handler.split(":", 1)[0]
    config = ModelArchiverConfig(
        model_name=parts.model_name,
        handler=parts.handler,
        version=parts.version,
        runtime=parts.runtime,
        **files,
    )
    _check_model_name(parts.model_name)
    before = tempfile.tempdir
    try:
        manifest = json.loads(utils.generate_manifest_json(config))
        with tempfile.TemporaryDirectory() as own:
            tempfile.tempdir = own
            made = utils.copy_artifacts(parts.model_name, parts.runtime, handler=copied, **files)
            shutil.copytree(made, folder, dirs_exist_ok=True)
        # Of an archive that is packed again; pack() writes a manifest of its own.
        shutil.rmtree(folder / MANIFEST.parent, ignore_errors=True)
    except (ModelArchiverError, OSError, ValueError) as error:
        raise ArchiveError(f"parts cannot be archived: {error}") from None
    finally:
        tempfile.tempdir = before
    return dict(manifest)


def pack(archive: Unpacked, export_path: Path, archive_format: str, force: bool) -> Path:
    """Packs an archive under its manifest's model name.

    It is written beside its place and moved there whole: what was there stays until then.

    Args:
        archive: The files, and the manifest that is written beside them.
        export_path: The directory that receives the archive; made if missing.
        archive_format: ``default`` (compressed .mar), ``zip-store``, ``tgz`` or ``no-archive``.
        force: Whether to replace what is there.

    Returns:
        The archive's path.

    Raises:
        ArchiveError: The format is unknown, or something is there and ``force`` is not set.
        OSError: It cannot be written; what was there is as it was.
    """
    utils = _archiver()
    from model_archiver.model_packaging_utils import archiving_options

    if archive_format not in archiving_options:
        known = ", ".join(archiving_options)
        raise ArchiveError(f"archive_format: expected one of {known}, got {archive_format!r}")
    name = archive.model["modelName"]
    target = Path(utils.get_archive_export_path(str(export_path), name, archive_format))
    if target.exists() and not force:
        raise ArchiveError(f"{target} is there already; remove it or set force")
    export_path.mkdir(parents=True, exist_ok=True)
    manifest = json.dumps(archive.manifest, indent=2)
    with tempfile.TemporaryDirectory(prefix=".approxifer-", dir=export_path) as beside:
        utils.archive(beside, name, str(archive.folder), manifest, archive_format)
        replace(Path(beside) / target.name, target)
    return target


def replace(made: Path, target: Path) -> None:
    """Moves an archive to its place on the same file system, over what is there.

    Args:
        made: The archive, a file or a folder.
        target: Its place. A folder that is there is moved aside first and deleted last.
    """
    _sync(made)
    if not target.is_dir() or target.is_symlink():
        os.replace(made, target)
        return
    old = made.with_name(f"{made.name}.old")
    os.rename(target, old)
    try:
        os.rename(made, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old)


def _sync(path: Path) -> None:
    """Has the disk hold all of a file or folder before it takes another's place."""
    for each in [*path.rglob("*"), path] if path.is_dir() else [path]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
