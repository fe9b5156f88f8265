"""TorchServe's micro-batching around a handler's steps, as its examples have it."""

import torch
from ts.handler_utils.micro_batching import MicroBatching
from ts.torch_handler.base_handler import BaseHandler


class MicroHandler(BaseHandler):
    def __init__(self):
        super().__init__()
        self.handle = MicroBatching(self, micro_batch_size=2)

    def initialize(self, context):
        self.device = torch.device("cpu")
        self.model = torch.nn.Identity()

    def preprocess(self, data):
        return torch.tensor([(row.get("data") or row.get("body"))["x"] for row in data])

    def inference(self, data):
        return data * 2

    def postprocess(self, data):
        # Which micro-batch it was, and how large: not to be had by calling the steps in a row.
        index = self.handle.get_micro_batch_idx()
        return [{"x": row.tolist(), "of": [index, len(data)]} for row in data]
