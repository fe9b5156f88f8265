"""The user's handler under test: PNG in, class and scores out; nothing of it knows of coding."""

import base64
import io
import logging
import os

import torch
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler


class PngHandler(BaseHandler):
    def preprocess(self, data):
        images = []
        for row in data:
            body = row.get("data") or row.get("body")
            if isinstance(body, str):
                body = base64.b64decode(body)
            if bytes(body[:6]) == b"POISON":
                logging.getLogger(__name__).warning("poisoned")
                os._exit(1)  # what a segmentation fault in a native library would look like
            if bytes(body) == b"WHICH GPU":
                gpu = self.context.system_properties["gpu_id"]
                raise ValueError(f"gpu {gpu} of process {os.getpid()}")
            image = Image.open(io.BytesIO(body)).convert("L")
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
            images.append(pixels.reshape(1, 8, 8) / 255)
        return torch.stack(images).to(self.device)

    def postprocess(self, data):
        return [
            {"class": int(row.argmax()), "scores": [round(float(s), 4) for s in row]}
            for row in data
        ]
