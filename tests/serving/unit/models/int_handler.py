"""Token ids in, one score out: inputs that cannot be interpolated."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class IntHandler(BaseHandler):
    def initialize(self, context):
        self.device = torch.device("cpu")
        self.model = torch.nn.Identity()

    def preprocess(self, data):
        return torch.tensor([(row.get("data") or row.get("body"))["x"] for row in data])

    def inference(self, data):
        return data.float().sum(1, keepdim=True)

    def postprocess(self, data):
        return data.tolist()
