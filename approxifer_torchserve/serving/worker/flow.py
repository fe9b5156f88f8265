"""Runs a user's handler on requests so that one client's failure stays that client's.

The flow of a healthy batch is exactly that of TorchServe's ``BaseHandler.handle``: one preprocess,
one inference, one postprocess, on the rows in their order. Only when a step raises, or an error
status may be a batch mate's, is the batch taken apart: each request is tried again as it came.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from approxifer_torchserve.serving.worker import trees
from approxifer_torchserve.serving.worker.attempts import HandlerState, Notes
from approxifer_torchserve.serving.worker.failures import OutputError, describe, said
from approxifer_torchserve.serving.worker.infinities import Infinities
from approxifer_torchserve.serving.worker.request import Mates, Request, count_rows, deal, spread

logger = logging.getLogger(__name__)
REFUSER = "preprocess"


class ApartError(Exception):
    """Preprocess takes these requests one by one, but not together."""

    def __init__(self, requests: list[Request]) -> None:
        super().__init__("requests that preprocess takes only one by one")
        self.requests = requests


class StagedFlow:
    """Preprocess, inference, postprocess of one user's handler.

    Args:
        handler: The user's handler.
        enter: Called with the requests whose rows the next step gets; sets ``handler.context``
            and returns it.
        state: What the handler keeps between its steps.
        idempotent: Whether inference may run again for a request after a batch mate made it fail.
        lie: What a test makes of the model's output; the output itself otherwise.
    """

    def __init__(
        self,
        handler: Any,
        enter: Callable[[Sequence[Request]], Any],
        state: HandlerState,
        idempotent: bool,
        lie: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self.handler = handler
        self.enter = enter
        self.state = state
        self.idempotent = idempotent
        self.lie = lie
        self.infinities = Infinities()
        self._notes = Notes(whole=False)
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
        good = [request for request in left if self._accepts(request)]
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

    def _accepts(self, request: Request) -> bool:
        accepted = bool(self.preprocess([request])[0])
        self._notes.put_back()
        return accepted

    def queries(self, requests: Sequence[Request]) -> tuple[list[Request], Any]:
        """Runs the user's preprocess for a group's job: nothing is left of it in the handler.

        Returns and raises what `preprocess` does.
        """
        before = self.state.note(None, whole=True)
        for request in requests:
            request.keep()
        try:
            return self.preprocess(requests)
        finally:
            self._notes.put_back()
            before.put_back()

    def run(self, requests: Sequence[Request], mates: Mates | None = None) -> None:
        """Answers requests by the user's own inference, coded queries beside them.

        Afterwards each request has an answer or a failure, and each mate an output.
        """
        if len(requests) > 1 or (mates is not None and mates.inputs):
            for request in requests:
                request.keep()
        self._run(requests, lambda value, ready: self._infer(value, ready, mates))
        if mates is not None:
            self.infer_mates(mates)

    def finish(self, requests: Sequence[Request], output: Callable[[list[Request]], Any]) -> None:
        """Answers requests from predictions that were not inferred here.

        Args:
            requests: Clients' requests; their preprocess runs so that per-request state exists.
            output: Gives the model's raw output for some of them, as a batch.
        """
        for request in requests:
            request.keep()
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
        notes = self.state.note(self.enter([mates.owners[i] for i in group]))
        try:
            joined = trees.join([mates.inputs[i] for i in group])
            output = self._inference(joined)
            if trees.rows_of(output) != len(group):
                raise OutputError("inference did not return tensors with one row per query")
            for place, index in enumerate(group):
                mates.outputs[index] = trees.part(output, place, place + 1)
        except Exception as error:
            self._log(error, "inference of coded queries")
            notes.put_back()
            if len(group) == 1:
                mates.outputs[group[0]] = error
                return
            for index in group:
                self._infer_group(mates, [index])
        finally:
            notes.put_back()

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
            if not self.idempotent or not spread(ready):
                return
            self._notes.put_back()
        except Exception as error:
            self._notes.put_back()
            self._log(error, "inference or postprocess")
            if len(ready) == 1 or not self.idempotent:
                for request in ready:
                    request.fail(describe(error))
                return
        for request in ready:
            self._run([request], compute)

    def _preprocess(self, requests: list[Request]) -> Any:
        for request in requests:
            request.renew()
        self._notes = self.state.note(self.enter(requests))
        try:
            return self.handler.preprocess([row for request in requests for row in request.rows])
        except Exception:
            self._notes.put_back()
            raise

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
        if rows is not None and rows == count_rows(requests):
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
            if trees.rows_of(output) == len(joinable) + rows:
                for place, index in enumerate(joinable):
                    mates.outputs[index] = trees.part(output, place, place + 1)
                # A copy: whoever saves a view saves all that it is a part of.
                own = trees.part(output, len(joinable), len(joinable) + rows)
                return trees.tree_map(lambda t: t.clone(), own)
        except Exception as error:
            self._log(error, "inference of a joined batch")
        # Inference may have used up what preprocess had left for these requests' rows.
        self._notes.put_back()
        return self._inference(self._preprocess(requests))

    def _postprocess(self, requests: list[Request], value: Any, output: Any) -> None:
        self._keep(requests, value, output)
        results = self.handler.postprocess(output)
        deal(requests, results)

    def _keep(self, requests: list[Request], value: Any, output: Any) -> None:
        rows = count_rows(requests)
        per_row = trees.rows_of(output) == rows and trees.floating(output)
        finite = not per_row or trees.finite(output)
        at = 0
        for request in requests:
            size = len(request.rows)
            request.queries, request.prediction = size, None
            request.finite, request.masked = True, False
            if per_row:
                self._keep_finite(request, trees.part(output, at, at + size), finite)
            if request.want and per_row and size == 1 and request.finite:
                # A copy: a user's postprocess may work in place.
                request.prediction = trees.tree_map(lambda t: t.clone(), trees.row(output, at))
            at += size
        if len(requests) > 1:
            return
        held = trees.rows_of(value)
        if held is not None and held != rows:
            requests[0].queries, requests[0].prediction = held, None

    def _keep_finite(self, request: Request, prediction: trees.Tree, finite: bool) -> None:
        if finite or trees.finite(prediction):
            request.finite, request.masked = True, False
            self.infinities.finite()
        else:
            request.finite = request.masked = self.infinities.usual(prediction)

    def _log(self, error: Exception, step: str) -> None:
        text = said(error) or type(error).__name__
        logger.warning("%s of the user's handler failed: %s", step, text, exc_info=True)


def _device(batch: trees.Tree) -> Any:
    return (trees.leaves(batch) or [])[0].device
