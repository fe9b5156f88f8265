"""Groups of a small network served by the real service, with liars among the answers."""

import io
import sys
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from serving_harness import BINARY, MODELS, png, wrapped

from approxifer_torchserve.artifacts.locator_file import save_locator
from approxifer_torchserve.codes import calibrate, make_code
from approxifer_torchserve.corruption import corrupt
from approxifer_torchserve.serving.worker import wire

PARITY = {"code": {"queries": 4, "stragglers": 1}, "policy": {"verify": "parity"}}
ONE_LIAR = {"code": {"name": "pairs", "queries": 4, "stragglers": 0, "byzantine": 1}}
CLASSIC = {"code": {"queries": 2, "stragglers": 0, "byzantine": 1, "systematic": False}}


def network():
    sys.path.insert(0, str(MODELS))
    try:
        from curved_handler import network
    finally:
        sys.path.remove(str(MODELS))
    return network().eval().requires_grad_(False)


def pixels(number):
    """What the handler's preprocess makes of `png(number)`."""
    image = Image.open(io.BytesIO(png(number)))
    return torch.from_numpy(np.array(image, dtype="float32")).flatten() / 255


@lru_cache(maxsize=8)
def fitted(name, queries, stragglers, byzantine, systematic=True):
    """A locator for the network: of other images than those of the tests."""
    options = {} if name == "pairs" else {"systematic": systematic}
    shape = {"queries": queries, "stragglers": stragglers, "byzantine": byzantine}
    images = torch.rand(1200, 64, generator=torch.manual_seed(1))
    images = (images * 255).floor() / 255
    code = make_code(name, **shape, **options)
    return calibrate(code, network(), images, groups=1600, level=0.01, steps=250, width=32).locator


def file_of(tmp_path, approxifer):
    """The locator of a configuration's code, as a file."""
    code = approxifer["code"]
    locator = fitted(
        code.get("name", "approxifer"),
        code["queries"],
        code["stragglers"],
        code.get("byzantine", 0),
        code.get("systematic", True),
    )
    save_locator(locator, tmp_path / "fitted.safetensors")
    return tmp_path / "fitted.safetensors"


def served(tmp_path, approxifer, calibrated=False, **options):
    """The network in an archive with a check, loaded as a worker does."""
    if calibrated:
        options["locator"] = file_of(tmp_path, approxifer)
    extra = [MODELS / "png_handler.py"]
    return wrapped(tmp_path, "curved_handler.py", approxifer=approxifer, extra=extra, **options)


class Screened:
    """One group: what honest workers answer to it, and what a screen says of answers."""

    def __init__(self, worker, plan, size=None, start=0):
        self.worker, self.plan = worker, plan
        self.size = size or plan.queries
        self.members = {i: png(start + i) for i in range(self.size)}
        self.parities = [i for i, q in enumerate(plan.systematic) if q is None]
        jobs = [worker.raw(f"m{i}", body) for i, body in self.members.items()]
        jobs += [worker.job(f"p{i}", "parity", self.members, coded=i) for i in self.parities]
        indices = [*self.members, *self.parities]
        replies = worker.reply(*jobs)
        self.blobs = {
            i: sections["prediction"] for i, (_, sections) in zip(indices, replies, strict=True)
        }

    def answers(self, liar=None, kind="huge", size=None):
        """Answers by coded query; one of them lies."""
        if liar is None:
            return dict(self.blobs)
        truth = torch.stack([wire.decode(blob) for blob in self.blobs.values()])[None]
        lying = torch.tensor([[i == liar for i in self.blobs]])
        told = corrupt(truth, lying, kind, size=size, generator=torch.manual_seed(5))[0]
        return dict(zip(self.blobs, (wire.encode(row) for row in told), strict=True))

    def job(self, blobs, request_id="s", **options):
        job = {"kind": "screen", "size": self.size, "available": sorted(blobs), **options}
        parameters = {f"p{i}": (BINARY, blob) for i, blob in blobs.items()}
        return self.worker.signed(request_id, job, parameters)

    def screen(self, blobs, **options):
        """The reply's header."""
        ((header, sections),) = self.worker.reply(self.job(blobs, **options))
        assert sections == {}
        return header

    def verdict(self, blobs):
        header = self.screen(blobs)
        return header["wrong"], header["suspected"]
