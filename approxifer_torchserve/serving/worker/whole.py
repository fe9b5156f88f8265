"""Runs a handler whose ``handle`` is its own, so that one client's failure stays that client's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from approxifer_torchserve.serving.worker.attempts import HandlerState
from approxifer_torchserve.serving.worker.failures import describe, said
from approxifer_torchserve.serving.worker.request import Request, deal, spread

logger = logging.getLogger(__name__)


class WholeFlow:
    """A user's handler whose steps cannot be told apart: one function from rows to answers.

    Args:
        entry: The user's ``handle(data, context)``.
        enter: Gives the context for the requests whose rows come next.
        state: What the handler keeps.
        idempotent: Whether it may run again for a request after a batch mate made it fail.
    """

    def __init__(
        self,
        entry: Callable[[list[Any], Any], Any],
        enter: Callable[[Sequence[Request]], Any],
        state: HandlerState,
        idempotent: bool,
    ) -> None:
        self.entry = entry
        self.enter = enter
        self.state = state
        self.idempotent = idempotent

    def run(self, requests: Sequence[Request]) -> None:
        """Answers requests; afterwards each has an answer or a failure."""
        if not requests:
            return
        if len(requests) > 1:
            for request in requests:
                request.keep()
        self._run(requests)

    def _run(self, requests: Sequence[Request]) -> None:
        for request in requests:
            request.renew()
        context = self.enter(requests)
        notes = self.state.note(context)
        try:
            deal(requests, self.entry([r for q in requests for r in q.rows], context))
            if not self.idempotent or not spread(requests):
                return
            notes.put_back()
        except Exception as error:
            notes.put_back()
            text = said(error) or type(error).__name__
            logger.warning("handle of the user's handler failed: %s", text, exc_info=True)
            if len(requests) == 1 or not self.idempotent:
                for request in requests:
                    request.fail(describe(error))
                return
        for request in requests:
            self._run([request])
