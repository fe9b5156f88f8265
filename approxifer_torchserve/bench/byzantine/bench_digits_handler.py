"""The model that the bench of lies serves: a trained network, whose answers say what it computed.

Locators are worth what a model's answers let them be, and an untrained or linear model flatters
them. A request's body is 64 pixels, float32 in 0..1 in TorchServe's own order of bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from ts.torch_handler.base_handler import BaseHandler

PIXELS = 8


class BenchDigitsHandler(BaseHandler):  # type: ignore[misc]  # TorchServe has no types
    """Answers with class and logits, of which none is rounded.

    ``handler.bench.service_ms`` in model-config.yaml makes each forward sleep so long.
    """

    def initialize(self, context: Any) -> None:
        """Loads the network as BaseHandler does."""
        super().initialize(context)
        settings = (context.model_yaml_config or {}).get("handler") or {}
        self.service_s = float((settings.get("bench") or {}).get("service_ms", 0)) / 1000

    def preprocess(self, data: list[Mapping[str, Any]]) -> torch.Tensor:
        """Reads the bodies as a tensor ``[B, 1, 8, 8]`` of float32."""
        rows = [row.get("data") or row["body"] for row in data]
        read = [torch.frombuffer(bytearray(row), dtype=torch.float32) for row in rows]
        return torch.stack([row.reshape(1, PIXELS, PIXELS) for row in read]).to(self.device)

    def inference(self, data: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Returns logits ``[B, 10]``."""
        if self.service_s:
            time.sleep(self.service_s)
        return super().inference(data, *args, **kwargs)

    def postprocess(self, data: torch.Tensor) -> list[dict[str, Any]]:
        """Returns class and scores of each row."""
        return [{"class": int(row.argmax()), "scores": row.tolist()} for row in data.float().cpu()]
