"""Runs a user's handler on requests so that one client's failure stays that client's.

The flow of a healthy batch is exactly that of TorchServe's ``BaseHandler.handle``: one preprocess,
one inference, one postprocess, on the rows in their order. Only when a step raises is the batch
taken apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from approxifer_torchserve.serving.worker import trees
from approxifer_torchserve.serving.worker.answers import Failure, OutputError, describe

logger = logging.getLogger(__name__)
REFUSER = "preprocess"


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
    queries: int = 1

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


class StagedFlow:
    """Preprocess, inference, postprocess of one user's handler.

    Args:
        handler: The user's handler.
        enter: Called with the requests whose rows the next step gets; sets ``handler.context``.
        idempotent: Whether inference may run again for a request after a batch mate made it fail.
        lie: What a test makes of the model's output; the output itself otherwise.
    """

    def __init__(
        self,
        handler: Any,
        enter: Callable[[Sequence[Request]], None],
        idempotent: bool,
        lie: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self.handler = handler
        self.enter = enter
        self.idempotent = idempotent
        self.lie = lie
        self._output_device: Any = None

    @property
    def output_device(self) -> Any:
        """The device that inference leaves its output on; before any, the handler's own."""
        return self._output_device or getattr(self.handler, "device", None)

    def preprocess(self, requests: Sequence[Request]) -> tuple[list[Request], Any]:
        """Runs the user's preprocess on all rows at once, or without those it refuses.

        Returns:
            The requests that are in, and preprocess's output for them. The others have failed.

        Raises:
            ApartError: It takes them one by one only.
        """
        left = list(requests)
        if not left:
            return [], None
        try:
            return left, self._preprocess(left)
        except Exception as error:
            if len(left) == 1:
                self._log(error, "preprocess")
                left[0].fail(describe(error, refused_by=REFUSER))
                return [], None
        good = [request for request in left if self.preprocess([request])[0]]
        if not good:
            return [], None
        if len(good) == 1:
            # Again, since state that preprocess left must be this request's.
            return self.preprocess(good)
        try:
            return good, self._preprocess(good)
        except Exception as error:
            # Each is fine alone, such as images of different sizes.
            self._log(error, "preprocess of a batch")
            raise ApartError(good) from error

    def run(self, requests: Sequence[Request], mates: Mates | None = None) -> None:
        """Answers requests by the user's own inference, coded queries beside them.

        Afterwards each request has an answer or a failure, and each mate an output.
        """
        self._run(requests, lambda value, ready: self._infer(value, ready, mates))
        if mates is not None:
            self.infer_mates(mates)

    def finish(self, requests: Sequence[Request], output: Callable[[list[Request]], Any]) -> None:
        """Answers requests from predictions that were not inferred here.

        Args:
            requests: Clients' requests; their preprocess runs so that per-request state exists.
            output: Gives the model's raw output for some of them, as a batch.
        """
        self._run(requests, lambda _, ready: output(ready))

    def infer_mates(self, mates: Mates) -> None:
        """Runs the mates that no forward has taken yet, joined where their shapes allow."""
        waiting: dict[Any, list[int]] = {}
        for index, query in enumerate(mates.inputs):
            if mates.outputs[index] is None:
                waiting.setdefault(trees.signature(query), []).append(index)
        for group in waiting.values():
            self._infer_group(mates, group)

    def _infer_group(self, mates: Mates, group: list[int]) -> None:
        try:
            self.enter([mates.owners[i] for i in group])
            joined = trees.join([mates.inputs[i] for i in group])
            output = self._inference(joined)
            if trees.rows_of(output) != len(group):
                raise OutputError("inference did not return tensors with one row per query")
            for place, index in enumerate(group):
                mates.outputs[index] = trees.part(output, place, place + 1)
        except Exception as error:
            self._log(error, "inference of coded queries")
            if len(group) == 1:
                mates.outputs[group[0]] = error
                return
            for index in group:
                self._infer_group(mates, [index])

    def _run(
        self, requests: Sequence[Request], compute: Callable[[Any, list[Request]], Any]
    ) -> None:
        try:
            ready, value = self.preprocess(requests)
        except ApartError as apart:
            for request in apart.requests:
                self._run([request], compute)
            return
        if not ready:
            return
        try:
            output = compute(value, ready)
            self._postprocess(ready, value, output)
        except Exception as error:
            self._log(error, "inference or postprocess")
            if len(ready) == 1 or not self.idempotent:
                for request in ready:
                    request.fail(describe(error))
                return
            for request in ready:
                self._run([request], compute)

    def _preprocess(self, requests: list[Request]) -> Any:
        self.enter(requests)
        return self.handler.preprocess([row for request in requests for row in request.rows])

    def _inference(self, value: Any) -> Any:
        output = self.lie(self.handler.inference(value))
        tensors = trees.leaves(output)
        if tensors:
            self._output_device = tensors[0].device
        return output

    def _infer(self, value: Any, requests: list[Request], mates: Mates | None) -> Any:
        if mates is None or not mates.inputs:
            return self._inference(value)
        rows = trees.rows_of(value)
        joinable = []
        if rows is not None and rows == _count(requests):
            kind = trees.signature(value)
            joinable = [
                i
                for i, query in enumerate(mates.inputs)
                if mates.outputs[i] is None and trees.signature(query) == kind
            ]
        if not joinable or rows is None:
            return self._inference(value)
        # Rows of coded queries first: what preprocess left in the handler is the requests'.
        batches = [mates.inputs[i] for i in joinable]
        batches = trees.join([trees.to_device(b, _device(value)) for b in batches])
        try:
            output = self._inference(trees.join([batches, value]))
        except Exception as error:
            self._log(error, "inference of a joined batch")
            return self._inference(value)
        if trees.rows_of(output) != len(joinable) + rows:
            return self._inference(value)
        for place, index in enumerate(joinable):
            mates.outputs[index] = trees.part(output, place, place + 1)
        return trees.part(output, len(joinable), len(joinable) + rows)

    def _postprocess(self, requests: list[Request], value: Any, output: Any) -> None:
        self._keep(requests, value, output)
        results = self.handler.postprocess(output)
        deal(requests, results)

    def _keep(self, requests: list[Request], value: Any, output: Any) -> None:
        rows = _count(requests)
        per_row = trees.rows_of(output) == rows and trees.floating(output)
        finite = not per_row or trees.finite(output)
        at = 0
        for request in requests:
            size = len(request.rows)
            request.queries, request.prediction = size, None
            request.finite = finite or trees.finite(trees.part(output, at, at + size))
            if request.want and per_row and size == 1 and request.finite:
                # A copy: a user's postprocess may work in place.
                request.prediction = trees.tree_map(lambda t: t.clone(), trees.row(output, at))
            at += size
        if len(requests) > 1:
            return
        held = trees.rows_of(value)
        if held is not None and held != rows:
            requests[0].queries, requests[0].prediction = held, None

    def _log(self, error: Exception, step: str) -> None:
        logger.warning("%s of the user's handler failed: %s", step, error, exc_info=True)


