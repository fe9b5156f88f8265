"""The ``model-config.yaml`` of an archive: the user's, and what was asked for when it was wrapped.

Wrapping sets nothing of its own accord: what is unset stays TorchServe's own behaviour.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from approxifer_torchserve.serving.archive.options import Options
from approxifer_torchserve.serving.archive.packing import ArchiveError, Unpacked
from approxifer_torchserve.serving.config import (
    ApproxiferConfig,
    ConfigError,
    load_config,
    sections,
)
from approxifer_torchserve.serving.plan import Unwrapped

CONFIG_FILE = "approxifer-model-config.yaml"
"""Ours, where it differs from the user's. At the top: the archiver keeps no path of it."""
USERS_CONFIG_FILE = "model-config.yaml"
_INTEGERS = (
    *("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout"),
    *("startupTimeout", "jobQueueSize", "clientTimeoutInMills", "maxRetryTimeoutInSec"),
)
# What yaml's constructors let through beside its own errors: of dates, numbers, booleans.
_NOT_YAML = (
    *(yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, IndexError),
    *(OverflowError, RecursionError),
)


@dataclass(frozen=True)
class Settings:
    """What was set for a model.

    Attributes:
        unwrapped: The name of the user's file.
        users: What it holds.
        merged: The same with what was asked for when it was archived.
        config: Its section ``handler.approxifer``.
    """

    unwrapped: Unwrapped
    users: dict[Any, Any]
    merged: dict[Any, Any]
    config: ApproxiferConfig

    @property
    def changed(self) -> bool:
        """Whether the archive needs a file of ours."""
        return _text(self.users) != _text(self.merged)

    def write(self, folder: Path) -> None:
        """Writes the file that differs from the user's; his stays as it is."""
        (folder / CONFIG_FILE).write_text(_text(self.merged), encoding="utf-8")

    def diff(self) -> list[str]:
        """Returns what was changed, as the lines of a unified diff; empty if nothing was."""
        yours = self.unwrapped.configFile or "/dev/null"
        before, after = (_text(each).splitlines() for each in (self.users, self.merged))
        return list(difflib.unified_diff(before, after, yours, CONFIG_FILE, lineterm=""))

    def integer(self, key: str) -> int | None:
        """Returns a top-level setting as TorchServe reads it: integers only."""
        value = self.merged.get(key)
        return value if type(value) is int else None

    def workers_to_ask(self, wanted: int) -> int | None:
        """Returns how many workers to ask for at registration; None if the settings start some."""
        minimum, maximum = self.integer("minWorkers"), self.integer("maxWorkers")
        starts = minimum is not None and (maximum or 0) >= max(1, minimum)
        return None if starts else wanted

    def warnings(self, workers: int) -> list[str]:
        """Says what is kept although it does not fit.

        Args:
            workers: How many distinct workers the code wants.
        """
        if not self.config.enabled:
            return []
        said = [
            f"{key} is {self.merged[key]!r}: TorchServe ignores it, for it takes integers only"
            for key in _INTEGERS
            if key in self.merged and self.integer(key) is None
        ]
        minimum, maximum = self.integer("minWorkers"), self.integer("maxWorkers")
        if minimum is not None and (maximum or 0) < minimum:
            got = f"maxWorkers is {maximum}" if maximum is not None else "there is no maxWorkers"
            said.append(f"minWorkers is {minimum}, but {got}: TorchServe then ignores minWorkers")
        elif minimum is not None and minimum < workers:
            said.append(f"minWorkers is {minimum}; the code wants {workers} distinct workers")
        if self.integer("maxBatchDelay") == 0 and (self.integer("batchSize") or 1) > 2:
            said.append("maxBatchDelay is 0: TorchServe then never batches more than 2 requests")
        return said


def read_settings(archive: Unpacked, options: Options, config_file: Path | None = None) -> Settings:
    """Reads an archive's ``model-config.yaml`` and merges what was asked for over it.

    Args:
        archive: The user's files.
        options: ``settings`` replace top-level keys, ``approxifer`` those of its section.
        config_file: Replaces the archive's file; None leaves it.

    Raises:
        ArchiveError: The manifest names a file that is not there, or a given one has the name of
            another of the user's.
        ConfigError: A setting is wrong; names its key.
    """
    if config_file is not None:
        _put(archive, config_file)
    name = archive.model.get("configFile")
    user = {} if name is None else _read_yaml(archive.folder / name)
    merged = {**user, **options.settings}
    handler, section = sections(merged)
    for key, value in options.approxifer.items():
        old = section.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = {**old, **value}
        section[key] = value
    if options.approxifer:
        merged["handler"] = {**handler, "approxifer": section}
    return Settings(Unwrapped(configFile=name), user, merged, load_config(merged))


def _put(archive: Unpacked, config_file: Path) -> None:
    """Puts a ``model-config.yaml`` in, in place of the one that the manifest names."""
    name = archive.model.get("configFile")
    if name is None:
        name = USERS_CONFIG_FILE
        if (archive.folder / name).exists():
            raise ArchiveError(
                f"config_file: the archive holds a {name} already that is not its configuration; "
                "rename that one"
            )
    archive.model["configFile"] = name
    (archive.folder / name).write_bytes(config_file.read_bytes())


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        _text(read)
    except OSError:
        raise ArchiveError(f"the manifest names {path.name}, which is not in the archive") from None
    except _NOT_YAML as error:
        raise ConfigError(f"{path.name} is not YAML that can be used: {_first(error)}") from None
    if read is not None and not isinstance(read, dict):
        raise ConfigError(f"{path.name}: expected a mapping, got {type(read).__name__}")
    return read or {}


def _first(error: Exception) -> str:
    return str(error) or type(error).__name__


def _text(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=False) if values else ""
