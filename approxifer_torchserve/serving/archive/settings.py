"""The ``model-config.yaml`` of an archive: what the user's says, and what a coded model needs."""

from __future__ import annotations

import math
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

CONFIG_FILE = "model-config.yaml"
BATCH_SIZE = 8
# TorchServe's own default. Our queue's polls return at once whatever it is; a server without the
# plugin would hold lone requests back for all of it.
MAX_BATCH_DELAY_MS = 100
MIN_RESPONSE_TIMEOUT_S = 10
DEADLINES_PER_TIMEOUT = 3


@dataclass(frozen=True)
class Settings:
    """What was set for a model.

    Attributes:
        unwrapped: The file as the user has it, and its name.
        merged: The same with what was asked for when it was archived.
        config: Its section ``handler.approxifer``.
    """

    unwrapped: Unwrapped
    merged: dict[str, Any]
    config: ApproxiferConfig

    def coded_yaml(self, workers: int) -> tuple[dict[str, Any], list[str]]:
        """Adds what a coded model needs, unless the user has set it; nothing if not enabled.

        Args:
            workers: How many distinct workers the code wants.

        Returns:
            The ``model-config.yaml``, and warnings of settings that are kept but do not fit.
        """
        result = dict(self.merged)
        if not self.config.enabled:
            return result, []
        deadline_ms = self.config.policy.deadline_ms
        timeout = math.ceil(DEADLINES_PER_TIMEOUT * deadline_ms / 1000)
        minimum = int(result.get("minWorkers", result.get("maxWorkers", workers)))
        result.setdefault("minWorkers", minimum)
        result.setdefault("maxWorkers", max(minimum, workers))
        result.setdefault("batchSize", BATCH_SIZE)
        result.setdefault("maxBatchDelay", MAX_BATCH_DELAY_MS)
        result.setdefault("responseTimeout", max(MIN_RESPONSE_TIMEOUT_S, timeout))
        warnings = []
        if minimum < workers:
            warnings.append(f"minWorkers is {minimum}; the code wants {workers} distinct workers")
        if (seconds := result["responseTimeout"]) * 1000 < deadline_ms:
            warnings.append(f"responseTimeout is {seconds} s, below deadline_ms {deadline_ms}")
        if result["maxBatchDelay"] <= 0:
            warnings.append(
                "maxBatchDelay is 0: TorchServe then never batches more than 2 requests"
            )
        return result, warnings


def read_settings(archive: Unpacked, options: Options, config_file: Path | None = None) -> Settings:
    """Reads an archive's ``model-config.yaml`` and merges what was asked for over it.

    Args:
        archive: The user's files.
        options: ``settings`` replace top-level keys, ``approxifer`` those of its section.
        config_file: Replaces the archive's file; None leaves it.

    Raises:
        ArchiveError: The manifest names a file that is not there.
        ConfigError: A setting is wrong; names its key.
    """
    if config_file is not None:
        archive.model["configFile"] = CONFIG_FILE
        (archive.folder / CONFIG_FILE).write_bytes(config_file.read_bytes())
    name = archive.model.get("configFile")
    user = {} if name is None else _read_yaml(archive.folder / name)
    merged = {**user, **options.settings}
    handler, section = sections(merged)
    for key, value in options.approxifer.items():
        old = section.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = {**old, **value}
        section[key] = value
    merged["handler"] = {**handler, "approxifer": section}
    return Settings(Unwrapped(configFile=name, yaml=user), merged, load_config(merged))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ArchiveError(f"the manifest names {path.name}, which is not in the archive") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is not YAML: {error}") from None
    if read is not None and not isinstance(read, dict):
        raise ConfigError(f"{path.name}: expected a mapping, got {type(read).__name__}")
    return read or {}
