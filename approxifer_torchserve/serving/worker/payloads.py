"""What the plugin sends for a job: its signed header, and the clients' requests inside it."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "x-approxifer-"
"""Headers of this prefix are ours; the user's handler never sees them."""
JOB_HEADER = f"{PREFIX}job"

# Nearly every job is one of these, as the plugin writes it: not worth a JSON parser.
_USUAL_JOBS: dict[str, dict[str, Any]] = {
    '{"kind":"raw","want":false}': {"kind": "raw", "want": False},
    '{"kind":"raw","want":true}': {"kind": "raw", "want": True},
}


class JobError(ValueError):
    """A genuine job cannot be understood: plugin and worker are of different versions."""


class Member(BaseModel):
    """One client's request inside a group."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    index: int = Field(ge=0)
    headers: dict[str, str] = {}
    parameters: list[str]


class Job(BaseModel):
    """A job header's JSON; which fields matter depends on ``kind``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["raw", "parity", "encode", "coded", "decode", "screen", "compare"]
    want: bool = False
    coded: int = Field(0, ge=0)
    size: int = Field(0, ge=0)
    available: list[int] = []
    members: list[Member] = []
    requests: list[str] = []


_RAW = {"kind": "raw", "want": False}
_RAW_JOB = Job(kind="raw")


def parse_job(raw: Mapping[str, Any], num_workers: int, queries: int) -> Job:
    """Checks a job against the plan.

    Raises:
        JobError: Names the field that is wrong.
    """
    if raw == _RAW:  # by far the most
        return _RAW_JOB
    try:
        job = Job.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise JobError(f"job.{place}: {problem['msg']}, got {problem['input']!r}") from None
    if job.kind in ("parity", "encode", "decode", "screen") and not 1 <= job.size <= queries:
        raise JobError(f"job.size: expected 1..{queries}, got {job.size}")
    if job.kind in ("parity", "encode", "decode"):
        indices = [member.index for member in job.members]
        if not indices or len(set(indices)) != len(indices) or max(indices) >= job.size:
            raise JobError(f"job.members: expected distinct indices below {job.size}: {indices}")
        if job.requests and len(job.requests) != len(indices):
            raise JobError(f"job.requests: expected {len(indices)} ids, got {len(job.requests)}")
        if job.kind == "parity" and len(indices) != job.size:
            raise JobError(f"job.members: expected all {job.size} members, got {indices}")
    if job.coded >= max(num_workers, 1):
        raise JobError(f"job.coded: expected below {num_workers}, got {job.coded}")
    if any(not 0 <= i < num_workers for i in job.available):
        raise JobError(f"job.available: expected 0..{num_workers - 1}, got {job.available}")
    return job


def member_request(
    member: Member, data: Mapping[str, Any], headers: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Takes one member's request out of the job's parameters.

    Args:
        member: Its entry in the job.
        data: The job's parameters by name.
        headers: The job's headers; TorchServe keeps each parameter's content type there.

    Returns:
        The row and the headers, as TorchServe would give a lone request's to a handler.

    Raises:
        JobError: A parameter that the entry names did not come.
    """
    row: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name in member.parameters:
        key = f"m{member.index}/{name}"
        if key not in data:
            raise JobError(f"job.members: parameter {key} did not come")
        row[name] = data[key]
        own[name] = headers.get(key, {"content-type": ""})
    own.update(hide(member.headers))
    return row, own


def hide(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns headers without those between plugin and worker."""
    return {k: v for k, v in headers.items() if not k.lower().startswith(PREFIX)}


def sign(key: str, request_id: str, text: str) -> str:
    """Returns the HMAC-SHA256, in hex, of a job's JSON for one request."""
    return _sign(hmac.new(key.encode("ascii"), digestmod="sha256"), request_id, text)


def _sign(keyed: hmac.HMAC, request_id: str, text: str) -> str:
    # A copy of a keyed state takes a third of the time of keying one.
    own = keyed.copy()
    own.update(f"{request_id}\n{text}".encode())
    return own.hexdigest()


class JobKey:
    """The plugin's secret, read when the first job comes and again when a job does not verify.

    Args:
        model_dir: Where the plugin puts the file.
        above: Process ids of this worker's ancestors, one of which is the JVM: its parent, unless
            a launcher is between them.
    """

    def __init__(self, model_dir: Path, above: Sequence[int]) -> None:
        self.paths = [model_dir / f"approxifer-{pid}.key" for pid in above]
        self._key: hmac.HMAC | None = None

    def open(self, request_id: str, header: str) -> dict[str, Any] | None:
        """Returns the job of a header value, or None when it is not a genuine one.

        It may be shared with other calls: not to be changed.
        """
        try:
            version, mac, text = header.split(" ", 2)
        except ValueError:
            return None
        if version != "v1" or not (self._verify(request_id, mac, text)):
            return None
        usual = _USUAL_JOBS.get(text)
        if usual is not None:
            return usual
        try:
            job = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return job if isinstance(job, dict) else None

    def _verify(self, request_id: str, mac: str, text: str) -> bool:
        for key in self._keys():
            good = _sign(key, request_id, text).encode("ascii")
            if hmac.compare_digest(good, mac.encode("utf-8", "replace")):
                self._key = key
                return True
        return False

    def _keys(self) -> Iterator[hmac.HMAC]:
        """Yields the key that verified last, then those of the files."""
        if self._key is not None:
            yield self._key
        for path in self.paths:
            try:
                text = path.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                continue
            if len(text) == 64:
                yield hmac.new(text.encode("ascii"), digestmod="sha256")
