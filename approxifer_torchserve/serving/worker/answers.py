"""What one client is told, an answer or a failure, as plain TorchServe would send and word it."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from typing import Any

import torch

UNSUPPORTED = "Unsupported model output data type."
_CODE_FAULTS = (NameError, AttributeError, ImportError, NotImplementedError)
_OBJECT = re.compile(r"<[^<>]*\bat 0x[0-9a-fA-F]+[^<>]*>")
_PATH = re.compile(r"(?<![\w./])(?:/[^\s'\"/:,;()]+){2,}/?")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_MAX_REASON = 200


class UnsupportedError(ValueError):
    """A handler returned something that TorchServe cannot send."""


def serialise(value: Any) -> bytes:
    """Serialises one answer as ``ts.protocol.otf_message_handler.create_predict_response`` does.

    A test compares the two, since bodies must be byte-identical to plain TorchServe's.

    Raises:
        UnsupportedError: It is neither bytes, text, a tensor nor JSON.
    """
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, torch.Tensor):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()
    try:
        return json.dumps(value, indent=2).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedError(UNSUPPORTED) from error


@dataclass(frozen=True)
class Failure:
    """What a client is told: HTTP status and message."""

    status: int
    message: str

    def json(self) -> dict[str, int | str]:
        """Returns the form a reply frame carries."""
        return {"status": self.status, "message": self.message}


class OutputError(Exception):
    """A handler returned what TorchServe would not send; the message is TorchServe's."""


PREDICTION_FAILED = Failure(503, "Prediction failed")
OUT_OF_RESOURCES = Failure(507, "Out of resources")


def describe(error: Exception, *, refused_by: str | None = None) -> Failure:
    """Says what a client whose request raised ``error`` is told.

    Args:
        error: What the handler raised.
        refused_by: Name of the step that reads the client's input, such as ``"preprocess"``, if
            the error came from there: then it is the client's (400) unless it is plainly a fault
            of the handler's code.
    """
    if isinstance(error, OutputError):
        return Failure(503, str(error))
    if isinstance(error, MemoryError):
        return OUT_OF_RESOURCES
    if any(kind.__name__ == "PredictionException" for kind in type(error).__mro__):
        status = getattr(error, "error_code", 500)
        return Failure(
            status if isinstance(status, int) else 500, str(getattr(error, "message", error))
        )
    if "CUDA" in str(error):
        return OUT_OF_RESOURCES
    if refused_by is None or isinstance(error, _CODE_FAULTS):
        return PREDICTION_FAILED
    return refusal(error, refused_by)


def refusal(error: Exception, refused_by: str) -> Failure:
    """Says that a client's input was refused, with the reason but nothing of this machine."""
    return Failure(400, f"{refused_by} refused the input: {type(error).__name__}{_reason(error)}")


def _reason(error: Exception) -> str:
    # Paths and addresses are of use to an attacker only.
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    for pattern in (_OBJECT, _ADDRESS, _PATH):
        text = pattern.sub("", text)
    text = re.sub(r"''|\"\"", "", text)
    text = re.sub(r"\s+", " ", text).strip(" :")
    return f": {text[:_MAX_REASON]}" if text else ""
