"""The known query of an archive: what every worker is asked now and then, and its answer.

``probe.json`` names the files; the plugin reads it (docs/protocol.md).
"""

from __future__ import annotations

import json
from pathlib import Path

PROBE_FILE = "probe.json"
BODY_FILE = "probe.body"
PREDICTION_FILE = "probe.safetensors"


def write_probe(folder: Path, sample: Path, content_type: str, prediction: bytes) -> None:
    """Puts a request and the model's prediction for it into an unpacked archive.

    Args:
        folder: The archive's files.
        sample: One request body.
        content_type: The body's content type.
        prediction: What the model answers before postprocess, as `wire.encode` writes it.
    """
    (folder / BODY_FILE).write_bytes(sample.read_bytes())
    (folder / PREDICTION_FILE).write_bytes(prediction)
    parameter = {"name": "body", "content_type": content_type, "file": BODY_FILE}
    # As TorchServe marks a request to /predictions, so that no envelope is looked for.
    headers = {"explain": "False", "url_path": ""}
    probe = {"headers": headers, "parameters": [parameter], "prediction": PREDICTION_FILE}
    (folder / PROBE_FILE).write_text(json.dumps(probe, indent=1), encoding="utf-8")


def remove_probe(folder: Path) -> None:
    """Takes an earlier probe out of an unpacked archive."""
    for name in (PROBE_FILE, BODY_FILE, PREDICTION_FILE):
        (folder / name).unlink(missing_ok=True)
