"""How one client's failure is told, worded as TorchServe would word it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CODE_FAULTS = (NameError, AttributeError, ImportError, NotImplementedError)
_OBJECT = re.compile(r"<[^<>]*\bat 0x[0-9a-fA-F]+[^<>]*>")
_PATH = re.compile(r"(?<![\w./])(?:/[^\s'\"/:,;()]+){2,}/?")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_LONGEST = 200


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
    return f": {text[:_LONGEST]}" if text else ""
