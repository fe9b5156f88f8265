"""Archives for the tests that run a real TorchServe."""

import subprocess
import sys

import pytest
import torch
from live_server import MODEL, net, png

from approxifer_torchserve.serving.archive import wrap_archive

LATE_AFTER_MS = 150


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

    def wrap(name, workers, *, version=None, settings=None, sample=None, **approxifer):
        approxifer.setdefault("policy", {}).update(late_after_ms=LATE_AFTER_MS, deadline_ms=20_000)
        wrap_archive(
            folder / "plain.mar",
            export_path=folder,
            model_name=name,
            version=version,
            settings={
                "minWorkers": workers,
                "maxWorkers": workers,
                "batchSize": 4,
                **(settings or {}),
            },
            approxifer=approxifer,
            sample=sample,
            force=True,
        )

    code = {"name": "approxifer", "queries": 2, "stragglers": 1}
    tiny = folder / "tiny.mar"
    wrap("tiny", 2, version="2.0", code={**code, "systematic": True})
    tiny.rename(folder / "tiny2.mar")
    wrap("tiny", 3, code={**code, "systematic": True})
    narrow = {"jobQueueSize": 2, "clientTimeoutInMills": 700}
    wrap("narrow", 1, code={**code, "systematic": True}, settings=narrow)
    sample = tmp_path_factory.mktemp("sample") / "probe.png"
    sample.write_bytes(png(0))
    trusting = {"probe_every_s": 0.5, "quarantine": {"wrong": 2, "of": 10, "clean": 3}}
    wrap("probed", 4, code={**code, "systematic": True}, policy=trusting, sample=sample)
    checking = {**trusting, "verify": "pair"}
    wrap("checked", 4, code={**code, "systematic": True}, policy=checking, sample=sample)
    wrap("classic", 3, code={**code, "systematic": False})
    wrap(
        "mending",
        2,
        code={**code, "systematic": True},
        policy={"on_late": ["reconstruct"], "min_degraded_accuracy": 0, "group_delay_ms": 50},
    )
    return folder
