"""What the bench of lies serves: digits, their right answers, and locators fitted to them.

Everything is made once and kept in the bench's folder, so that a run that goes on has the same::

    train ── digits.pt ─┬─ 400 unlabelled test images ── calibrate ── locators/*.safetensors
                        └─ the other test images are the requests
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from approxifer_torchserve.artifacts.locator_file import save_locator
from approxifer_torchserve.bench.byzantine.policies import Policy
from approxifer_torchserve.bench.digits import archives as digits
from approxifer_torchserve.codes import LocatingCode, calibrate, make_code
from approxifer_torchserve.serving.archive.wrap import Options, Parts, wrap_archive

NETWORK_MODULE = "approxifer_torchserve.bench.digits.model"
EPOCHS = 30
CALIBRATION = 400
"""Test images that only calibrate; the rest of them are requests."""
GROUPS, STEPS = 2000, 500
"""Of the calibration: a minute at K=8. More steps found no more liars on these digits."""
# The same as the policies' tolerance: less than this is no wrong answer.
RTOL, ATOL = 1e-3, 1e-4


class Model:
    """The trained network, requests and what it answers to them.

    Args:
        out: Folder that keeps the network and its locators.

    Attributes:
        bodies: Bodies of the requests.
        right: The network's own answers to them.

    Raises:
        OSError: Training failed.
    """

    def __init__(self, out: Path) -> None:
        self.folder, self.locators = out / "digits", out / "locators"
        weights = self.folder / "digits.pt"
        if not (self.folder / "labels.json").exists():
            digits.train(self.folder, EPOCHS)
        self.network: torch.nn.Module = import_module(NETWORK_MODULE).DigitsNet()
        self.network.load_state_dict(torch.load(weights, weights_only=True))
        self.network.eval()
        self._fingerprint = hashlib.sha256(weights.read_bytes()).hexdigest()
        pictures = torch.stack([_pixels(path) for path in sorted(self.folder.glob("test/*.png"))])
        self._unlabelled, asked = pictures[:CALIBRATION], pictures[CALIBRATION:]
        self.bodies = [picture.numpy().tobytes() for picture in asked]
        with torch.inference_mode():
            scores = self.network(asked)
        self.right = [{"class": int(row.argmax()), "scores": row.tolist()} for row in scores]

    def locator(
        self, code: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
    ) -> Path:
        """Returns the file of a code's locator, fitted when it is not there yet.

        Args:
            code: As `make_code` takes it.
            progress: Called with how much is done, and of how much.

        Raises:
            ValueError: The code cannot locate.
        """
        made = make_code(**code)
        if not isinstance(made, LocatingCode):
            raise ValueError(f"code: expected one that locates, got {made!r}")
        facts = json.dumps([dict(code), self._fingerprint, GROUPS, STEPS], sort_keys=True)
        name = f"{made.name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.safetensors"
        path = self.locators / name
        if not path.exists():
            self.locators.mkdir(parents=True, exist_ok=True)
            fitted = calibrate(
                made, self.network, self._unlabelled, groups=GROUPS, steps=STEPS, progress=progress
            )
            assert fitted.locator is not None
            half = path.with_suffix(".part")
            save_locator(fitted.locator, half)
            half.replace(path)
        return path

    def archive(self, store: Path, name: str, policy: Policy, service_ms: float) -> None:
        """Archives the network for one policy.

        Args:
            store: The model store.
            name: Name of the model.
            policy: How it is served.
            service_ms: What a forward takes beside its work, asleep.

        Raises:
            ConfigError: A setting is wrong.
        """
        sample = self.folder / "sample.bin"
        sample.write_bytes(self._unlabelled[0].numpy().tobytes())
        parts = Parts(
            model_name=name,
            handler=str(Path(__file__).with_name("bench_digits_handler.py")),
            model_file=Path(str(files("approxifer_torchserve.bench.digits"))) / "model.py",
            serialized_file=self.folder / "digits.pt",
        )
        options = Options(
            settings={
                "batchSize": 8,
                "responseTimeout": 10,
                "handler": {"bench": {"service_ms": service_ms}},
            },
            approxifer={"code": policy.code, "policy": {"deadline_ms": 5000, **policy.policy}},
            locator=self.locator(policy.code) if policy.located else None,
            sample=sample if policy.probed else None,
            sample_content_type="application/octet-stream",
        )
        wrap_archive(parts, options, export_path=store, force=True)


def _pixels(path: Path) -> torch.Tensor:
    """Reads an image as float32 ``[1, 8, 8]`` in 0..1."""
    read = np.asarray(Image.open(BytesIO(path.read_bytes())).convert("L"), dtype=np.float32)
    return torch.from_numpy(read / 255).unsqueeze(0)


def same_class(content: bytes, right: Mapping[str, Any]) -> bool:
    """Tells whether an answer names the class that the model itself names."""
    try:
        return bool(json.loads(content)["class"] == right["class"])
    except (ValueError, KeyError, TypeError):
        return False


def is_wrong(content: bytes, right: Mapping[str, Any]) -> bool:
    """Tells whether an answer's scores are beyond tolerance, or it is no answer at all."""
    try:
        scores, true = json.loads(content)["scores"], right["scores"]
        if len(scores) != len(true):
            return True
        near = all(
            abs(a - b) <= ATOL + RTOL * max(abs(a), abs(b))
            for a, b in zip(scores, true, strict=True)
        )
    except (ValueError, KeyError, TypeError):
        return True
    return not near
