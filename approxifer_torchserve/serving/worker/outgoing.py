"""What goes out for one client: its answer's bytes, and beside them status, phrase and headers.

TorchServe writes whatever a handler sets. A header that is no text ends the worker's process, a
line break in one garbles the response or leaves its client without any. Such an answer is a failure
of that client alone.
"""

from __future__ import annotations

import re
from typing import Any

from approxifer_torchserve.serving.worker.answers import UNSUPPORTED, UnsupportedError, serialise
from approxifer_torchserve.serving.worker.failures import Failure
from approxifer_torchserve.serving.worker.payloads import Member
from approxifer_torchserve.serving.worker.request import Request

BAD_STATUS = Failure(503, "Unsupported response status")
BAD_HEADER = Failure(503, "Unsupported response header")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Java counts what is not ASCII otherwise than TorchServe's worker does.
_ASCII = re.compile(r"[\t\x20-\x7e]*")
_LINE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")


def answer_of(request: Request) -> bytes | Failure:
    """Returns the bytes of a request's answer, or what is told instead."""
    if request.failure is not None:
        return request.failure
    try:
        answer = serialise(request.answer)
    except UnsupportedError:
        return Failure(503, UNSUPPORTED)
    return _check(request.processor) or answer


def _check(processor: Any) -> Failure | None:
    status = processor.get_response_status_code()
    phrase = processor.get_response_status_phrase()
    if status is not None and not (isinstance(status, int) and 100 <= status <= 999):
        return BAD_STATUS
    if phrase and not _is(_ASCII, phrase):
        return BAD_STATUS
    headers = processor.get_response_headers()
    if not headers:
        return None
    sound = all(_is(_NAME, name) and _is(_LINE, value) for name, value in headers.items())
    if not sound or not _is(_ASCII, headers.get("content-type") or ""):
        return BAD_HEADER
    return None


def _is(pattern: re.Pattern[str], text: Any) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def phrase_of(failure: Failure) -> str:
    """Returns a failure's message if it can be sent beside a status, else nothing."""
    return failure.message if _is(_ASCII, failure.message) else ""


def beside(member: Member, request: Request) -> dict[str, Any]:
    """Returns what TorchServe sends beside a body, for an answer that travels inside a frame."""
    headers = dict(request.processor.get_response_headers())
    phrase = request.processor.get_response_status_phrase()
    return {
        "section": f"answer{member.index}",
        "status": request.processor.get_response_status_code() or 200,
        "phrase": phrase or "",
        "contentType": headers.get("content-type", ""),
        "headers": headers,
    }
