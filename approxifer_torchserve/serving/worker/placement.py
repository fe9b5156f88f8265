"""Which GPU this worker computes on: the plugin places workers, TorchServe's count is wrong.

TorchServe hands out GPU ids round-robin over the workers of all models, so a model scaled from
four workers to two and back has two on one GPU. The plugin writes
``approxifer-<pid of the JVM>.placement.json`` (docs/protocol.md), GPU by worker id.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)
# The plugin looks at the workers every 50 ms, and a worker needs longer than that to get here.
PATIENCE_S = 1.0
POLL_S = 0.05


def worker_id(arguments: Sequence[str]) -> str | None:
    """Returns TorchServe's id of a worker, the port in its command line; None if there is none.

    Example:
        >>> worker_id(["worker.py", "--sock-type", "unix", "--sock-name", "/tmp/.ts.sock.9003"])
        '9003'
    """
    for option, value in itertools.pairwise(arguments):
        if option in ("--port", "--sock-name"):
            digits = re.search(r"(\d+)$", value)
            return digits[1] if digits else None
    return None


def ancestors() -> list[int]:
    """Returns the process ids of this process's ancestors, the nearest first."""
    try:
        return [process.pid for process in psutil.Process().parents()]
    except psutil.Error:
        return [os.getppid()]


def placed_gpu(
    model_dir: Path, above: Sequence[int], worker: str | None, patience_s: float = PATIENCE_S
) -> int | None:
    """Returns the GPU that the plugin chose for a worker.

    Args:
        model_dir: The unpacked archive.
        above: Process ids of the worker's ancestors, one of which is the JVM.
        worker: See `worker_id`.
        patience_s: Seconds to wait for a worker that is not placed yet.

    Returns:
        The device index, or None where the plugin places nothing (CPU, or no plugin).
    """
    files = [model_dir / f"approxifer-{pid}.placement.json" for pid in above]
    path = next((file for file in files if file.exists()), None)
    deadline = time.monotonic() + patience_s
    while worker is not None and path is not None and path.exists():
        try:
            placed = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            logger.error("%s is ignored: %s", path, error)
            return None
        if worker in placed:
            return int(placed[worker])
        if time.monotonic() > deadline:
            logger.error("%s does not place worker %s: TorchServe's GPU stays", path, worker)
            return None
        time.sleep(POLL_S)
    return None
