"""The server that a bench measures: started and stopped with a block, its models' state read."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from approxifer_torchserve.bench.harness.load import Target
from approxifer_torchserve.faults import VARIABLE
from approxifer_torchserve.serving.server.cluster import Cluster, ClusterError
from approxifer_torchserve.serving.server.launcher import TorchServe, is_worker
from approxifer_torchserve.serving.server.options import DEFAULT_VMARGS, ServerOptions

State = Mapping[str, Any]
Faults = Mapping[str, Mapping[str, float | str]]
POLL_S = 0.05


class FaultFile:
    """The file that workers with faults allowed read before each batch.

    Args:
        path: Where it lies; a server's workers learn of it from `environment`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clear()

    @property
    def environment(self) -> dict[str, str]:
        """What to start the server with."""
        return {VARIABLE: str(self.path)}

    def put(self, pid: int, **fault: float | str) -> None:
        """Gives one worker a fault, beside the others'."""
        self.put_all({**self._faults, str(pid): fault})

    def drop(self, pid: int) -> None:
        """Takes one worker's fault away."""
        self.put_all({key: fault for key, fault in self._faults.items() if key != str(pid)})

    def clear(self) -> None:
        """Makes all workers well."""
        self.put_all({})

    def put_all(self, faults: Faults) -> None:
        """Replaces all faults; process id, or ``*`` for all others, to the keys of a `Fault`."""
        self._faults = dict(faults)
        # In one step: a worker may read at any moment.
        half = self.path.with_suffix(".part")
        half.write_text(json.dumps(self._faults))
        half.replace(self.path)


class Served:
    """A TorchServe with a model store and a fault file of its own: a context manager.

    All of it lies in a temporary folder, which goes away with the server.

    Args:
        name: What reports call the server.
        plugin: Whether our plugin runs in it.
        hurt: Whether its workers read the fault file; a bench of bare cost does without.
        vmargs: Arguments for the JVM, beside the defaults.

    Attributes:
        store: The model store, once started.
        faults: What its workers are told to do wrong, once started.
        server: The server itself, once started.
        cluster: Its Management API, once started.
    """

    def __init__(
        self, name: str = "coded", *, plugin: bool = True, hurt: bool = True,
        vmargs: str = "-Xmx512m",
    ) -> None:  # fmt: skip
        self.name, self.plugin, self.hurt = name, plugin, hurt
        self.vmargs = f"{DEFAULT_VMARGS} {vmargs}".strip()
        self._stack = ExitStack()

    def __enter__(self) -> Served:
        """Starts the server, without models.

        Raises:
            LaunchError: It did not start.
        """
        with ExitStack() as stack:
            kept = tempfile.TemporaryDirectory(prefix="approxifer-bench-")
            folder = Path(stack.enter_context(kept))
            self.store = folder / "store"
            self.faults = FaultFile(folder / "faults.json")
            environment = self.faults.environment if self.hurt else {}
            options = ServerOptions(plugin=self.plugin, environment=environment, vmargs=self.vmargs)
            server = TorchServe(self.store, options, run_dir=folder / "run")
            self.server = stack.enter_context(server)
            self.cluster = stack.enter_context(Cluster(server.management, server.token()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        """Stops the server."""
        self._stack.close()

    @contextmanager
    def serving(self, model: str, workers: int, timeout_s: float = 180.0) -> Iterator[Target]:
        """Registers an archive of the store while a block lasts, and yields where to ask it.

        Args:
            model: The archive's name, without ``.mar``, and the model's.
            workers: How many to start.
            timeout_s: Seconds until they must be ready.

        Raises:
            ClusterError: Workers did not come up.
        """
        self.cluster.register(f"{model}.mar", name=model, workers=workers, timeout=timeout_s)
        try:
            yield self.target(model)
        finally:
            self.faults.clear()
            self.cluster.unregister(model)

    def target(self, model: str) -> Target:
        """Returns where to send requests for a model."""
        url = f"{self.server.inference}/predictions/{model}"
        return Target(self.name, url, self.server.token("inference"))

    def workers(self, model: str) -> dict[str, psutil.Process]:
        """Returns the workers that can take jobs now, by TorchServe's ids.

        The Management API can be a restart behind, so each process is checked: a worker's command
        line, and this server's JVM as parent.

        Raises:
            ClusterError: The Management API refused.
        """
        found = {}
        for worker in self.cluster.describe(model)[0].workers:
            with suppress(psutil.Error):
                process = psutil.Process(worker.pid) if worker.ready else None
                if process and is_worker(process) and process.ppid() == self.server.pid:
                    found[worker.id] = process
        return found

    def wait_well(self, model: str, workers: int, seconds: float = 120.0) -> None:
        """Waits until a model has so many workers that can take jobs.

        Raises:
            ClusterError: It has not, after some seconds.
        """
        end = time.monotonic() + seconds
        while (ready := len(self.workers(model))) != workers:
            if time.monotonic() > end:
                raise ClusterError(f"{model}: {ready} of {workers} workers after {seconds:g} s")
            time.sleep(POLL_S)

    def state(self, model: str) -> State:
        """Returns what ``GET /coded/<model>`` says of it."""
        url = f"{self.server.inference}/coded/{model}"
        reply = httpx.get(url, headers=self.target(model).headers, timeout=10)
        state: State = reply.json()["models"][0]
        return state

    def once(self, model: str, well: Callable[[State], bool], seconds: float) -> State:
        """Returns a model's state once it is ``well``, or as it is after some seconds."""
        end = time.monotonic() + seconds
        while True:
            state = self.state(model)
            if well(state) or time.monotonic() > end:
                return state
            time.sleep(POLL_S)


@contextmanager
def serving(sides: Collection[Served], model: str, workers: int) -> Iterator[list[Target]]:
    """Registers a model on several servers while a block lasts, as `Served.serving` does on one.

    On all at once: loading is mostly waiting for imports from disk.
    """
    with ExitStack() as stack:
        with ThreadPoolExecutor() as pool:
            started = [
                pool.submit(stack.enter_context, side.serving(model, workers)) for side in sides
            ]
        yield [future.result() for future in started]


def idle(state: State) -> bool:
    """Tells whether no request and no job of a model is under way."""
    return bool(state["in_flight"] == state["outstanding_jobs"] == 0)


def extra_jobs(state: State) -> int:
    """Returns how many jobs of a model were handed out so far beside the requests themselves."""
    return sum(count for kind, count in state["counters"]["jobs"].items() if kind != "raw")


def cpu_seconds(process: psutil.Process) -> float:
    """Returns how long a process has computed, in seconds; 0 where it is gone."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
