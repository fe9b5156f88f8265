"""Archives for the tests that run a real TorchServe."""

import subprocess
import sys

import pytest
import torch
from live_server import LATE_AFTER_MS, MODEL, net, png

from approxifer_torchserve.artifacts import weights as own_weights
from approxifer_torchserve.artifacts.locator_file import save_locator
from approxifer_torchserve.codes import calibrate, make_code
from approxifer_torchserve.serving.archive.wrap import Existing, Options, Parts, wrap_archive


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A model store with the same model archived in several ways."""
    folder = tmp_path_factory.mktemp("store")
    weights = tmp_path_factory.mktemp("weights") / "net.pt"
    torch.save(net().state_dict(), weights)
    archiver = [sys.executable, "-m", "model_archiver.model_packaging"]
    named = ["--model-name", "plain", "--version", "1.0", "--export-path", str(folder)]
    handler = ["--handler", str(MODEL / "pngs.py"), "--model-file", str(MODEL / "net.py")]
    serialized = ["--serialized-file", str(weights)]
    subprocess.run([*archiver, *named, *handler, *serialized], check=True)

    def wrap(
        name, workers, *, version=None, settings=None, sample=None, locator=None, **approxifer
    ):
        approxifer.setdefault("envelope", "auto")
        approxifer.setdefault("policy", {}).update(late_after_ms=LATE_AFTER_MS, deadline_ms=20_000)
        own = {"minWorkers": workers, "maxWorkers": workers, "batchSize": 4, **(settings or {})}
        wrap_archive(
            Existing(path=folder / "plain.mar", model_name=name, version=version),
            Options(settings=own, approxifer=approxifer, sample=sample, locator=locator),
            export_path=folder,
            force=True,
        )

    code = {"name": "approxifer", "queries": 2, "stragglers": 1}
    tiny = folder / "tiny.mar"
    wrap("tiny", 2, version="2.0", code={**code, "systematic": True})
    tiny.rename(folder / "tiny2.mar")
    wrap("tiny", 3, code={**code, "systematic": True})
    for name, limit in (("narrow", {"jobQueueSize": 2}), ("hasty", {"clientTimeoutInMills": 700})):
        wrap(name, 1, code={**code, "systematic": True}, settings=limit)
    sample = tmp_path_factory.mktemp("sample") / "probe.png"
    sample.write_bytes(png(0))
    trusting = {"probe_every_s": 0.5, "quarantine": {"wrong": 2, "of": 10, "clean": 3}}
    wrap("probed", 4, code={**code, "systematic": True}, policy=trusting, sample=sample)
    checking = {**trusting, "verify": "pair"}
    wrap("checked", 4, code={**code, "systematic": True}, policy=checking, sample=sample)

    def fitted(**code):
        """A locator for the model under test, fitted to other images of the same kind."""
        images = torch.randint(0, 256, (900, 1, 8, 8), generator=torch.manual_seed(1)) / 255
        located = calibrate(make_code(**code), net(), images, groups=800, level=0.01)
        path = tmp_path_factory.mktemp("locator") / "l.safetensors"
        save_locator(located.locator, path)
        return path

    vote = {"name": "replication", "queries": 1, "stragglers": 0, "byzantine": 1}
    wrap("voted", 4, code=vote, policy=dict(trusting), sample=sample)
    screen = {**code, "systematic": True}
    parity = {**trusting, "verify": "parity"}
    wrap("screened", 4, code=screen, policy=parity, sample=sample, locator=fitted(**screen))
    locate = {"name": "approxifer", "queries": 2, "stragglers": 0, "byzantine": 1}
    locate["systematic"] = False
    wrap("located", 6, code=locate, policy=dict(trusting), sample=sample, locator=fitted(**locate))
    wrap("classic", 3, code={**code, "systematic": False})
    wrap(
        "mending",
        2,
        code={**code, "systematic": True},
        policy={"on_late": ["reconstruct"], "min_degraded_accuracy": 0, "group_delay_ms": 50},
    )
    summed = Parts(
        model_name="summed",
        handler=str(MODEL / "exact.py"),
        model_file=MODEL / "net.py",
        serialized_file=weights,
    )
    options = Options(
        settings={"minWorkers": 4, "maxWorkers": 4},
        approxifer={
            "code": {"name": "parm", "queries": 3, "stragglers": 1},
            "policy": {
                "on_late": ["reconstruct"],
                "min_degraded_accuracy": 0,
                "late_after_ms": 300,
                "group_delay_ms": 50,
                "deadline_ms": 20_000,
            },
        },
        weights={"parity": sum_of(3, weights.parent / "parity.safetensors")},
    )
    wrap_archive(summed, options, export_path=folder)
    return folder


def sum_of(queries, path):
    """The weights that answer the sum of so many queries: exact, since the model is affine."""
    model = net()
    with torch.no_grad():
        model.linear.bias.mul_(queries)
    own_weights.save(model, path)
    return path
