"""Serves a batch of jobs: the one place that knows all kinds.

A batch may hold clients' requests (``raw``) and jobs of several groups. They are served so::

    encode ─▶ preprocess members ─▶ code.encode ──────────────────────────────────▶ reply
    parity ─▶ preprocess members ─▶ code.encode ─┐
    coded  ─▶ coded query ───────────────────────┤ one forward   ┌─▶ prediction ──▶ reply
    raw    ─▶ preprocess rows ───────────────────┴─▶ inference ──┴─▶ postprocess ─▶ reply
    parity or coded with weights of its own ─▶ a forward for each role ───────────▶ reply
    decode ─▶ preprocess members, code.decode ────────────────────▶ postprocess ──▶ reply
    screen ─▶ do the answers of a group fit together? ────────────────────────────▶ reply
    compare ─▶ two predictions within tolerance? ─────────────────────────────────▶ reply

Raw rows are preprocessed last before the forward, and postprocessed right after it, so that what a
handler keeps between its steps is theirs.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from approxifer_torchserve.codes.base import BASE
from approxifer_torchserve.faults import WorkerFaults
from approxifer_torchserve.serving.plan import Plan
from approxifer_torchserve.serving.worker import request_ids, trees, wire
from approxifer_torchserve.serving.worker.attempts import HandlerState
from approxifer_torchserve.serving.worker.checks import compare
from approxifer_torchserve.serving.worker.coding import (
    Coding,
    CodingError,
    coded_query,
    prediction_of,
)
from approxifer_torchserve.serving.worker.failures import Failure
from approxifer_torchserve.serving.worker.flow import StagedFlow
from approxifer_torchserve.serving.worker.infinities import masked
from approxifer_torchserve.serving.worker.limits import DEFAULT_BYTES
from approxifer_torchserve.serving.worker.outgoing import answer_of, beside, phrase_of
from approxifer_torchserve.serving.worker.payloads import (
    JOB_HEADER,
    PREFIX,
    Job,
    JobError,
    JobKey,
    member_request,
    parse_job,
)
from approxifer_torchserve.serving.worker.replies import NOT_FINITE, Replies
from approxifer_torchserve.serving.worker.request import Mates, Request
from approxifer_torchserve.serving.worker.weights import OwnWeights, WeightsError
from approxifer_torchserve.serving.worker.whole import WholeFlow

logger = logging.getLogger(__name__)
MASKED = "prediction holds -inf, as this model's do: nothing can be decoded from it"


class Host(Protocol):
    """What the service needs of TorchServe; implemented in ``worker.torchserve``."""

    def enter(self, requests: Sequence[Request]) -> Any:
        """Makes and sets the user handler's context for these requests' rows; returns it."""

    def processor(self, headers: dict[str, Any]) -> Any:
        """Makes a request processor for a member of a group."""

    def open(self, request: Request, server_only: bool = False) -> None:
        """Opens the request's envelope if there is one; fails the request if that cannot be."""


class CodedService:
    """Answers batches for one model.

    Args:
        plan: The archive's plan.
        model_dir: The unpacked archive.
        key: What the plugin signs job headers with.
        host: The TorchServe that calls.
        entry: The user's ``handle(data, context)``.
        plain: The same within the server's envelope, as plain TorchServe would call it.
        handler: The user's handler object if its steps can be called one by one, else None.
        faults: Faults that tests put into this worker.
        limit: How many bytes a reply may have.
    """

    def __init__(
        self,
        plan: Plan,
        model_dir: Path,
        key: JobKey,
        host: Host,
        entry: Callable[[list[Any], Any], Any],
        plain: Callable[[list[Any], Any], Any],
        handler: Any | None,
        faults: WorkerFaults,
        limit: int = DEFAULT_BYTES,
    ) -> None:
        self.plan = plan
        self.key = key
        self.host = host
        self.plain = plain
        self.faults = faults
        self.replies = Replies(limit, plan.check in ("pair", "vote"))
        self.state = state = HandlerState(entry, model_dir)
        idempotent = plan.policy.idempotent
        self.whole = WholeFlow(entry, host.enter, state, idempotent)
        self.staged = None
        if handler is not None:
            self.staged = StagedFlow(handler, host.enter, state, idempotent, faults.lie)
        self.coding: Coding | None = None
        if self.staged is not None and plan.grouped:
            self.coding = Coding(plan, model_dir, self.staged)
        files = {role: model_dir / name for role, name in plan.worker.weights.items()}
        self.weights = OwnWeights(plan.models, files, handler)

    def handle(self, data: list[Any], context: Any) -> Any:
        """Serves one batch as TorchServe delivers it; returns one body per request."""
        self.faults.apply()
        self.weights.let_go()
        jobs = self._jobs(context)
        if not any(job is not None for job in jobs):
            return self.plain(data, context)
        return self.faults.spoil(_Batch(self, data, context, jobs).serve())

    def warm_up(self, row: Any, context: Any) -> bytes | Failure:
        """Answers a request as a raw job is; nobody gets the answer.

        What the handler noted in lists is taken out again. What it assigned or put into dicts
        stays: there lies what a first call loads and compiles.

        Args:
            row: The request as TorchServe delivers it.
            context: A context of that request alone.
        """
        notes = self.state.note(None)
        try:
            batch = _Batch(self, [row], context, [])
            request = batch.request(0)
            batch.answer([request])
            return answer_of(request)
        finally:
            notes.put_back(dicts=False)

    def _jobs(self, context: Any) -> list[Job | JobError | None]:
        found: list[Job | JobError | None] = []
        for index, processor in enumerate(context.request_processor):
            headers = processor.get_request_properties()
            value = headers.pop(JOB_HEADER, None)
            job = None if value is None else self.key.open(context.request_ids[index], str(value))
            if PREFIX in "\n".join(headers).lower():
                _drop(headers, JOB_HEADER if job is None else PREFIX)
            if job is None:
                found.append(None)
                continue
            try:
                found.append(parse_job(job, self.plan.num_workers, self.plan.queries))
            except JobError as error:
                found.append(error)
        return found


