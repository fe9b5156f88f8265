"""The demo's model and requests: train in a process of its own, make archives, read samples."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from approxifer_torchserve.bench.harness.load import Sample
from approxifer_torchserve.serving.archive.wrap import Options, Parts, wrap_archive

TRAIN_MODULE = "approxifer_torchserve.bench.digits.train"


@dataclass(frozen=True)
class Digits:
    """What training left behind.

    Attributes:
        folder: Where digits.pt and test/ lie.
        samples: The test split as PNG files with their labels.
        accuracy: Accuracy of the network on them, a fraction.
    """

    folder: Path
    samples: tuple[Sample, ...]
    accuracy: float


def train(folder: Path, epochs: int) -> Digits:
    """Trains the digits network with Lightning.

    In a process of its own: Lightning's memory is free again before the servers start.

    Args:
        folder: Where to write.
        epochs: How long; 30 take six seconds on one core.

    Raises:
        OSError: Training failed; the message ends with what it printed.
    """
    command = [sys.executable, "-m", TRAIN_MODULE, "--out", str(folder), "--epochs", str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"training the digits network failed:\n{done.stdout}{done.stderr}")
    facts = json.loads((folder / "labels.json").read_text())
    samples = tuple(
        Sample(index, (folder / "test" / f"{index}.png").read_bytes(), label)
        for index, label in enumerate(facts["labels"])
    )
    return Digits(folder, samples, facts["accuracy"])


def pick(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Draws some samples without replacement, or takes all where there are fewer."""
    return random.Random(seed).sample(list(samples), min(count, len(samples)))


def make_archives(model: Digits, coded: Path, plain: Path, queries: int) -> None:
    """Archives the network three times from the same files.

    Args:
        model: The trained network.
        coded: The model store that gets the systematic and the classic archive.
        plain: The model store that gets the twin that any TorchServe serves plainly.
        queries: K; S is 1.

    Raises:
        ValueError: The model cannot be archived; see `wrap_archive`.
    """
    example = Path(str(files("approxifer_torchserve.bench.digits")))
    parts = Parts(
        model_name="digits",
        handler=str(example / "digits_handler.py"),
        model_file=example / "model.py",
        serialized_file=model.folder / "digits.pt",
    )
    sample = model.folder / "test" / "0.png"
    code = {"name": "approxifer", "queries": queries, "stragglers": 1}
    wrap_archive(parts, Options(approxifer={"code": code}, sample=sample), export_path=coded)
    wrap_archive(parts, Options(approxifer={"enabled": False}), export_path=plain)
    # A group of the classic code costs as much for one query as for K: wait for more of them.
    classic = {
        "code": {**code, "systematic": False, "nodes": "authors"},
        "policy": {"group_delay_ms": 100},
    }
    renamed = parts.model_copy(update={"model_name": "digits-classic"})
    wrap_archive(renamed, Options(approxifer=classic), export_path=coded)
