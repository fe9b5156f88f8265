"""Reply frames and job headers, as ``docs/protocol.md`` has them."""

from __future__ import annotations

import hmac
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAGIC = b"AXF1"
JOB_HEADER = "x-approxifer-job"
MAX_HEADER = 1 << 24

# Nearly every job is one of these, as the plugin writes it: not worth a JSON parser.
_USUAL_JOBS: dict[str, dict[str, Any]] = {
    '{"kind":"raw","want":false}': {"kind": "raw", "want": False},
    '{"kind":"raw","want":true}': {"kind": "raw", "want": True},
}


class FrameError(ValueError):
    """A body is not a whole reply frame."""


def build(header: Mapping[str, Any], sections: Mapping[str, bytes]) -> bytes:
    """Builds a reply: magic, header length, header JSON, sections end to end."""
    names = [[name, len(body)] for name, body in sections.items()]
    text = json.dumps({**header, "sections": names}, separators=(",", ":")).encode("utf-8")
    return b"".join([MAGIC, struct.pack(">I", len(text)), text, *sections.values()])


def build_answer(answer: bytes) -> bytes:
    """Builds the reply to a raw job that holds an answer and nothing else, as most do."""
    text = b'{"kind":"raw","sections":[["answer",%d]]}' % len(answer)
    return b"".join((MAGIC, struct.pack(">I", len(text)), text, answer))


def parse(body: bytes | bytearray) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Takes a reply apart.

    Raises:
        FrameError: It is no frame, is truncated, or its lengths do not add up.
    """
    data = bytes(body)
    if len(data) < 8 or data[:4] != MAGIC:
        raise FrameError(f"expected a frame that starts with {MAGIC!r}, got {data[:4]!r}")
    (length,) = struct.unpack(">I", data[4:8])
    if length > MAX_HEADER or 8 + length > len(data):
        raise FrameError(f"expected a header of {length} bytes, got {len(data) - 8}")
    try:
        header = json.loads(data[8 : 8 + length])
        listed = [(str(name), size) for name, size in header["sections"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FrameError(f"header is not the expected JSON: {error}") from None
    if any(type(size) is not int or size < 0 for _, size in listed):
        raise FrameError("a section's length is not a whole number of bytes")
    if len({name for name, _ in listed}) != len(listed):
        raise FrameError("a section is listed twice")
    at = 8 + length
    if at + sum(size for _, size in listed) != len(data):
        raise FrameError(
            f"expected {sum(size for _, size in listed)} bytes of sections, got {len(data) - at}"
        )
    sections = {}
    for name, size in listed:
        sections[name] = data[at : at + size]
        at += size
    return header, sections


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
        frontend_pid: Process id of the JVM, this worker's parent.
    """

    def __init__(self, model_dir: Path, frontend_pid: int) -> None:
        self.path = model_dir / f"approxifer-{frontend_pid}.key"
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
        for again in (False, True):
            key = self._load(again)
            if key is None:
                continue
            good = _sign(key, request_id, text).encode("ascii")
            if hmac.compare_digest(good, mac.encode("utf-8", "replace")):
                return True
        return False

    def _load(self, again: bool) -> hmac.HMAC | None:
        if self._key is None or again:
            try:
                text = self.path.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                return self._key
            if len(text) == 64:
                self._key = hmac.new(text.encode("ascii"), digestmod="sha256")
        return self._key
