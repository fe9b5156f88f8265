"""One client's answer as bytes, as plain TorchServe would send it."""

from __future__ import annotations

import io
import json
from typing import Any

import torch

UNSUPPORTED = "Unsupported model output data type."


class UnsupportedError(ValueError):
    """A handler returned something that TorchServe cannot send."""


def serialise(value: Any) -> bytes:
    """Serialises one answer as ``ts.protocol.otf_message_handler.create_predict_response`` does.

    A test compares the two, since bodies must be byte-identical to plain TorchServe's.

    Raises:
        UnsupportedError: It is neither bytes, text, a tensor nor JSON; text with half a surrogate
            pair is none.
    """
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UnsupportedError(UNSUPPORTED) from error
    if isinstance(value, torch.Tensor):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()
    try:
        return json.dumps(value, indent=2).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedError(UNSUPPORTED) from error
