"""Puts the ids of the requests at work before every line that a worker logs.

They are TorchServe's own: a REST client gets its id back as ``x-request-id``, the plugin's lines in
ts_log.log carry it, and these in model_log.log::

    [5c0e…-91f2] preprocess of the user's handler failed: cannot identify image file
    [5c0e…-91f2] Traceback (most recent call last):

Lines of a step that works on several requests at once carry all of their ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

# No context variable: threads that a user's handler starts should log with the ids too, and a
# worker has one batch at a time.
_at_work: tuple[str, ...] = ()


def working_on(ids: Iterable[str]) -> None:
    """Sets the requests that the lines from now on are about; none ends it."""
    global _at_work
    _at_work = tuple(dict.fromkeys(ids))


class RequestIds(logging.Formatter):
    """Formats as another formatter does, the ids before each line.

    Args:
        inner: What formats the record itself; None is logging's own default.
    """

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record's lines; ``[METRICS]`` lines stay as TorchServe parses them."""
        text = self.inner.format(record)
        if not _at_work or text.startswith("[METRICS]"):
            return text
        ids = " ".join(_at_work)
        # TorchServe's log has one entry per line, so one id before a traceback would not do.
        return "\n".join(f"[{ids}] {line}" for line in text.splitlines())


def install() -> None:
    """Makes the root logger's handlers, through which TorchServe's workers log, use it."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler.formatter, RequestIds):
            handler.setFormatter(RequestIds(handler.formatter))
