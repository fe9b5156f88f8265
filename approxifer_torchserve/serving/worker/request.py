"""One client's request on its way through a handler, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from approxifer_torchserve.serving.worker import trees
from approxifer_torchserve.serving.worker.attempts import Snapshot
from approxifer_torchserve.serving.worker.failures import Failure, OutputError


@dataclass(eq=False, slots=True)
class Request:
    """One client's request, and what became of it.

    Args:
        rows: What the user's handler is given for it; an envelope may hold several.
        processor: TorchServe's object that holds its headers, status and response headers.
        request_id: Its id.
        close: Turns the answers for its rows into one answer, if an envelope was opened.
        view: A context for this request alone, if an envelope keeps state on it.
        want: Whether its prediction is wanted beside its answer.

    Attributes:
        finite: Its prediction holds nothing that another worker should be asked about.
        masked: Its prediction holds −inf, as this model's do (``infinities``).
    """

    rows: list[Any]
    processor: Any
    request_id: str
    close: Callable[[list[Any]], Any] | None = None
    view: Any = None
    want: bool = False
    failure: Failure | None = None
    answer: Any = None
    prediction: trees.Tree | None = None
    finite: bool = True
    masked: bool = False
    queries: int = 1
    snapshot: Snapshot | None = None
    tried: bool = False

    def keep(self) -> None:
        """Keeps it as it came, since it may be tried more than once."""
        if self.snapshot is None:
            self.snapshot = Snapshot(self.rows, self.processor.get_request_properties())

    def renew(self) -> None:
        """Makes it as it came, unless this is the first try."""
        if self.tried and self.snapshot is not None:
            self.rows = self.snapshot.rows()
            self.reset(self.snapshot.headers())
        self.tried = True

    def reset(self, headers: dict[str, Any] | None = None) -> None:
        """Forgets the status and the response headers that were set for it."""
        self.processor.__init__(
            self.processor.get_request_properties() if headers is None else headers
        )

    def fail(self, failure: Failure) -> None:
        """Settles it as failed; nothing of an earlier attempt remains."""
        self.failure, self.answer, self.prediction = failure, None, None

    def settle(self, results: list[Any]) -> None:
        """Settles it with the handler's answers for its rows.

        Raises:
            OutputError: The envelope made no single answer of them.
        """
        if self.close is None:
            (self.answer,) = results
            return
        closed = self.close(results) if results else results
        if not isinstance(closed, list):
            raise OutputError("Invalid model predict output")
        if len(closed) != 1:
            raise OutputError("number of batch response mismatched")
        self.answer = closed[0]


@dataclass
class Mates:
    """Coded queries, one row each, that may share the forward of other requests.

    After the forward ``outputs[i]`` is a batch of one row, an exception, or None if it has not
    run.
    """

    inputs: list[trees.Tree] = field(default_factory=list)
    owners: list[Request] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    def add(self, query: trees.Tree, owner: Request) -> int:
        """Adds a batch of one row; returns its place. The owner is the job it came with."""
        self.inputs.append(query)
        self.owners.append(owner)
        self.outputs.append(None)
        return len(self.inputs) - 1


def spread(requests: Sequence[Request]) -> bool:
    """Tells whether an error status of a batch may be that of one client, given to others too.

    A handler that catches what a row raised may set the status of all rows, or of the first one,
    which is what ``context.set_response_status(code)`` does. Some rows may have errors of their own
    beside it.
    """
    return len(requests) > 1 and _is_error(requests[0])


def _is_error(request: Request) -> bool:
    status = request.processor.get_response_status_code()
    return isinstance(status, int) and status >= 400


def deal(requests: Sequence[Request], results: Any) -> None:
    """Gives each request its part of a handler's answers.

    Raises:
        OutputError: They are not one per row; worded as TorchServe does.
    """
    if not isinstance(results, list):
        raise OutputError("Invalid model predict output")
    if len(requests) == 1 and requests[0].close is not None:
        # An envelope takes what it gets, as under TorchServe.
        requests[0].settle(results)
        return
    if len(results) != count_rows(requests):
        raise OutputError("number of batch response mismatched")
    at = 0
    for request in requests:
        request.settle(results[at : at + len(request.rows)])
        at += len(request.rows)


def count_rows(requests: Sequence[Request]) -> int:
    """Returns how many rows requests have together."""
    return sum(len(request.rows) for request in requests)
