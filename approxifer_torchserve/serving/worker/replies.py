"""Builds replies that the frontend takes: none is longer than ``max_response_size``.

What is too long is left out, or said to be: the plugin then does without, and sends members of a
group to one worker each. A longer reply would end this worker's process, each time.
"""

from __future__ import annotations

import logging
from typing import Any

from approxifer_torchserve.serving.worker import wire
from approxifer_torchserve.serving.worker.failures import Failure
from approxifer_torchserve.serving.worker.outgoing import answer_of
from approxifer_torchserve.serving.worker.reply import Reply, build_answer
from approxifer_torchserve.serving.worker.request import Request

NOT_FINITE = "prediction holds NaN or Inf"
MAX_RAW_HEADER = 512
logger = logging.getLogger(__name__)


class Replies:
    """Builds the bodies of one worker's replies.

    Args:
        limit: How many bytes one may have.
        comparing: Whether predictions are sent to be compared, not to be decoded from.
    """

    def __init__(self, limit: int, comparing: bool) -> None:
        self.limit = limit
        self.comparing = comparing
        self._noted: set[str] = set()

    def build(self, header: dict[str, Any], sections: dict[str, bytes]) -> bytes:
        """Builds the reply to a job of a group; an error's, if it would be too long."""
        body = Reply(header, sections).build()
        if len(body) <= self.limit or not sections:
            return body
        kind = header["kind"]
        failure = Failure(500, self._too_long(f"{kind} reply", len(body)))
        return Reply({"kind": kind, "error": failure.json()}, {}).build()

    def raw(self, request: Request) -> bytes:
        """Builds the reply to a client's request that has been served."""
        header: dict[str, Any] = {"kind": "raw"}
        answer = answer_of(request)
        if not isinstance(answer, Failure) and len(answer) + MAX_RAW_HEADER > self.limit:
            answer = Failure(507, self._too_long("answer", len(answer)))
        if isinstance(answer, Failure):
            # What the handler set before it failed is not the answer's.
            request.reset()
            return Reply({**header, "error": answer.json()}, {}).build()
        if request.queries == 1 and request.finite and request.prediction is None:
            return build_answer(answer)
        sections = {"answer": answer}
        if request.queries != 1:
            header["queries"] = request.queries
        if not request.finite:
            header["erasure"] = NOT_FINITE
        elif request.prediction is not None:
            sections.update(self._wanted(request, len(answer)))
        return Reply(header, sections).build()

    def _wanted(self, request: Request, taken: int) -> dict[str, bytes]:
        """Returns a prediction as a section, or none where it cannot be sent."""
        if request.masked and not self.comparing:
            return {}  # nothing can be decoded from it
        try:
            prediction = wire.encode(request.prediction)
        except wire.WireError as error:
            logger.warning("prediction is not sent: %s", error)
            return {}
        size = taken + len(prediction) + MAX_RAW_HEADER
        if size > self.limit:
            self._too_long("answer with its prediction", size)
            return {}
        return {"prediction": prediction}

    def _too_long(self, what: str, size: int) -> str:
        """Says so, and logs it the first time."""
        said = f"{what} of {size} bytes is not sent: max_response_size is {self.limit}"
        if what not in self._noted:
            self._noted.add(what)
            logger.warning("%s; raise it in config.properties", said)
        return said
