"""What a drawn handler does, step by step; its archive's ``spec.json`` says which behaviours.

The handler's own traits (what it keeps, changes and catches) come from the spec, what one client
provokes (errors, statuses, odd answers) comes with that client's request. Nothing here knows
whether it is wrapped.
"""

import json
from pathlib import Path

import httpx
import torch
from PIL import UnidentifiedImageError
from ts.utils.util import PredictionException


class UnprintableError(Exception):
    """An exception that cannot be said."""

    def __str__(self):
        raise ValueError("no words")


# Of the client's input, of the handler's code, of the machine; and those that TorchServe names.
ERRORS = {
    "ValueError": lambda: ValueError("no number"),
    "KeyError": lambda: KeyError("inputs"),
    "TypeError": lambda: TypeError("unsupported operand"),
    "IndexError": lambda: IndexError("list index out of range"),
    "UnidentifiedImage": lambda: UnidentifiedImageError("cannot identify image file"),
    "NameError": lambda: NameError("name 'vocabulary' is not defined"),
    "ImportError": lambda: ImportError("No module named 'captum'"),
    "refused": lambda: ConnectionRefusedError(111, "features.internal:5432 refused model_reader"),
    "disk": lambda: OSError(28, "No space left on device"),
    "timeout": lambda: TimeoutError("features.internal did not answer in 2 s"),
    "missing": lambda: FileNotFoundError(2, "No such file", "/srv/models/secret/vocab.txt"),
    "http": lambda: httpx.ConnectError("features.internal: connection refused"),
    "cuda": lambda: RuntimeError("CUDA error: device-side assert triggered"),
    "memory": lambda: MemoryError(),
    "own words": lambda: PredictionException("my own words", 422),
    "no words": lambda: PredictionException(5, "x"),
    "unprintable": lambda: UnprintableError(),
}
STATUSES = {
    "created": (201, ""),
    "teapot": (418, "I am a teapot"),
    "no phrase": (400, None),
    "none": (None, ""),
    "text": ("400", "Bad"),
    "phrase number": (400, 5),
    "phrase umlaut": (400, "Grüße"),
    "phrase line break": (400, "Bad\r\nx-b: 2"),
}
HEADERS = {
    "plain": ("x-a", "1"),
    "umlaut": ("x-a", "grüße"),
    "type": ("content-type", "application/json"),
    "type umlaut": ("content-type", "text/plain; x=ü"),
    "type number": ("content-type", 5),
    "number": ("x-a", 3),
    "none": ("x-a", None),
    "bytes": ("x-a", b"1"),
    "line break": ("x-a", "1\r\nx-b: 2"),
    "surrogate": ("x-a", "\ud83d"),
    "name number": (3, "x"),
    "name line break": ("x\na", "1"),
}


def circle():
    value = []
    value.append(value)
    return value


RETURNS = {
    "json": lambda answer, row: answer,
    "text": lambda answer, row: json.dumps(answer, ensure_ascii=False),
    "bytes": lambda answer, row: json.dumps(answer).encode(),
    "bytearray": lambda answer, row: bytearray(b"\x00\xff"),
    "tensor": lambda answer, row: row.clone(),
    # A view: torch.save writes all of the tensor that it is a part of.
    "view": lambda answer, row: row,
    "number": lambda answer, row: float(row.flatten()[0]),
    "none": lambda answer, row: None,
    "list": lambda answer, row: [answer, None],
    "empty": lambda answer, row: "",
    "nan": lambda answer, row: {"nan": float("nan")},
    "surrogate": lambda answer, row: "cut \ud83d",
    "surrogate inside": lambda answer, row: {"text": "cut \ud83d"},
    "object": lambda answer, row: {"no": object()},
    "set": lambda answer, row: {1, 2},
    "circle": lambda answer, row: circle(),
}


