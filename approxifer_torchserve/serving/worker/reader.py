"""Reads the frontend's messages in large pieces.

TorchServe's worker asks the system for every field of every header by itself, about fifty calls per
request, and puts a large body together from copies. That is most of what a small request costs a
worker.
"""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Protocol

PIECE = 1 << 16
NAME = "_retrieve_buffer"
logger = logging.getLogger(__name__)


class Connection(Protocol):
    """What is needed of a socket."""

    def recv(self, size: int, /) -> bytes:
        """Returns at most ``size`` bytes; none once the other side has closed."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fills a buffer from its start; returns how many bytes came."""


class PieceReader:
    """Stands in for ``ts.protocol.otf_message_handler._retrieve_buffer``.

    It may read on into the next message, so everything must be read through the same object.
    """

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._piece = b""
        self._at = 0

    def __call__(self, connection: Connection, length: int) -> bytearray:
        """Returns the next ``length`` bytes; ends the process when the frontend is gone."""
        if connection is not self._connection:
            self._connection, self._piece, self._at = connection, b"", 0
        start, end = self._at, self._at + length
        if end <= len(self._piece):
            self._at = end
            return bytearray(self._piece[start:end])
        data = bytearray(length)
        view = memoryview(data)
        have = len(self._piece) - start
        view[:have] = memoryview(self._piece)[start:]
        self._piece, self._at = b"", 0
        while length - have >= PIECE:
            have += _some(connection.recv_into(view[have:]))
        while have < length:
            self._piece = connection.recv(PIECE)
            self._at = min(_some(len(self._piece)), length - have)
            view[have : have + self._at] = memoryview(self._piece)[: self._at]
            have += self._at
        return data


def _some(received: int) -> int:
    if received == 0:
        # As TorchServe's own reader does.
        logging.info("Frontend disconnected.")
        sys.exit(0)
    return received


def install(protocol: ModuleType) -> None:
    """Makes TorchServe's ``otf_message_handler`` read in pieces; between two messages only."""
    original = getattr(protocol, NAME, None)
    if original is None:
        logger.warning("%s has no %s: it reads field by field", protocol.__name__, NAME)
    elif not isinstance(original, PieceReader):
        setattr(protocol, NAME, PieceReader())
