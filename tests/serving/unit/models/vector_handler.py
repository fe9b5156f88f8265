"""JSON {"x": [...], "do": ...} in, scores out; fails where and how "do" says."""

from collections import UserList

import torch
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException


class VectorHandler(BaseHandler):
    dtype = torch.float32

    def initialize(self, context):
        self.device = torch.device("cpu")
        self.model = torch.nn.Identity()
        self.calls = UserList()  # a plain list is put back when a try fails

    def preprocess(self, data):
        self.calls.append(("preprocess", len(data)))
        rows = [row.get("data") or row.get("body") for row in data]
        self.todo = [row.get("do") for row in rows]
        for row, do in zip(rows, self.todo, strict=True):
            if do == "name":
                undefined  # noqa: B018, F821
            if do == "refuse":
                raise ValueError(f"bad value in /srv/models/secret/file.txt for {object()}")
            if do == "own":
                raise PredictionException("my own words", 422)
            if do == "memory":
                raise MemoryError
            if do == "cuda":
                raise RuntimeError("CUDA out of memory")
            if do == "exotic":
                row["x"] = [float("nan")] * len(row["x"])
        if len(rows) == 1 and self.todo[0] == "two":
            return torch.tensor([rows[0]["x"]] * 2, dtype=self.dtype)
        return torch.stack([torch.tensor(row["x"], dtype=self.dtype) for row in rows])

    def inference(self, data):
        self.calls.append(("inference", len(data)))
        if "inference" in self.todo:
            raise RuntimeError("inference failed")
        return (data.float() * 2, {"sum": data.float().sum(1)})

    def postprocess(self, data):
        self.calls.append(("postprocess", len(data[0])))
        scores, extra = data
        if "short" in self.todo:
            return []
        if "two" in self.todo:
            return [scores.tolist()]
        answers = []
        for do, row, total in zip(self.todo, scores, extra["sum"], strict=True):
            if do == "tensor":
                answers.append(row.clone())
            elif do == "bytes":
                answers.append(b"\x00\xff")
            elif do == "bytearray":
                answers.append(bytearray(b"\x01"))
            elif do == "text":
                answers.append("grüße")
            elif do == "object":
                answers.append({"no": object()})
            else:
                answers.append({"scores": row.tolist(), "sum": float(total)})
        return answers
