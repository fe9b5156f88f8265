"""An ordinary TorchServe handler: a PNG in, ``{"class": 3, "scores": [...]}`` out.

Nothing here knows of coding; ``approxifer archive`` wraps it as it is.
"""

import base64
import binascii
import io

import torch
from PIL import Image, UnidentifiedImageError
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException

PIXELS = 8
NOT_AN_IMAGE = (
    UnidentifiedImageError,
    binascii.Error,
    OSError,
    TypeError,
    ValueError,
    RuntimeError,
)


class DigitsHandler(BaseHandler):
    """Reads 8×8 grey digits and answers with class and scores."""

    def preprocess(self, data):
        """Decode each request's image.

        Args:
            data: One dict per request; its "data" or "body" is an image file (bytes), the same in
                base64 (str, as JSON carries it), or rows of numbers in 0..1.

        Returns:
            A tensor ``[B, 1, 8, 8]`` of float32 in 0..1.

        Raises:
            PredictionException: Status 400, for what is not an image.
        """
        return torch.stack([self._image(row) for row in data]).to(self.device)

    def _image(self, row):
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
        except (
            UnidentifiedImageError,
            binascii.Error,
            OSError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            raise PredictionException(f"expected an image of a digit: {error}", 400) from error

    def postprocess(self, data):
        """Turn logits ``[B, 10]`` into one JSON object per request."""
        scores = torch.softmax(data.float(), dim=-1)
        return [
            {"class": int(row.argmax()), "scores": [round(float(s), 5) for s in row]}
            for row in scores.cpu()
        ]
