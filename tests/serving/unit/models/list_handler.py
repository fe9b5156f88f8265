"""Three-channel images in a list, as detectors take them: no batch, though it looks like one."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class ListHandler(BaseHandler):
    def initialize(self, context):
        self.device = torch.device("cpu")
        self.model = torch.nn.Identity()

    def preprocess(self, data):
        return [torch.full((3, 2, 2), float(row["body"])) for row in data]

    def inference(self, data):
        return [{"boxes": image.sum((1, 2))} for image in data]

    def postprocess(self, data):
        return [item["boxes"].tolist() for item in data]
