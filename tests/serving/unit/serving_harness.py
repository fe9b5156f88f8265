"""Builds archives of small handlers and talks to them as TorchServe's frontend would."""

import io
import json
import os
import secrets
import shutil
import sys
from pathlib import Path

import numpy as np
import ts
from PIL import Image
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.model_loader import TsModelLoader

from approxifer_torchserve.serving.archive.wrap import Existing, Options, Parts, wrap_archive
from approxifer_torchserve.serving.worker import messages
from approxifer_torchserve.serving.worker.reply import Reply

MODELS = Path(__file__).parent / "models"
UNWRAPPED = TsModelLoader._load_default_envelope
BINARY = "application/octet-stream"
JSON = "application/json"


def png(seed: int, size: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def metrics(name: str) -> MetricsCacheYamlImpl:
    path = Path(ts.__file__).parent / "configs" / "metrics.yaml"
    cache = MetricsCacheYamlImpl(config_file_path=str(path))
    cache.initialize_cache()
    cache.model_name = name
    return cache


class Worker:
    """A worker process's service, loaded by TorchServe's own loader in this process."""

    def __init__(self, model_dir: Path, handler: str, envelope: str | None = None):
        self.model_dir = model_dir
        self.key = secrets.token_hex(32)
        self.key_file = model_dir / f"approxifer-{os.getppid()}.key"
        self.key_file.write_text(self.key)
        # Each worker is a process of its own under TorchServe: nothing of an earlier one stays.
        for path in [*model_dir.glob("*.py"), *MODELS.glob("*.py")]:
            sys.modules.pop(path.stem, None)
        TsModelLoader._load_default_envelope = UNWRAPPED
        sys.path.insert(0, str(model_dir))
        try:
            name = model_dir.name
            self.service = TsModelLoader().load(
                name, str(model_dir), handler, None, 8, envelope, True, metrics(name)
            )
        finally:
            sys.path.remove(str(model_dir))
        self.service.set_cl_socket(None)

    def send(self, *requests):
        return messages.parse_response(self.service.predict(list(requests)))

    def signed(self, request_id, job, parameters, headers=None):
        own = messages.job_header(self.key, request_id, job)
        return messages.request(request_id, parameters, {**(headers or {}), **own})

    def raw(self, request_id, body, headers=None, kind=BINARY, want=True):
        job = {"kind": "raw", "want": want}
        return self.signed(request_id, job, {"body": (kind, body)}, headers)

    def group(self, request_id, kind, bodies, headers=None, content_type=BINARY, **job):
        """A job of a group whose members are at the indices of ``bodies``."""
        members, parameters = [], {}
        for index, body in bodies.items():
            own = (headers or {}).get(index, {})
            members.append({"index": index, "headers": own, "parameters": ["body"]})
            parameters[f"m{index}/body"] = (content_type, body)
        full = {"kind": kind, "size": max(bodies) + 1, "members": members, **job}
        return full, parameters

    def job(self, request_id, kind, bodies, extra=None, **options):
        full, parameters = self.group(request_id, kind, bodies, **options)
        blobs = {name: (BINARY, blob) for name, blob in (extra or {}).items()}
        return self.signed(request_id, full, {**parameters, **blobs})

    def reply(self, *requests):
        code, text, replies = self.send(*requests)
        assert (code, text) == (200, "Prediction success")
        return [Reply.parse(reply.body) for reply in replies]


def archived(export_path, source=None, *, archive_format="default", force=False, **given):
    """Wraps an archive, or the parts among the arguments, with the options among them."""
    kind = Parts if source is None else Existing
    own = {name: given.pop(name) for name in kind.model_fields if name in given}
    if source is not None:
        own["path"] = source
    given = {name: value for name, value in given.items() if value is not None}
    return wrap_archive(
        kind(**own),
        Options(**given),
        export_path=export_path,
        archive_format=archive_format,
        force=force,
    )


def wrapped(tmp_path, handler="png_handler.py", envelope=None, extra=(), **options):
    """Archives a handler of ``models`` and loads the archive's entry."""
    report = archived(
        tmp_path,
        handler=str(MODELS / handler) if ".py" in handler else handler,
        model_name="model",
        archive_format="no-archive",
        extra_files=extra,
        **options,
    )
    return Worker(report.path, "approxifer_handler.py", envelope), report


def plain(tmp_path, handler="png_handler.py", envelope=None):
    """The same handler under plain TorchServe."""
    model_dir = tmp_path / "plain"
    (model_dir / "MAR-INF").mkdir(parents=True)
    shutil.copy(MODELS / handler, model_dir)
    (model_dir / "model-config.yaml").write_text("minWorkers: 1\n")
    model = {"modelName": "model", "handler": handler, "modelVersion": "1.0"}
    manifest = {"model": {**model, "configFile": "model-config.yaml"}}
    (model_dir / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    return Worker(model_dir, handler, envelope)
