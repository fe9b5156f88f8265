"""The image handler with a small network that is not linear."""

import torch
from png_handler import PngHandler


def network():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))


class CurvedHandler(PngHandler):
    def initialize(self, context):
        super().initialize(context)
        self.model = network()