class _Batch:
    """One batch on its way; ``replies[i]`` is the body of request i once it is served."""

    def __init__(
        self,
        service: CodedService,
        data: list[Any],
        context: Any,
        jobs: list[Job | JobError | None],
    ) -> None:
        self.service = service
        self.host = service.host
        self.data = data
        self.context = context
        self.jobs = jobs
        self.kinds: dict[str, list[tuple[int, Job]]] = {}
        self.replies: dict[int, Any] = {}
        self.mates: dict[str, Mates] = {BASE: Mates()}
        self.places: dict[int, tuple[Mates, int]] = {}

    def serve(self) -> list[Any]:
        outsiders = []
        for index, job in enumerate(self.jobs):
            if isinstance(job, Job):
                self.kinds.setdefault(job.kind, []).append((index, job))
            elif job is None:
                outsiders.append(index)
            else:
                self._error(index, "unknown", str(job))
        self._serve_outsiders(outsiders)
        self._each(encode=self._encode, parity=self._parity, coded=self._coded)
        self._serve_raw(self.kinds.get("raw", []))
        for role, mates in self.mates.items():
            if role != BASE and self.service.staged is not None:
                self.service.weights.infer(role, mates, self.service.staged)
        self._each(parity=self._prediction, coded=self._prediction)
        self._each(screen=self._screen, decode=self._decode, compare=self._compare)
        return [self.replies[index] for index in range(len(self.jobs))]

    def _each(self, **steps: Callable[[int, Job], None]) -> None:
        """Runs a step on each job of its kind that has no reply yet."""
        for kind, step in steps.items():
            for index, job in self.kinds.get(kind, []):
                if index not in self.replies:
                    self._guarded(index, job, step)

    def _guarded(self, index: int, job: Job, step: Callable[[int, Job], None]) -> None:
        request_ids.working_on(job.requests or [self.context.request_ids[index]])
        try:
            step(index, job)
        except (CodingError, JobError, wire.WireError) as error:
            self._error(index, job.kind, str(error))
        except Exception as error:
            # A fault of this job must not become its batch mates'.
            logger.exception("%s job failed", job.kind)
            self._error(index, job.kind, f"{job.kind} failed: {type(error).__name__}")

    def _error(self, index: int, kind: str, message: str) -> None:
        self._reply(index, {"kind": kind, "error": Failure(500, message).json()})

    def _reply(
        self, index: int, header: dict[str, Any], sections: dict[str, bytes] | None = None
    ) -> None:
        self.replies[index] = self.service.replies.build(header, sections or {})

    # ---- clients' requests

    def request(self, index: int) -> Request:
        """Returns one of the requests that came, as it came."""
        return Request(
            [self.data[index]],
            self.context.request_processor[index],
            self.context.request_ids[index],
        )

    def _serve_outsiders(self, indices: list[int]) -> None:
        requests = [self.request(index) for index in indices]
        for request in requests:
            self.host.open(request, server_only=True)
        self.service.whole.run([r for r in requests if r.failure is None])
        for index, request in zip(indices, requests, strict=True):
            answer = answer_of(request)
            if isinstance(answer, Failure):
                request.reset()
                request.processor.report_status(answer.status, phrase_of(answer))
                self.replies[index] = {"code": answer.status, "message": answer.message}
            else:
                self.replies[index] = answer

    def _serve_raw(self, jobs: list[tuple[int, Job]]) -> None:
        requests: dict[int, Request] = {}
        for index, job in jobs:
            requests[index] = self.request(index)
            requests[index].want = job.want
        self.answer(list(requests.values()))
        for index, request in requests.items():
            self.replies[index] = self.service.replies.raw(request)

    def answer(self, requests: Sequence[Request]) -> None:
        """Runs clients' requests, and what may share their forward."""
        staged = self.service.staged
        for request in requests:
            self.host.open(request)
        live = [r for r in requests if r.failure is None]
        alone = [r for r in live if _special(r)]
        for request in alone:
            self.service.whole.run([request])
        live = [r for r in live if r not in alone]
        if staged is None or os.environ.get("ENABLE_TORCH_PROFILER"):
            self.service.whole.run(live)
            if staged is not None:
                staged.infer_mates(self.mates[BASE])
        else:
            start = time.time()
            staged.run(live, self.mates[BASE])
            metrics = self.context.metrics
            if live and metrics is not None:
                spent = round((time.time() - start) * 1000, 2)
                metrics.add_time("HandlerTime", spent, None, "ms")

    # ---- jobs of groups

    def _members(self, index: int, job: Job) -> list[Request]:
        headers = self.context.request_processor[index].get_request_properties()
        ids = job.requests or [self.context.request_ids[index]] * len(job.members)
        members = []
        for member, request_id in zip(job.members, ids, strict=True):
            row, own = member_request(member, self.data[index], headers)
            request = Request([row], self.host.processor(own), request_id)
            self.host.open(request)
            members.append(request)
        return members

    def _coder(self) -> Coding:
        if self.service.coding is None:
            mode = self.service.plan.mode
            raise CodingError(f"this handler cannot be coded (mode {mode})")
        return self.service.coding

    def _encode(self, index: int, job: Job) -> None:
        coder = self._coder()
        result = coder.encode(job, self._members(index, job))
        header: dict[str, Any] = {"kind": "encode"}
        if result.errors:
            header["errors"] = {str(i): f.json() for i, f in result.errors.items()}
        if result.alone:
            header["alone"] = sorted(result.alone)
        sections = {f"coded{i}": wire.encode(query) for i, query in enumerate(result.coded)}
        self._reply(index, header, sections)

    def _parity(self, index: int, job: Job) -> None:
        coder = self._coder()
        self._place(index, job, coder.parity(job, self._members(index, job)))

    def _coded(self, index: int, job: Job) -> None:
        blob = self.data[index].get("coded")
        self._place(index, job, coded_query(blob, self._coder().flow))

    def _place(self, index: int, job: Job, query: trees.Tree) -> None:
        mates = self.mates.setdefault(self.service.weights.role(job.coded), Mates())
        self.places[index] = (mates, mates.add(query, self.request(index)))

    def _prediction(self, index: int, job: Job) -> None:
        mates, place = self.places[index]
        if isinstance(error := mates.outputs[place], WeightsError):
            self._reply(index, {"kind": job.kind, "erasure": str(error), "unloaded": True})
            return
        prediction = prediction_of(mates, place)
        if trees.finite(prediction):
            self._reply(index, {"kind": job.kind}, {"prediction": wire.encode(prediction)})
        elif self._coder().flow.infinities.known() and masked(prediction):
            self._error(index, job.kind, MASKED)
        else:
            self._reply(index, {"kind": job.kind, "erasure": NOT_FINITE})

    def _compare(self, index: int, job: Job) -> None:
        data = self.data[index]
        if "first" not in data or "second" not in data:
            raise JobError("compare: expected the parameters first and second")
        within = self.service.plan.worker.tolerance
        agree = compare(bytes(data["first"]), bytes(data["second"]), within)
        self._reply(index, {"kind": job.kind, "agree": agree})

    def _predictions(self, index: int, job: Job) -> dict[int, Any]:
        blobs = {}
        for i in job.available:
            if f"p{i}" not in self.data[index]:
                raise JobError(f"job.available: parameter p{i} did not come")
            blobs[i] = self.data[index][f"p{i}"]
        return blobs

    def _screen(self, index: int, job: Job) -> None:
        verdict = self._coder().screen(job, self._predictions(index, job))
        found = {"wrong": verdict.wrong, "suspected": verdict.suspected}
        self._reply(index, {"kind": "screen", **found})

    def _decode(self, index: int, job: Job) -> None:
        coder = self._coder()
        members = self._members(index, job)
        wrong = coder.decode(job, self._predictions(index, job), members)
        header: dict[str, Any] = {"kind": "decode", "answers": {}}
        if wrong is not None:
            header["wrong"] = wrong
        sections: dict[str, bytes] = {}
        for member, request in zip(job.members, members, strict=True):
            answer = answer_of(request)
            if isinstance(answer, Failure):
                header["answers"][str(member.index)] = {"error": answer.json()}
            else:
                header["answers"][str(member.index)] = beside(member, request)
                sections[f"answer{member.index}"] = answer
        self._reply(index, header, sections)


def _drop(headers: dict[str, Any], prefix: str) -> None:
    for name in [name for name in headers if name.lower().startswith(prefix)]:
        del headers[name]


def _special(request: Request) -> bool:
    get = request.processor.get_request_property
    return bool(get("explain") == "True" or get("describe") == "True")
