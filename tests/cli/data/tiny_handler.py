import json

import torch
from ts.torch_handler.base_handler import BaseHandler


class TinyHandler(BaseHandler):
    def preprocess(self, data):
        rows = []
        for row in data:
            body = row.get("data") or row.get("body")
            if isinstance(body, (bytes, bytearray, str)):
                body = json.loads(body)
            rows.append(torch.tensor(body["data"] if isinstance(body, dict) else body).float())
        return torch.stack(rows).to(self.device)
