"""The reply to one job: a frame, as ``docs/protocol.md`` has it."""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

MAGIC = b"AXF1"
MAX_HEADER = 1 << 24


class MalformedReplyError(ValueError):
    """A body is not a whole reply frame."""


class Reply(NamedTuple):
    """What a worker answers to one job.

    Attributes:
        header: ``kind``, and the keys that apply; without ``sections``.
        sections: Bytes by name, in their order.
    """

    header: dict[str, Any]
    sections: dict[str, bytes]

    def build(self) -> bytes:
        """Returns the frame: magic, header length, header JSON, sections end to end."""
        listed = [[name, len(body)] for name, body in self.sections.items()]
        text = json.dumps({**self.header, "sections": listed}, separators=(",", ":"))
        return _frame(text.encode("utf-8"), *self.sections.values())

    @classmethod
    def parse(cls, body: bytes | bytearray) -> Reply:
        """Takes a frame apart; ``sections`` stays in the header as it came.

        Raises:
            MalformedReplyError: It is no frame, is truncated, or its lengths do not add up.
        """
        data = bytes(body)
        if len(data) < 8 or data[:4] != MAGIC:
            raise MalformedReplyError(
                f"expected a frame that starts with {MAGIC!r}, got {data[:4]!r}"
            )
        (length,) = struct.unpack(">I", data[4:8])
        if length > MAX_HEADER or 8 + length > len(data):
            raise MalformedReplyError(f"expected a header of {length} bytes, got {len(data) - 8}")
        try:
            header = json.loads(data[8 : 8 + length])
            listed = [(str(name), size) for name, size in header["sections"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MalformedReplyError(f"header is not the expected JSON: {error}") from None
        if any(type(size) is not int or size < 0 for _, size in listed):
            raise MalformedReplyError("a section's length is not a whole number of bytes")
        if len({name for name, _ in listed}) != len(listed):
            raise MalformedReplyError("a section is listed twice")
        at, total = 8 + length, sum(size for _, size in listed)
        if at + total != len(data):
            raise MalformedReplyError(f"expected {total} bytes of sections, got {len(data) - at}")
        sections = {}
        for name, size in listed:
            sections[name] = data[at : at + size]
            at += size
        return cls(header, sections)


def build_answer(answer: bytes) -> bytes:
    """Returns the frame of a raw job that holds an answer and nothing else, as most do."""
    return _frame(b'{"kind":"raw","sections":[["answer",%d]]}' % len(answer), answer)


def _frame(header: bytes, *sections: bytes) -> bytes:
    return b"".join((MAGIC, struct.pack(">I", len(header)), header, *sections))
