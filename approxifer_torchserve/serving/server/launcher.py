"""Runs one TorchServe 0.12.0, with the plugin or without, as a child that we can also end.

The ``torchserve`` script forgets the JVM it started: stopping the script leaves the server and its
workers alive, and two servers fight over one pid file. So the JVM is started directly, in a folder
of its own, and ended by its own process handle::

    run_dir/                      config.properties, log4j2.xml, metrics.yaml, logs/,
                                  key_file.json (tokens, which TorchServe writes)
    TEMP (short path, per run)    worker sockets, unpacked archives, .model_server.pid
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import httpx
import psutil

from approxifer_torchserve.serving.jar import find_java, model_server_jar, plugin_jar
from approxifer_torchserve.serving.server.options import Ports, ServerOptions, render_config
from approxifer_torchserve.serving.server.tokens import KeyFileError, Kind, read_key

MAIN_CLASS = "org.pytorch.serve.ModelServer"
WORKER_SCRIPT = "model_service_worker.py"
# A UNIX socket's path holds 107 bytes; TorchServe appends "/.ts.sock.<port>" to TEMP.
MAX_TEMP_PATH = 80


class LaunchError(RuntimeError):
    """TorchServe did not start or did not stay; the message ends with the tail of its log."""


class TorchServe:
    """One TorchServe process: a context manager, or ``start()`` and ``stop()``.

    Args:
        model_store: Folder of archives; made if missing.
        options: How the server is set up, see `ServerOptions`; None for its defaults.
        ports: Where to listen; None takes free ports.
        run_dir: Folder for configuration, tokens and logs; None takes a temporary one that goes
            away with the server.
        start_timeout: Seconds until the server must answer.
        show_console: Whether the server's warnings go to our own output instead of a file.

    Example:
        >>> with TorchServe("store", ServerOptions(plugin=False)) as server:  # doctest: +SKIP
        ...     httpx.get(server.inference + "/ping").status_code
        200
    """

    def __init__(
        self,
        model_store: str | Path,
        options: ServerOptions | None = None,
        *,
        ports: Ports | None = None,
        run_dir: str | Path | None = None,
        start_timeout: float = 60.0,
        show_console: bool = False,
    ) -> None:
        self.options = options or ServerOptions()
        self.model_store = Path(model_store).resolve()
        self.start_timeout = start_timeout
        self.show_console = show_console
        self._fixed_ports = ports
        self.ports = ports or Ports()
        self._own_run_dir = run_dir is None
        self.run_dir = Path(run_dir).resolve() if run_dir is not None else None
        self._temp: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def inference(self) -> str:
        """Base URL of the inference API (also ``/coded``)."""
        return f"http://{self.options.host}:{self.ports.inference}"

    @property
    def management(self) -> str:
        """Base URL of the Management API."""
        return f"http://{self.options.host}:{self.ports.management}"

    @property
    def metrics(self) -> str:
        """Base URL of the metrics API."""
        return f"http://{self.options.host}:{self.ports.metrics}"

    @property
    def grpc(self) -> str:
        """``host:port`` of the gRPC inference service."""
        return f"{self.options.host}:{self.ports.grpc_inference}"

    @property
    def pid(self) -> int | None:
        """The JVM's process id, or None when there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def log_dir(self) -> Path:
        """Folder of ts_log.log, model_log.log and console.log."""
        if self.run_dir is None:
            raise LaunchError("the server has no logs before start()")
        return self.run_dir / "logs"

    @property
    def key_file(self) -> Path:
        """Where TorchServe writes its tokens."""
        return (self.run_dir or Path()) / "key_file.json"

    def token(self, kind: Kind = "management") -> str | None:
        """Returns a token for an API, or None where authorization is off.

        Args:
            kind: "management" or "inference".

        Raises:
            LaunchError: The server wrote no key file.
        """
        if self.options.disable_token_authorization:
            return None
        try:
            return read_key(self.key_file, kind)
        except KeyFileError as error:
            raise LaunchError(str(error)) from error

    def alive(self) -> bool:
        """Tells whether the JVM runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> TorchServe:
        """Starts the JVM and waits until the inference port answers.

        Raises:
            LaunchError: It ended, or did not answer within ``start_timeout`` seconds.
        """
        if self.alive():
            return self
        # Free ports are taken by asking and letting go, so another process can be faster.
        attempts = 3 if self._fixed_ports is None else 1
        for attempt in range(1, attempts + 1):
            self.ports = self._fixed_ports or Ports.free()
            self._spawn()
            try:
                self._wait_until_up()
            except BaseException as error:
                taken = "Address already in use" in self.log_tail()
                self.stop()
                if isinstance(error, LaunchError) and taken and attempt < attempts:
                    continue
                raise
            break
        return self

    def _spawn(self) -> None:
        self.model_store.mkdir(parents=True, exist_ok=True)
        if self.run_dir is None:
            self.run_dir = Path(tempfile.mkdtemp(prefix="approxifer-run-"))
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._temp = _short_temp_dir()
        (self.run_dir / "config.properties").write_text(
            render_config(self.options, self.ports, self.model_store)
        )
        for name in ("log4j2.xml", "metrics.yaml"):
            text = files("approxifer_torchserve.archives").joinpath(name).read_text()
            (self.run_dir / name).write_text(text)
        output = None if self.show_console else (self.log_dir / "console.log").open("wb")
        try:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.run_dir,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                # Ctrl-C goes to us; we end the JVM, and the JVM its workers, in that order.
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()
        # Where `torchserve --stop` under this TEMP looks for it.
        (self._temp / ".model_server.pid").write_text(str(self._process.pid))
        atexit.register(self.stop)

    def command(self) -> list[str]:
        """Returns the JVM's command line."""
        if self.run_dir is None or self._temp is None:
            raise LaunchError("command() needs the folders that start() makes")
        server_jar = model_server_jar()
        class_path = [str(server_jar.parent / "*")]
        if self.options.plugin:
            folder = self.options.plugins_path or plugin_jar().parent
            class_path.append(str(folder / "*"))
        return [
            str(find_java()),
            f"-Dmodel_server_home={server_jar.parent.parent.parent}",
            f"-Djava.io.tmpdir={self._temp}",
            f"-Dlog4j.configurationFile={(self.run_dir / 'log4j2.xml').as_uri()}",
            *self.options.vmargs.split(),
            "-cp", os.pathsep.join(class_path),
            MAIN_CLASS,
            "--python", sys.executable,
            "-f", str(self.run_dir / "config.properties"),
            "-s", str(self.model_store),
            "-ncs",
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        # TS_* variables outrank the configuration file: what runs should be what the file says.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TS_")}
        threads = str(self.options.threads_per_worker)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return {
            **inherited,
            **dict.fromkeys(names, threads),
            **dict.fromkeys(("TEMP", "TMP", "TMPDIR"), str(self._temp)),
            **dict.fromkeys(("LOG_LOCATION", "METRICS_LOCATION"), str(self.log_dir)),
            **self.options.environment,
        }

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while time.monotonic() < deadline:
            if not self.alive():
                code = self._process.returncode if self._process is not None else None
                raise LaunchError(f"TorchServe ended with code {code}\n{self.log_tail()}")
            try:
                # Any answer will do: /ping is 500 while models still load.
                httpx.get(self.inference + "/ping", timeout=2.0)
                httpx.get(self.management + "/models", timeout=2.0)
                return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise LaunchError(
            f"TorchServe did not answer at {self.inference}/ping within {self.start_timeout:g} s; "
            f"give more with start_timeout\n{self.log_tail()}"
        )

    def log_tail(self, lines: int = 30) -> str:
        """Returns the last lines of the console and of the workers' log."""
        if self.run_dir is None:
            return ""
        parts = []
        for name in ("console.log", "model_log.log"):
            path = self.log_dir / name
            if path.is_file() and path.stat().st_size:
                tail = path.read_text(errors="replace").splitlines()[-lines:]
                parts.append("\n".join([f"--- {path}", *tail]))
        return "\n".join(parts)

    def wait(self) -> int:
        """Blocks until the JVM ends by itself and returns its exit code."""
        if self._process is None:
            raise LaunchError("wait() before start()")
        return self._process.wait()

    def stop(self, timeout: float = 15.0) -> None:
        """Ends the JVM, then whatever workers it left; safe to call twice.

        Args:
            timeout: Seconds that the JVM has to end by itself.
        """
        process, self._process = self._process, None
        if process is not None:
            workers = worker_processes(process.pid)
            # Popen holds the child: until we collect it, its pid belongs to nobody else.
            process.terminate()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            end_workers(workers)
            atexit.unregister(self.stop)
        if self._temp is not None:
            shutil.rmtree(self._temp, ignore_errors=True)
            self._temp = None
        if self._own_run_dir and self.run_dir is not None:
            shutil.rmtree(self.run_dir, ignore_errors=True)
            self.run_dir = None

    def __enter__(self) -> TorchServe:
        """Starts the server."""
        return self.start()

    def __exit__(self, *unused: object) -> None:
        """Stops the server."""
        self.stop()


def _short_temp_dir() -> Path:
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="axf-", dir=base if len(base) < MAX_TEMP_PATH else "/tmp"))


def worker_processes(jvm_pid: int) -> list[psutil.Process]:
    """Returns the TorchServe worker processes below a JVM, recognised by their command line."""
    try:
        below = psutil.Process(jvm_pid).children(recursive=True)
    except psutil.Error:
        return []
    return [process for process in below if is_worker(process)]


def is_worker(process: psutil.Process) -> bool:
    """Tells whether a process is a TorchServe Python worker (and still the one we looked at)."""
    try:
        running = process.pid > 1 and process.is_running()
        return running and any(part.endswith(WORKER_SCRIPT) for part in process.cmdline())
    except psutil.Error:
        return False


def end_workers(workers: list[psutil.Process], grace: float = 3.0) -> None:
    """Terminates, then kills, the workers that are still there.

    Args:
        workers: What `worker_processes` returned before the JVM ended.
        grace: Seconds between the two signals.
    """
    left = [worker for worker in workers if is_worker(worker)]
    for worker in left:
        worker.terminate()
    _, left = psutil.wait_procs(left, timeout=grace)
    for worker in left:
        if is_worker(worker):
            worker.kill()
    psutil.wait_procs(left, timeout=grace)