class Behaviour:
    """preprocess, inference, postprocess, and ``answer_all`` for forms with a handle of theirs."""

    def initialize(self, context):
        folder = Path(context.system_properties["model_dir"])
        self.spec = json.loads((folder / "spec.json").read_text())
        self.context = context
        self.device = torch.device("cpu")
        self.model = torch.nn.Identity()
        self.items, self.by_id, self.scales, self.asked = [], {}, [], []
        self.initialized = True

    def answer_all(self, data, context):
        self.context = context
        try:
            return self.postprocess(self.inference(self.preprocess(data)))
        except Exception as error:
            catches = self.spec["catches"]
            if catches == "all rows":
                context.set_all_response_status(code=400, phrase="Bad Request")
            elif catches == "first row":
                context.set_response_status(code=400, phrase="Bad Request")
            else:
                raise
            self.items = []
            return [{"error": type(error).__name__} for _ in data]

    # ---- preprocess

    def preprocess(self, data):
        if self.spec["state"] == "new":
            self.items = []
        self.asked, rows = [], []
        for i, row in enumerate(data[:1] if self.spec["reads"] == "first row" else data):
            try:
                rows.append(self._read(i, row))
            except Exception as error:
                if self.spec["catches"] != "own row":
                    raise
                self.context.set_response_status(400, "Bad Request", idx=i)
                self.asked[-1] = {"error": type(error).__name__}
                rows.append(torch.tensor([0.0]))
        self.scales = [asked.get("scale", 1.0) for asked in self.asked]
        if self.spec["options"] == "of the first":
            self.scales = self.scales[:1] * len(rows)
        return torch.stack(rows)

    def _read(self, i, row):
        headers = self.context.get_all_request_header(i)
        body = row.get("data") or row.get("body")
        asked = body if isinstance(body, dict) else json.loads(headers.get("x-do") or "{}")
        self.asked.append(dict(asked))
        item = {
            "id": self.context.get_request_id(i),
            "name": headers.get("x-name"),
            "parts": [[k, type(v).__name__, str(headers.get(k))] for k, v in sorted(row.items())],
        }
        if self.spec["sets"] != "postprocess":
            self._set(i, asked)
        if self.spec["state"] == "by id":
            self.by_id[item["id"]] = item
        elif self.spec["state"] == "on context":
            self.context.items = [*getattr(self.context, "items", ()), item] if i else [item]
        else:
            self.items.append(item)
        self._fail("preprocess", asked)
        return torch.tensor(self._take(row, asked, headers))

    def _take(self, row, asked, headers):
        """Reads the numbers; some handlers leave less, or more, of the input than they found."""
        changes = self.spec["input"]
        isbody = asked is (row.get("data") or row.get("body"))
        if changes == "popped" and isbody:
            return asked.pop("x")
        numbers = [float(number) for number in asked.get("x", [1.0])]
        if changes == "popped" or changes == "cleared":
            row.clear()
        elif changes == "grown" and isbody:
            asked["x"].append(9.0)
        elif changes == "headers":
            headers.pop("x-name", None)
        return numbers

    # ---- inference

    def inference(self, data):
        for asked in self.asked:
            self._fail("inference", asked)
        uses = self.spec["scales"]
        if uses == "by row":
            data = data * torch.tensor(self.scales)[:, None]
        elif uses == "consumed":
            data = torch.stack([row * self.scales.pop(0) for row in data])
        if self.spec["mixes"] == "mean":
            data = data - data.mean(0)
        kind = self.spec["output"]
        if kind == "in place":
            return data.mul_(2)
        if kind == "integers":
            return (data * 2).long()
        output = data * 2
        if kind in ("-inf", "nan"):
            return torch.cat([output, torch.full_like(output[:, :1], float(kind))], 1)
        return {
            "tensor": lambda: output,
            "tuple": lambda: (output, output.sum(1)),
            "dict": lambda: {"scores": output},
            "list": lambda: list(output),
        }[kind]()

    def get_insights(self, data, inputs, target):
        self.items = []
        return [{"explained": data.sum().item()}]

    def describe_handle(self):
        return {"who": "me"}

    # ---- postprocess

    def postprocess(self, output):
        if isinstance(output, (tuple, dict)):
            output = output[0] if isinstance(output, tuple) else output["scores"]
        answers = []
        for i, row in enumerate(output):
            item = self._item(i)
            asked = self.asked[i]
            if self.spec["sets"] == "postprocess":
                self._set(i, asked)
            self._fail("postprocess", asked)
            answer = {**item, "x": row.tolist(), **{k: asked[k] for k in ("error",) if k in asked}}
            if self.spec["options"] == "of the first":
                answer["scale"] = self.scales[0]
            if self.spec["mixes"] == "count":
                answer["of"] = len(output)
            made = RETURNS[asked.get("returns", "json")](answer, row)
            answers += [made] * {"none": 0, "one": 1, "two": 2}[asked.get("answers", "one")]
        if self.spec["state"] == "appended":
            self.items = []
        return {
            "list": lambda: answers,
            "tuple": lambda: tuple(answers),
            "none": lambda: None,
            "dict": lambda: dict(enumerate(answers)),
        }[self.spec["container"]]()

    def _item(self, i):
        kept = self.spec["state"]
        if kept == "by id":
            return self.by_id.pop(self.context.get_request_id(i))
        if kept == "on context":
            return self.context.items[i]
        return self.items.pop(0) if kept == "queued" else self.items[i]

    # ---- what a client provokes

    def _fail(self, step, asked):
        if asked.get("fails", "").startswith(f"{step}:"):
            raise ERRORS[asked["fails"].split(":")[1]]()

    def _set(self, i, asked):
        if self.spec["sets"] == "counted":
            tries = int(self.context.get_response_headers(i).get("x-tries", 0)) + 1
            self.context.set_response_header(i, "x-tries", str(tries))
        if "status" in asked:
            code, phrase = STATUSES[asked["status"]]
            self.context.set_response_status(code, phrase, idx=i)
        if "header" in asked:
            name, value = HEADERS[asked["header"]]
            self.context.set_response_header(i, name, value)
