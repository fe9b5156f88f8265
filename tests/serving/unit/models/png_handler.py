"""A small image handler: greyscale PNG in, linear scores out."""

import io
import json
from collections import UserList

import numpy as np
import torch
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler


class PngHandler(BaseHandler):
    def initialize(self, context):
        self.device = torch.device("cpu")
        generator = torch.Generator().manual_seed(7)
        self.model = torch.nn.Linear(64, 5)
        with torch.no_grad():
            self.model.weight.copy_(torch.randn(5, 64, generator=generator))
            self.model.bias.copy_(torch.randn(5, generator=generator))
        self.calls = UserList()  # a plain list is put back when a try fails
        self.initialized = True

    def preprocess(self, data):
        self.calls.append(("preprocess", len(data)))
        images, self.names = [], []
        for i, row in enumerate(data):
            body = row.get("data") or row.get("body")
            if isinstance(body, list):
                images.append(torch.tensor(body, dtype=torch.float32).flatten())
                self.names.append("list")
                continue
            image = Image.open(io.BytesIO(body)).convert("L")
            images.append(torch.from_numpy(np.array(image, dtype="float32")).flatten() / 255)
            self.names.append(self.context.get_request_header(i, "x-name") or "none")
        return torch.stack(images)

    def inference(self, data):
        self.calls.append(("inference", len(data)))
        return super().inference(data)

    def postprocess(self, data):
        self.calls.append(("postprocess", len(data)))
        answers = []
        for i, scores in enumerate(data):
            if self.names[i] in ("teapot", "crash"):
                self.context.set_response_status(418, "I am a teapot", idx=i)
            if self.names[i] == "crash":
                raise RuntimeError("postprocess cannot do this one")
            # A list comes by KServe: plain TorchServe has one context row for all instances then.
            if self.names[i] != "list":
                self.context.set_response_header(i, "x-named", self.names[i])
                self.context.set_response_content_type(i, "application/json")
            answers.append(json.dumps({"name": self.names[i], "scores": scores.tolist()}))
        return answers
