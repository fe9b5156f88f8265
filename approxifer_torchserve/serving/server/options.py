"""How one TorchServe is set up: its ports, what the templates leave open, the rendered file."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template

# Frozen workers' callbacks sit in the common pool; with one thread per core two of them hang it.
DEFAULT_VMARGS = "-Djava.util.concurrent.ForkJoinPool.common.parallelism=32"
# A worker with torch loaded and a small model: 223 MB each were measured with nine of them.
MB_PER_WORKER = 250


@dataclass(frozen=True)
class Ports:
    """The ports of one server; the defaults are TorchServe's own.

    ``worker`` is the first of a range: each worker takes the next one.
    """

    inference: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc_inference: int = 7070
    grpc_management: int = 7071
    worker: int = 9000

    @classmethod
    def free(cls) -> Ports:
        """Returns ports that nothing listens on now (another process may still be faster)."""
        with ExitStack() as stack:
            found = []
            for _ in range(5):
                listener = stack.enter_context(socket.socket())
                listener.bind(("127.0.0.1", 0))
                found.append(int(listener.getsockname()[1]))
        # Below the ephemeral range, so that no outgoing connection takes a worker's port.
        inference, management, metrics, grpc_inference, grpc_management = found
        worker = random.randrange(10_000, 30_000, 200)
        return cls(inference, management, metrics, grpc_inference, grpc_management, worker)


@dataclass(frozen=True)
class ServerOptions:
    """What the templates in ``archives/`` leave open.

    Attributes:
        plugin: Whether to load our plugin; False gives plain TorchServe under the same settings.
        load_models: The archives to load at start: names in the store, "all", or "none".
        disable_token_authorization: Whether any local user may call the APIs without a token.
        token_expiration_min: Minutes until the management and inference keys expire.
        enable_model_api: Whether the Management API registers and removes models.
        host: Address that every listener binds; loopback unless the network is trusted.
        allowed_urls: Regular expression for archive URLs; names in the store are always allowed.
        job_queue_size: How many jobs wait per model before TorchServe answers 503.
        max_request_size: The largest request body, in bytes.
        response_timeout: Seconds after which a frozen worker is restarted; TorchServe's default,
            since a first call may take long.
        startup_timeout: Seconds a worker may take to load its model.
        netty_threads: How many threads the frontend has; 0 lets TorchServe choose.
        metrics_mode: How metrics are told: "prometheus", "log" or "legacy".
        system_metrics: Whether a Python process measures the machine every minute.
        threads_per_worker: OMP_NUM_THREADS and its kin for each worker.
        vmargs: Arguments for the JVM, separated by spaces.
        plugins_path: Folder with the plugin's jar; None takes the installed package's.
        environment: More variables for the JVM, which hands them to its workers.
    """

    plugin: bool = True
    load_models: str = "none"
    disable_token_authorization: bool = False
    token_expiration_min: float = 60
    enable_model_api: bool = True
    host: str = "127.0.0.1"
    allowed_urls: str = "https?://127\\.0\\.0\\.1(:[0-9]+)?/.*"
    job_queue_size: int = 1000
    max_request_size: int = 65_535_000
    response_timeout: int = 120
    startup_timeout: int = 120
    netty_threads: int = 0
    metrics_mode: str = "prometheus"
    system_metrics: bool = False
    threads_per_worker: int = 1
    vmargs: str = DEFAULT_VMARGS
    plugins_path: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def render_config(options: ServerOptions, ports: Ports, model_store: Path) -> str:
    """Fills in the ``config.properties`` template.

    Args:
        options: Everything but ports and folders.
        ports: Where the server listens.
        model_store: Folder of archives.

    Returns:
        The file's text.
    """
    values = {
        "host": options.host,
        "inference_port": ports.inference,
        "management_port": ports.management,
        "metrics_port": ports.metrics,
        "grpc_inference_port": ports.grpc_inference,
        "grpc_management_port": ports.grpc_management,
        "worker_port": ports.worker,
        "model_store": model_store,
        # Java's properties format eats one level of backslashes.
        "allowed_urls": options.allowed_urls.replace("\\", "\\\\"),
        "load_models": "" if options.load_models == "none" else options.load_models,
        "enable_model_api": str(options.enable_model_api).lower(),
        "disable_token_authorization": str(options.disable_token_authorization).lower(),
        "token_expiration_min": options.token_expiration_min,
        "job_queue_size": options.job_queue_size,
        "max_request_size": options.max_request_size,
        "response_timeout": options.response_timeout,
        "startup_timeout": options.startup_timeout,
        "netty_threads": options.netty_threads,
        "metrics_mode": options.metrics_mode,
        "disable_system_metrics": str(not options.system_metrics).lower(),
        "vmargs": options.vmargs,
    }
    template = files("approxifer_torchserve.archives").joinpath("config.properties").read_text()
    return Template(template).substitute(values)
