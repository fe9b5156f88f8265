"""``approxifer serve``: TorchServe with the plugin, in the foreground."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from approxifer_torchserve.cli.output import console, fail, told_failures


def run(
    model_store: Annotated[
        Path, typer.Option(help="Folder of archives; made if missing.", file_okay=False)
    ] = Path("model_store"),
    load: Annotated[
        str, typer.Option(help="Archives to serve from the start: names, 'all' or 'none'.")
    ] = "none",
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for configuration, tokens and logs (default: temporary)."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Without the plugin: TorchServe.")] = False,
    no_token: Annotated[
        bool,
        typer.Option(
            "--disable-token-authorization",
            help="Let every local user call the APIs without a token.",
        ),
    ] = False,
    token_minutes: Annotated[
        float,
        typer.Option(
            "--token-expiration-min", min=0.05, help="Minutes until keys expire and need renewal."
        ),
    ] = 60,
    model_api: Annotated[
        bool,
        typer.Option(
            "--enable-model-api",
            help="Let approxifer deploy and undeploy register and remove models.",
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(help="Inference port; management and metrics take the next two.")
    ] = 8080,
    grpc_port: Annotated[int, typer.Option(help="gRPC inference port; management: +1.")] = 7070,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Take any ports that are free instead.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each worker.")] = 1,
    response_timeout: Annotated[
        int, typer.Option(min=1, help="Seconds after which a frozen worker is restarted.")
    ] = 120,
    job_queue_size: Annotated[
        int, typer.Option(min=1, help="Waiting requests per model before 503.")
    ] = 1000,
    vmargs: Annotated[str, typer.Option(help="More arguments for the JVM, such as '-Xmx2g'.")] = "",
) -> None:
    """Start TorchServe with the plugin; Ctrl-C ends the JVM and its workers.

    Everything listens on loopback. Archives come from the model store; each coded model is served
    coded, each other model as plain TorchServe would.

      approxifer serve --model-store store --load resnet.mar

      approxifer serve --model-store store --enable-model-api

    Models can be registered and removed while it runs only with --enable-model-api.

    A server started by other means works the same with the folder of the plugin's jar in
    plugins_path (approxifer doctor prints it).
    """
    from approxifer_torchserve.serving.server.launcher import LaunchError, TorchServe
    from approxifer_torchserve.serving.server.options import DEFAULT_VMARGS, Ports, ServerOptions

    options = ServerOptions(
        plugin=not plain,
        load_models=load,
        disable_token_authorization=no_token,
        token_expiration_min=token_minutes,
        enable_model_api=model_api,
        threads_per_worker=threads,
        response_timeout=response_timeout,
        job_queue_size=job_queue_size,
        vmargs=f"{DEFAULT_VMARGS} {vmargs}".strip(),
    )
    ports = None if free_ports else Ports(port, port + 1, port + 2, grpc_port, grpc_port + 1)
    server = TorchServe(model_store, options, ports=ports, run_dir=run_dir, show_console=True)
    ended = threading.Event()
    # SIGTERM (systemd, docker stop) must end the JVM too, which Python alone would leave behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with told_failures():
        server.start()
        try:
            console.print(f"inference   {server.inference}\nmanagement  {server.management}")
            console.print(f"gRPC        {server.grpc}\nlogs        {server.log_dir}")
            if not no_token:
                console.print(f"tokens      {server.run_dir}/key_file.json")
            console.print("[dim]Ctrl-C stops the server[/]")
            while not ended.wait(0.5):
                if not server.alive():
                    raise LaunchError(f"TorchServe ended by itself\n{server.log_tail()}")
        finally:
            server.stop()
    if not ended.is_set():
        raise fail("TorchServe ended")
