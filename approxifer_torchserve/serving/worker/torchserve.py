"""The TorchServe side of a worker: loads the user's handler and hands batches to the service.

This is the only module of the package, beside the entry files in ``handlers``, that imports
TorchServe's Python package.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ts.context import Context, RequestProcessor
from ts.model_loader import TsModelLoader
from ts.protocol import otf_message_handler
from ts.service import Service
from ts.torch_handler.base_handler import BaseHandler
from ts.torch_handler.request_envelope.kserve import KServeEnvelope
from ts.torch_handler.request_envelope.kservev2 import KServev2Envelope

from approxifer_torchserve.faults import WorkerFaults
from approxifer_torchserve.serving.plan import PREDICTIONS, Plan, WarmUp
from approxifer_torchserve.serving.worker import messages, reader, request_ids
from approxifer_torchserve.serving.worker.failures import Failure, refusal
from approxifer_torchserve.serving.worker.limits import max_response_bytes
from approxifer_torchserve.serving.worker.payloads import JobKey
from approxifer_torchserve.serving.worker.placement import ancestors, placed_gpu, worker_id
from approxifer_torchserve.serving.worker.request import Request
from approxifer_torchserve.serving.worker.service import CodedService

logger = logging.getLogger(__name__)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUMBER_THREADS")
WARM_UP = "warm-up"
_recorded_envelope: list[type] = []


def take_over_envelopes() -> None:
    """Keeps TorchServe's loader from putting the server's envelope around the whole batch.

    Its envelopes read only the first body of a batch, and would wrap our reply frames. The class
    is recorded instead, and applied to each request as plain TorchServe does at batch size 1.
    """
    original = TsModelLoader._load_default_envelope
    if getattr(original, "is_approxifers", False):
        return

    def record(self: Any, envelope: str) -> None:
        _recorded_envelope[:] = [original(self, envelope)]

    record.is_approxifers = True  # type: ignore[attr-defined]
    TsModelLoader._load_default_envelope = record


class ContextView(Context):  # type: ignore[misc]
    """TorchServe's context as seen for some rows of a batch.

    Row ``i`` of the view is row ``i`` of what the user's handler is given; request processors are
    TorchServe's own objects, so what a handler sets goes out with the response.
    """

    def __init__(self, base: Context, requests: Sequence[Request]) -> None:
        self.__dict__.update(base.__dict__)
        self.show(requests)

    def show(self, requests: Sequence[Request]) -> None:
        """Shows these requests' rows."""
        owners = [request for request in requests for _ in request.rows]
        self.request_processor = [request.processor for request in owners]
        self.request_ids = {i: request.request_id for i, request in enumerate(owners)}


class ApproxiferService:
    """What an archive's entry file subclasses: a handler as TorchServe loads it.

    Without the plugin, or with ``enabled: false``, it is the user's handler and nothing else.

    Attributes:
        handler: The user's handler object; None before ``initialize``, or if it is a function.
        staged: Whether its steps are called one by one.
        coded: What serves batches; None before ``initialize``, or with ``enabled: false``.
    """

    def __init__(self) -> None:
        self.handler: Any | None = None
        self.staged = False
        self.coded: CodedService | None = None
        self._faults = WorkerFaults()
        self._host: TorchServeHost | None = None
        self._plain: Callable[[list[Any], Any], Any] | None = None

    def initialize(self, context: Any) -> None:
        """Loads the user's handler; called once by TorchServe.

        Raises:
            ConfigError: The archive's plan is missing or of another format.
        """
        model_dir = Path(context.system_properties["model_dir"])
        plan = Plan.read(model_dir)
        envelope = _recorded_envelope.pop() if _recorded_envelope else None
        if plan.enabled:
            share_threads(plan.worker.workers)
            quieten()
            request_ids.install()
            reader.install(otf_message_handler)
            gpu = placed_gpu(model_dir, ancestors(), worker_id(sys.argv))
            if gpu is not None:
                context.system_properties["gpu_id"] = gpu
        entry, handler = load_handler(plan.worker.handler, context)
        self.handler, self.staged = handler, is_staged(handler)
        self._plain = entry if envelope is None else envelope(entry).handle
        if plan.enabled:
            self._host = TorchServeHost(handler, envelope, plan.worker.envelope)
            self.coded = CodedService(
                plan,
                model_dir,
                JobKey(model_dir, ancestors()),
                self._host,
                entry,
                self._plain,
                handler if self.staged else None,
                self._faults,
                max_response_bytes(os.getpid()),
            )
            if plan.worker.warm_up is not None:
                warm_up(self.coded, self._host, context, plan.worker.warm_up, model_dir)

    def handle(self, data: list[Any], context: Any) -> Any:
        """Answers one batch; called by TorchServe."""
        if self._plain is None:
            raise RuntimeError("handle was called before initialize")
        if self.coded is None or self._host is None:
            self._faults.apply()
            return self._plain(data, context)
        self._host.base = context
        request_ids.working_on(context.request_ids.values())
        try:
            return self.coded.handle(data, context)
        finally:
            request_ids.working_on(())
            _metrics_of(context, context.request_ids)


