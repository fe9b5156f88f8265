"""Takes 64 numbers, gives the model's scores to their last digit, and says what weights it holds.

An affine model's parity is known exactly, so a reconstructed answer can be held against the truth.
"""

import gc
import os

import torch
from ts.torch_handler.base_handler import BaseHandler

ASK = b"WHOSE WEIGHTS"


class ExactHandler(BaseHandler):
    def preprocess(self, data):
        rows = []
        for row in data:
            body = bytes(row.get("data") or row.get("body"))
            if body == ASK:
                # What is in this process's memory, whatever anybody thinks that it loaded.
                nets = [item for item in gc.get_objects() if type(item).__name__ == "Net"]
                biases = sorted(round(float(net.linear.bias[0]), 3) for net in nets)
                raise ValueError(f"biases {biases} in process {os.getpid()}")
            rows.append(torch.frombuffer(bytearray(body), dtype=torch.float32))
        return torch.stack(rows).to(self.device)

    def postprocess(self, data):
        return data.tolist()
