"""An ordinary TorchServe handler: a PNG in, ``{"class": 3, "scores": [...]}`` out.

Nothing here knows of coding; ``approxifer archive`` wraps it as it is.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException

PIXELS = 8
NOT_AN_IMAGE = (OSError, TypeError, ValueError, RuntimeError)
"""PIL's UnidentifiedImageError is an OSError, binascii.Error a ValueError."""


class DigitsHandler(BaseHandler):  # type: ignore[misc]  # TorchServe has no types
    """Reads 8×8 grey digits and answers with class and scores."""

    def preprocess(self, data: list[Mapping[str, Any]]) -> torch.Tensor:
        """Decodes each request's image.

        Args:
            data: One dict per request; its "data" or "body" is an image file (bytes), the same in
                base64 (str, as JSON carries it), or rows of numbers in 0..1.

        Returns:
            A tensor ``[B, 1, 8, 8]`` of float32 in 0..1.

        Raises:
            PredictionException: Status 400, for what is not an image.
        """
        return torch.stack([self._image(row) for row in data]).to(self.device)

    def _image(self, row: Mapping[str, Any]) -> torch.Tensor:
        content = row.get("data") or row.get("body")
        try:
            if isinstance(content, str):
                content = base64.b64decode(content, validate=True)
            if isinstance(content, (bytes, bytearray)):
                image = Image.open(io.BytesIO(content)).convert("L").resize((PIXELS, PIXELS))
                tensor = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8) / 255
            else:
                tensor = torch.as_tensor(content, dtype=torch.float32)
            return tensor.reshape(1, PIXELS, PIXELS)
        except NOT_AN_IMAGE as error:
            raise PredictionException(f"expected an image of a digit: {error}", 400) from error

    def postprocess(self, data: torch.Tensor) -> list[dict[str, Any]]:
        """Turns logits ``[B, 10]`` into one JSON object per request."""
        scores = torch.softmax(data.float(), dim=-1)
        return [
            {"class": int(row.argmax()), "scores": [round(float(s), 5) for s in row]}
            for row in scores.cpu()
        ]