class TorchServeHost:
    """Gives the service contexts, request processors and envelopes of TorchServe.

    Args:
        handler: The user's handler object, or None if it is a function.
        envelope: The server's ``service_envelope`` class, or None.
        setting: ``handler.approxifer.envelope``: ``"auto"`` or ``"none"``.
    """

    def __init__(self, handler: Any | None, envelope: type | None, setting: str) -> None:
        self.handler = handler
        self.envelope = envelope
        self.setting = setting
        self.base: Any = None

    def enter(self, requests: Sequence[Request]) -> Any:
        """Makes and sets the user handler's context for these requests' rows; returns it."""
        request_ids.working_on([request.request_id for request in requests])
        if self._whole_batch(requests):
            view = self.base
        elif len(requests) == 1 and requests[0].view is not None:
            view = requests[0].view
            view.show(requests)
        else:
            view = ContextView(self.base, requests)
        if self.handler is not None:
            self.handler.context = view
        _metrics_of(view, view.request_ids)
        return view

    def _whole_batch(self, requests: Sequence[Request]) -> bool:
        """Tells whether TorchServe's own context shows just these requests' rows."""
        processors = self.base.request_processor
        return len(requests) == len(processors) and all(
            request.processor is processor and request.view is None and len(request.rows) == 1
            for request, processor in zip(requests, processors, strict=True)
        )

    def processor(self, headers: dict[str, Any]) -> Any:
        """Makes a request processor for a member of a group."""
        return RequestProcessor(headers)

    def open(self, request: Request, server_only: bool = False) -> None:
        """Opens the request's envelope if there is one; fails the request if that cannot be."""
        kind = self.envelope
        if kind is None and self.setting == "auto" and not server_only:
            kind = _kserve_kind(request)
        if kind is None:
            return
        request_ids.working_on([request.request_id])
        view = ContextView(self.base, [request])
        envelope: Any = kind(None)
        envelope.context = view
        try:
            rows = envelope.parse_input(request.rows)
        except Exception as error:
            logger.warning("%s refused a request", kind.__name__, exc_info=True)
            request.fail(refusal(error, kind.__name__))
            return
        if not isinstance(rows, list) or not rows:
            got = "an empty list" if rows == [] else type(rows).__name__
            request.fail(
                Failure(400, f"{kind.__name__} refused the input: expected a list, got {got}")
            )
            return
        request.rows, request.close, request.view = rows, envelope.format_output, view


