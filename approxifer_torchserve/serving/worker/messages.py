"""The messages between TorchServe's frontend and a worker, as far as self-tests need them.

Format: ``ts/protocol/otf_message_handler.py`` of TorchServe 0.12.0.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from approxifer_torchserve.serving.worker.payloads import JOB_HEADER, sign


@dataclass
class Part:
    """One request's part of a worker's response."""

    request_id: str
    content_type: str
    status: int
    phrase: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def request(
    request_id: str,
    parameters: Mapping[str, tuple[str, bytes]],
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Makes one request as a worker's socket reader delivers it.

    Args:
        request_id: Its id, as the frontend gives one.
        parameters: The content type and bytes of each parameter, by name.
        headers: Its headers.
    """
    read = []
    for name, (content_type, raw) in parameters.items():
        value: Any = bytearray(raw)
        if content_type == "application/json":
            value = json.loads(raw)
        elif content_type.startswith("text"):
            value = raw.decode()
        read.append({"name": name, "contentType": content_type, "value": value})
    return {
        "requestId": bytearray(request_id.encode()),
        "headers": [
            {"name": bytearray(k.encode()), "value": bytearray(v.encode())}
            for k, v in (headers or {}).items()
        ],
        "parameters": read,
    }


def job_header(key: str, request_id: str, job: Mapping[str, Any]) -> dict[str, str]:
    """Makes a job header as the plugin does."""
    text = json.dumps(job, separators=(",", ":"))
    return {JOB_HEADER: f"v1 {sign(key, request_id, text)} {text}"}


def parse_response(message: bytes | bytearray) -> tuple[int, str, list[Part]]:
    """Takes a worker's response apart into code, message and the parts of its requests."""
    reader = _Reader(bytes(message))
    code, text = reader.integer(), reader.text()
    parts: list[Part] = []
    while True:
        length = reader.integer()
        if length == -1:
            return code, text, parts
        request_id = reader.take(length).decode()
        content_type, status, phrase = reader.text(), reader.integer(), reader.text()
        headers = {reader.text(): reader.text() for _ in range(reader.integer())}
        body = reader.take(reader.integer())
        parts.append(Part(request_id, content_type, status, phrase, headers, body))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        if length < 0 or self.at + length > len(self.data):
            raise ValueError(f"response ends at {len(self.data)}, expected {self.at + length}")
        self.at += length
        return self.data[self.at - length : self.at]

    def integer(self) -> int:
        (value,) = struct.unpack("!i", self.take(4))
        return int(value)

    def text(self) -> str:
        return self.take(self.integer()).decode()