class WholeFlow:
    """A user's handler whose steps cannot be told apart: one function from rows to answers.

    Args:
        entry: The user's ``handle(data, context)``.
        enter: Gives the context for the requests whose rows come next.
        idempotent: Whether it may run again for a request after a batch mate made it fail.
    """

    def __init__(
        self,
        entry: Callable[[list[Any], Any], Any],
        enter: Callable[[Sequence[Request]], Any],
        idempotent: bool,
    ) -> None:
        self.entry = entry
        self.enter = enter
        self.idempotent = idempotent

    def run(self, requests: Sequence[Request]) -> None:
        """Answers requests; afterwards each has an answer or a failure."""
        if not requests:
            return
        try:
            context = self.enter(requests)
            deal(requests, self.entry([r for q in requests for r in q.rows], context))
        except Exception as error:
            logger.warning("handle of the user's handler failed: %s", error, exc_info=True)
            if len(requests) == 1 or not self.idempotent:
                for request in requests:
                    request.fail(describe(error))
                return
            for request in requests:
                self.run([request])


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
    if len(results) != _count(requests):
        raise OutputError("number of batch response mismatched")
    at = 0
    for request in requests:
        request.settle(results[at : at + len(request.rows)])
        at += len(request.rows)


class ApartError(Exception):
    """Preprocess takes these requests one by one, but not together."""

    def __init__(self, requests: list[Request]) -> None:
        super().__init__("requests that preprocess takes only one by one")
        self.requests = requests


def _count(requests: Sequence[Request]) -> int:
    return sum(len(request.rows) for request in requests)


def _device(batch: trees.Tree) -> Any:
    return (trees.leaves(batch) or [])[0].device
