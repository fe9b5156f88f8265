"""The server that a bench measures: started and stopped with a block, its models' state read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from approxifer_torchserve.bench.harness.faults import FaultFile
from approxifer_torchserve.bench.harness.load import Target
from approxifer_torchserve.serving.server.cluster import Cluster
from approxifer_torchserve.serving.server.launcher import TorchServe
from approxifer_torchserve.serving.server.options import DEFAULT_VMARGS, ServerOptions

State = Mapping[str, Any]
POLL_S = 0.05


class Served:
    """A TorchServe with a model store and a fault file of its own: a context manager.

    Args:
        folder: Where everything of it lies; archives go to ``store`` below it.
        plugin: Whether our plugin runs in it.
        vmargs: For the JVM, beside the defaults.

    Attributes:
        store: The model store.
        faults: What its workers are told to do wrong.
        cluster: Its Management API, once started.
    """

    def __init__(self, folder: Path, *, plugin: bool = True, vmargs: str = "-Xmx512m") -> None:
        self.store = folder / "store"
        self.store.mkdir(parents=True)
        self.faults = FaultFile(folder / "faults.json")
        options = ServerOptions(
            plugin=plugin,
            environment=self.faults.environment,
            vmargs=f"{DEFAULT_VMARGS} {vmargs}",
        )
        self.server = TorchServe(self.store, options, run_dir=folder / "run")
        self._stack = ExitStack()

    def __enter__(self) -> Served:
        """Start the server, without models.

        Raises:
            LaunchError: It did not start.
        """
        with ExitStack() as stack:
            stack.enter_context(self.server)
            self.cluster = stack.enter_context(Cluster(self.server.management, self.server.token()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        """Stop the server."""
        self._stack.close()

    def target(self, model: str, name: str = "coded") -> Target:
        """Return where to send requests for a model, and what reports call it."""
        url = f"{self.server.inference}/predictions/{model}"
        return Target(name, url, self.server.token("inference"))

    def state(self, model: str) -> State:
        """Return what ``GET /coded/<model>`` says of it."""
        reply = httpx.get(
            f"{self.server.inference}/coded/{model}",
            headers=self.target(model).headers,
            timeout=10,
        )
        state: State = reply.json()["models"][0]
        return state

    def once(self, model: str, well: Callable[[State], bool], seconds: float) -> State:
        """Return a model's state once it is ``well``, or as it is after some seconds."""
        end = time.monotonic() + seconds
        while True:
            state = self.state(model)
            if well(state) or time.monotonic() > end:
                return state
            time.sleep(POLL_S)


def idle(state: State) -> bool:
    """Tell whether no request and no job of a model is under way."""
    return bool(state["in_flight"] == state["outstanding_jobs"] == 0)
