"""How large a reply may be: TorchServe's ``max_response_size``, which the frontend does not tell.

A longer one ends the worker's process. The worker reads what its frontend has read: the file that
``-f`` names on the JVM's command line.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

DEFAULT_BYTES = 6_553_500
_FRONTEND = "org.pytorch.serve.ModelServer"
_SET = re.compile(r"^[ \t]*(max_response_size|enable_envvars_config)[ \t]*[=: \t][ \t]*(\S+)", re.M)
logger = logging.getLogger(__name__)


def max_response_bytes(worker_pid: int, environment: Mapping[str, str] = os.environ) -> int:
    """Returns how many bytes one request's reply may have.

    Args:
        worker_pid: A process that the frontend, or a launcher of the frontend's, has started.
        environment: The worker's, which is the frontend's but for what TorchServe adds.

    Returns:
        TorchServe's default where the frontend or its configuration cannot be read.
    """
    try:
        for process in psutil.Process(worker_pid).parents():
            command = process.cmdline()
            if _FRONTEND in command:
                return configured(config_file(command, process.cwd(), environment), environment)
    except (OSError, psutil.Error) as error:
        logger.warning("max_response_size is not known, its default is kept to: %s", error)
    return DEFAULT_BYTES


def config_file(command: Sequence[str], folder: str, environment: Mapping[str, str]) -> Path:
    """Returns the configuration that a frontend of this command line reads."""
    path = environment.get("TS_CONFIG_FILE", "config.properties")
    options = command[command.index(_FRONTEND) :]
    for option in ("-f", "--ts-config-file"):
        if "TS_CONFIG_FILE" not in environment and option in options[:-1]:
            path = options[options.index(option) + 1]
    return Path(folder, path)


def configured(path: Path, environment: Mapping[str, str]) -> int:
    """Returns the limit that a ``config.properties`` sets.

    Raises:
        OSError: The file is there but cannot be read.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = dict(_SET.findall(text))
    if found.get("enable_envvars_config", "").lower() == "true":
        found["max_response_size"] = environment.get(
            "TS_MAX_RESPONSE_SIZE", found.get("max_response_size", "")
        )
    size = found.get("max_response_size", "")
    return int(size) if size.isdigit() else DEFAULT_BYTES