def warm_up(
    coded: CodedService, host: TorchServeHost, context: Any, sample: WarmUp, model_dir: Path
) -> None:
    """Has a process's slow first call now, under the start-up timeout, and not for a client.

    Args:
        coded: What will serve.
        host: Its host, which has no context yet and has none afterwards.
        context: TorchServe's, as ``initialize`` gets it.
        sample: What is run; a warning says so where it fails, which is no reason not to start.
        model_dir: The unpacked archive.
    """
    start = time.monotonic()
    before = getattr(host.handler, "context", None)
    ids = None if context.metrics is None else context.metrics.request_ids
    try:
        body = (model_dir / sample.file).read_bytes()
        message = messages.request(WARM_UP, {"body": (sample.content_type, body)}, PREDICTIONS)
        (processor,), rows, _ = Service.retrieve_data_for_inference([message])
        host.base = ContextView(context, [Request(rows, processor, WARM_UP)])
        request_ids.working_on([WARM_UP])
        answer = coded.warm_up(rows[0], host.base)
        status = processor.get_response_status_code() or 200
        if isinstance(answer, Failure):
            failed = f"{answer.status} {answer.message}"
        else:
            failed = f"the handler set status {status}" if status >= 400 else ""
    except (Exception, SystemExit) as error:
        failed = f"{type(error).__name__}: {error}"
    finally:
        request_ids.working_on(())
        host.base = None
        if host.handler is not None:
            host.handler.context = before
        _metrics_of(context, ids)
    took = f"{time.monotonic() - start:.2f} s, process {os.getpid()}"
    if failed:
        logger.warning(
            "warm-up on the archive's sample failed: %s; %s; the worker starts without it",
            failed,
            took,
        )
    else:
        logger.info("warm-up on the archive's sample took %s", took)


def _kserve_kind(request: Request) -> type | None:
    """Returns the envelope of a request that came by a KServe URL, or None.

    TorchServe sets ``explain`` on every REST request, and ``url_path`` on /predictions alone.
    """
    headers = request.processor.get_request_properties()
    if "explain" not in headers or "url_path" in headers:
        return None
    row = request.rows[0]
    body = (row.get("data") or row.get("body")) if isinstance(row, Mapping) else None
    if isinstance(body, (bytes, bytearray)) and body.lstrip()[:1] == b"{":
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return None
    if not isinstance(body, Mapping):
        return None
    if "instances" in body:
        return KServeEnvelope  # type: ignore[no-any-return]
    inputs = body.get("inputs")
    if isinstance(inputs, list) and inputs and all(_is_v2(item) for item in inputs):
        return KServev2Envelope  # type: ignore[no-any-return]
    return None


def _is_v2(item: Any) -> bool:
    return isinstance(item, Mapping) and "datatype" in item


def load_handler(name: str, context: Any) -> tuple[Callable[[list[Any], Any], Any], Any | None]:
    """Loads and initializes a handler as ``TsModelLoader`` does.

    Returns:
        The entry point, and the handler object (None if the entry point is a function).
    """
    loader = TsModelLoader()
    function = None
    try:
        module, function = loader._load_handler_file(name)
    except ImportError as error:
        try:
            module = loader._load_default_handler(name)
        except ImportError as default:
            # The one that was meant, and what it lacks.
            file_missing = error.name == Path(name.split(":")[0]).stem
            is_default = not str(default.name).startswith("ts.torch_handler.")
            raise (default if file_missing and is_default else error) from None
    function = function or "handle"
    if hasattr(module, function):
        entry, initialize = loader._get_function_entry_point(module, function)
    else:
        entry, initialize = loader._get_class_entry_point(module)
    initialize(context)
    return entry, getattr(entry, "__self__", None)


def is_staged(handler: Any) -> bool:
    """Tells whether TorchServe's own ``handle`` calls this handler's three steps."""
    own = isinstance(handler, BaseHandler) and type(handler).handle is BaseHandler.handle
    # One that is set on the object, such as TorchServe's MicroBatching, does it in its own way.
    return own and "handle" not in vars(handler)


def share_threads(workers: int) -> None:
    """Shares the processors out among workers, unless the environment has its own idea.

    Torch would take all of them in each of nine workers.
    """
    if not any(os.environ.get(name) for name in _THREAD_VARIABLES):
        torch.set_num_threads(max(1, processors() // max(1, workers)))


def processors() -> int:
    """Counts the processors that this process may use; a container may have a few of many."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def quieten() -> None:
    """Drops TorchServe's line per request; everything else, also ``[METRICS]``, stays."""
    logging.getLogger("ts.protocol").setLevel(logging.WARNING)
    root = logging.getLogger()
    if not any(isinstance(item, _NoReceipts) for item in root.filters):
        root.addFilter(_NoReceipts())


class _NoReceipts(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Backend received inference")


def _metrics_of(context: Any, request_ids: Any) -> None:
    if context.metrics is not None:
        context.metrics.request_ids = request_ids
