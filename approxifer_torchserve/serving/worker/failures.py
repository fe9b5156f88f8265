"""What a client is told whose request fails: status and words as plain TorchServe's.

There is one difference: where ``preprocess`` refuses a client's input, its client is told why. What
counts as such a refusal is a short list of exceptions. A fault of the machine (a refused
connection, a full disk), of the handler's code, or an exception that nobody here knows is
TorchServe's 503 without reasons: its words may name hosts, and another worker may do better.
"""

from __future__ import annotations

import binascii
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_INPUT_FAULTS = (
    ArithmeticError,
    AssertionError,
    EOFError,
    LookupError,
    SyntaxError,  # a broken PNG, says Pillow
    TypeError,
    ValueError,
    binascii.Error,
    struct.error,
    zlib.error,
)
_CODE_FAULTS = (AttributeError, ImportError, NameError, NotImplementedError)
_DEVICE = re.compile(r"CUDA|cuDNN|cuBLAS|NCCL|HIP error|MPS|out of memory|can't allocate", re.I)
_OBJECT = re.compile(r"<[^<>]*\bat 0x[0-9a-fA-F]+[^<>]*>")
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://\S+|\b[\w-]+(?:\.[\w-]+)*:\d+\b")
_PATH = re.compile(r"(?<![\w./])(?:/[^\s'\"/:,;()]+){2,}/?")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_MAX_REASON = 200


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


def said(error: BaseException) -> str:
    """Returns an exception's words; some classes raise when they are asked for them."""
    try:
        return str(error)
    except Exception:
        return ""


def describe(error: Exception, *, refused_by: str | None = None) -> Failure:
    """Says what a client whose request raised ``error`` is told.

    Args:
        error: What the handler raised.
        refused_by: Name of the step that reads the client's input, such as ``"preprocess"``, if
            the error came from there: then it may be the client's (400).
    """
    if isinstance(error, OutputError):
        return Failure(503, str(error))
    if isinstance(error, MemoryError):
        return OUT_OF_RESOURCES
    if any(kind.__name__ == "PredictionException" for kind in type(error).__mro__):
        return _own_words(error)
    if "CUDA" in said(error):
        return OUT_OF_RESOURCES
    if refused_by is None or not _is_refusal(error):
        return PREDICTION_FAILED
    return refusal(error, refused_by)


def refusal(error: Exception, refused_by: str) -> Failure:
    """Says that a client's input was refused, with the reason but nothing of this machine."""
    return Failure(400, f"{refused_by} refused the input: {type(error).__name__}{_reason(error)}")


def _own_words(error: Exception) -> Failure:
    status, words = getattr(error, "error_code", 500), getattr(error, "message", None)
    usable = isinstance(status, int) and 100 <= status <= 999
    return Failure(status if usable else 500, words if isinstance(words, str) else said(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception and those that it was raised from, or while handling."""
    seen: set[int] = set()
    next_: BaseException | None = error
    while next_ is not None and id(next_) not in seen:
        seen.add(id(next_))
        yield next_
        next_ = next_.__cause__ or (None if next_.__suppress_context__ else next_.__context__)


def _is_refusal(error: Exception) -> bool:
    # "try: fetch() except ConnectionError: raise ValueError" is still no fault of the input.
    return _of_input(error) and all(
        _of_input(cause) or isinstance(cause, _CODE_FAULTS) for cause in _causes(error)
    )


def _of_input(error: BaseException) -> bool:
    if type(error).__module__.partition(".")[0] == "PIL":
        return True
    if isinstance(error, OSError):
        # Pillow's own for a truncated image is bare; the system's has a number, or a class.
        return type(error) is OSError and error.errno is None
    if isinstance(error, RuntimeError):
        # Torch's for tensors that do not fit together.
        return type(error) is RuntimeError and not _DEVICE.search(said(error))
    return isinstance(error, _INPUT_FAULTS)


def _reason(error: Exception) -> str:
    # Paths and addresses are of use to an attacker only.
    lines = said(error).strip().splitlines()
    text = lines[0] if lines else ""
    for pattern in (_OBJECT, _ADDRESS, _URL, _PATH):
        text = pattern.sub("", text)
    text = re.sub(r"''|\"\"", "", text)
    text = re.sub(r"\s+", " ", text).strip(" :")
    return f": {text[:_MAX_REASON]}" if text else ""
