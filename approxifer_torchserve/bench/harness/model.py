"""What the throughput, latency, chaos and soak benches serve and send, and the right answers.

The model is ``bench_handler.py``: so cheap that what is measured is the serving, and exact
in whole numbers, so that an answer is right or wrong whatever batch it was in.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from approxifer_torchserve.bench.harness.load import ClosedLoop, Sample, Target, compare
from approxifer_torchserve.serving.archive.wrap import Options, Parts, wrap_archive

HANDLER = Path(__file__).with_name("bench_handler.py")
WIDTH, CLASSES, MAX_NUMBER = 64, 10, 15
SMALL_BYTES = 3 * 32 * 32 * 4  # a 32×32 colour image as float32, 12 KB
LARGE_BYTES = 3 * 224 * 224 * 4  # a 224×224 one, 602 KB


def body(number: int, size: int = SMALL_BYTES) -> bytes:
    """Returns request ``number``'s body; different numbers give different bodies and answers.

    Args:
        number: Seeds the content.
        size: Its length in bytes, a multiple of 256.

    Raises:
        ValueError: ``size`` is not a multiple of 256.
    """
    if size % (4 * WIDTH):
        raise ValueError(f"size: expected a multiple of {4 * WIDTH} bytes, got {size}")
    draw = np.random.default_rng(number)
    return draw.integers(0, MAX_NUMBER + 1, size // 4).astype(np.float32).tobytes()


def right_answer(content: bytes) -> dict[str, Any]:
    """Returns what the model answers to a body, computed here."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-3, 4, (WIDTH, CLASSES), generator=generator).double()
    folded = np.frombuffer(content, np.float32).reshape(-1, WIDTH).sum(0, dtype=np.float64)
    scores = torch.from_numpy(folded) @ weights
    return {"class": int(scores.argmax()), "scores": scores.tolist()}


def samples(count: int, size: int = SMALL_BYTES) -> tuple[Sample, ...]:
    """Returns bodies with the right classes."""
    bodies = [body(number, size) for number in range(count)]
    return tuple(Sample(i, b, right_answer(b)["class"]) for i, b in enumerate(bodies))


def checked_loop(
    target: Target, clients: int, size: int = SMALL_BYTES, count: int = 16
) -> ClosedLoop:
    """Returns a closed loop that compares every answer with the right one.

    Args:
        target: Where to.
        clients: How many requests are under way at once.
        size: Bytes of a body.
        count: How many different bodies are sent.
    """
    bodies = [body(number, size) for number in range(count)]
    return ClosedLoop(target, bodies, clients, compare([right_answer(one) for one in bodies]))


def settings(workers: int, batch: int = 1, **bench: Any) -> dict[str, Any]:
    """Returns keys of model-config.yaml for so many workers and such a batch size.

    Args:
        workers: How many there are, no more and no fewer.
        batch: The batch size.
        bench: What ``bench_handler.py`` reads.
    """
    return {
        "minWorkers": workers, "maxWorkers": workers, "batchSize": batch, "maxBatchDelay": 100,
        "handler": {"bench": bench},
    }  # fmt: skip


def archive_coded(
    folder: Path,
    name: str,
    *,
    approxifer: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    sample: Path | None = None,
    handler: Path = HANDLER,
) -> Path:
    """Archives the model for the plugin, or with ``enabled: false`` as its plain twin with faults.

    Args:
        folder: The model store.
        name: The model's name.
        approxifer: The section ``handler.approxifer``.
        settings: Other keys of model-config.yaml, such as ``batchSize``, or what the handler reads.
        sample: A body to try it on; policies with ``probe_every_s`` need one.
        handler: Its handler file.

    Returns:
        The archive.

    Raises:
        ConfigError: A setting is wrong.
    """
    options = Options(
        settings=dict(settings or {}),
        approxifer=dict(approxifer),
        sample=sample,
        sample_content_type="application/octet-stream",
    )
    report = wrap_archive(
        Parts(model_name=name, handler=str(handler)), options, export_path=folder, force=True
    )
    return report.path


def archive_plain(folder: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """Archives the model as any user of TorchServe would; nothing of ours is inside.

    Raises:
        OSError: torch-model-archiver refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="approxifer-plain-") as work:
        config = Path(work) / "model-config.yaml"
        config.write_text(yaml.safe_dump(dict(settings)))
        command = [
            sys.executable, "-m", "model_archiver.model_packaging",
            "--model-name", name, "--version", "1.0", "--force",
            "--handler", str(HANDLER),
            "--config-file", str(config), "--export-path", str(folder),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"torch-model-archiver failed:\n{done.stdout}{done.stderr}")
    return folder / f"{name}.mar"
