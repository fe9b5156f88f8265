"""Tries a wrapped handler on one request body, in a process of its own.

Another process, because the handler is loaded by name from its folder and may set anything it
likes in the process it runs in.
"""

from __future__ import annotations

import json
import mimetypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel, Field

from approxifer_torchserve.serving.archive.packing import MANIFEST, ArchiveError, Unpacked

TIMEOUT_S = 300.0
# Archiving does not import what workers run: TorchServe stays out of this process.
SELF_TEST = "approxifer_torchserve.serving.worker.selftest"


class SampleReport(BaseModel):
    """What the self-test found.

    Args:
        staged: The handler's steps can be called one by one.
        codable: One query of floating tensors in, floating tensors with one row per query out.
        reason: Why it is not codable.
        query: Shapes and dtypes of the query's tensors.
        prediction: The same of the prediction's.
        answer_bytes: Size of the answer to the sample.
        milliseconds: Median time of each kind of job that was tried.
        first_ms: Time of the very first request, which may compile, load or download something.
        known_prediction: The sample's prediction as safetensors, in hexadecimal; for probes.
    """

    staged: bool
    codable: bool
    reason: str | None = None
    query: list[str] = []
    prediction: list[str] = []
    answer_bytes: int = 0
    milliseconds: dict[str, float] = {}
    first_ms: float = 0.0
    known_prediction: str = Field("", exclude=True, repr=False)


def content_type_of(sample: Path) -> str:
    """Returns the content type that a file's name suggests."""
    return mimetypes.guess_type(sample.name)[0] or "application/octet-stream"


def run_sample(archive: Unpacked, sample: Path, content_type: str | None) -> SampleReport:
    """Serves a sample through the wrapped handler as TorchServe would, with each kind of job.

    Args:
        archive: The coded archive's files, with plan and entry file; they are not changed.
        sample: File with one request body.
        content_type: Its content type; None to go by the file's name.

    Raises:
        ArchiveError: The handler does not load, or does not answer the sample.
    """
    if not sample.is_file():
        raise ArchiveError(f"sample: there is no file {sample}")
    kind = content_type or content_type_of(sample)

    with tempfile.TemporaryDirectory(prefix="approxifer-sample-") as own:
        model_dir = Path(own) / "model"
        model_dir.mkdir()
        for item in archive.folder.iterdir():
            (model_dir / item.name).symlink_to(item)
        (model_dir / MANIFEST).parent.mkdir()
        (model_dir / MANIFEST).write_text(json.dumps(archive.manifest), encoding="utf-8")
        result = Path(own) / "result.json"
        package = str(Path(__file__).parents[3])
        path = os.pathsep.join(
            [str(model_dir), package, *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        arguments = [str(model_dir), str(sample.resolve()), kind, str(result)]
        said = Path(own) / "output"
        code = _finish(
            [sys.executable, "-m", SELF_TEST, *arguments],
            {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            said,
        )
        if code != 0 or not result.is_file():
            text = said.read_text(encoding="utf-8", errors="replace")
            tail = "\n".join(text.strip().splitlines()[-12:])
            raise ArchiveError(f"sample: the wrapped handler failed on it:\n{tail}")
        return SampleReport.model_validate_json(result.read_bytes())


def _finish(command: list[str], environment: dict[str, str], output: Path) -> int:
    """Runs the self-test and returns its exit code; nothing of it is left when it takes too long.

    Its output goes to a file: a pipe would stay open as long as any process of the handler's does.
    """
    with output.open("wb") as said:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ArchiveError(f"sample: the handler did not finish in {TIMEOUT_S:.0f} s") from None
    finally:
        if process.returncode is None:  # not collected: the group's number is still its own
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
