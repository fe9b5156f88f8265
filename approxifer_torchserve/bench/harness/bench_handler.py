"""The model that the benches serve: fast, and right to the last bit in any batch.

A request's body is float32 numbers in TorchServe's own order of bytes; benches send whole numbers
0..15, and the weights are whole too, so every sum is exact and batch mates cannot change an answer.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ts.torch_handler.base_handler import BaseHandler

WIDTH = 64
CLASSES = 10


class BenchHandler(BaseHandler):  # type: ignore[misc]  # TorchServe has no types
    """Folds a body of any length to 64 numbers and multiplies them by a fixed matrix.

    ``handler.bench.service_ms`` in model-config.yaml makes each forward sleep so long: what a batch
    costs on a GPU, without this machine's processors. ``handler.bench.counts`` is a folder where
    each process keeps how many forwards it has run, and of how many rows: two int64 in a file.
    """

    def initialize(self, context: Any) -> None:
        """Makes the weights; there is no file of them."""
        self.context = context
        self.device = torch.device("cpu")
        settings = (context.model_yaml_config or {}).get("handler") or {}
        settings = settings.get("bench") or {}
        self.service_s = float(settings.get("service_ms", 0)) / 1000
        self.forwards = self.rows = 0
        self.counts: mmap.mmap | None = None
        if settings.get("counts"):
            path = Path(settings["counts"]) / f"{os.getpid()}.counts"
            path.write_bytes(struct.pack("<qq", 0, 0))
            with path.open("r+b") as file:
                self.counts = mmap.mmap(file.fileno(), 16)
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randint(-3, 4, (WIDTH, CLASSES), generator=generator).float()
        self.initialized = True

    def preprocess(self, data: list[Mapping[str, Any]]) -> torch.Tensor:
        """Reads the bodies as a tensor ``[B, n]`` of float32."""
        rows = [row.get("data") or row["body"] for row in data]
        return torch.stack([torch.frombuffer(bytearray(row), dtype=torch.float32) for row in rows])

    def inference(self, data: torch.Tensor) -> torch.Tensor:
        """Returns scores ``[B, 10]``."""
        self.forwards += 1
        self.rows += len(data)
        if self.counts is not None:
            struct.pack_into("<qq", self.counts, 0, self.forwards, self.rows)
        if self.service_s:
            time.sleep(self.service_s)
        return data.reshape(len(data), -1, WIDTH).sum(1) @ self.weights

    def postprocess(self, data: torch.Tensor) -> list[dict[str, Any]]:
        """Returns class and scores of each row."""
        return [{"class": int(row.argmax()), "scores": row.tolist()} for row in data]
