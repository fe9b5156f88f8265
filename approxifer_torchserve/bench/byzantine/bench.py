"""Lying workers against a real server: what reaches clients, who is found, what it costs.

For each layout and policy one model, for each kind of lie one cell of some seconds::

    healthy ── liars × each kind          at the end: a long clean run of one policy
    each cell: the busiest told to lie ── Poisson load, every answer compared ── well again

A liar is a *process*: the restart that quarantine brings heals it, so a cell counts what reached
clients until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from approxifer_torchserve.bench.byzantine.cells import (
    CLEAN,
    RECONSTRUCTED,
    Answer,
    Cell,
    Size,
    Stage,
    Store,
    accent,
    fault,
    in_quarantine,
    plan,
    tally,
)
from approxifer_torchserve.bench.byzantine.model import Model, is_wrong, same_class
from approxifer_torchserve.bench.byzantine.policies import Layout, policies
from approxifer_torchserve.bench.harness.load import (
    OUTCOME_HEADER,
    arrival_times,
    new_client,
    send_at,
)
from approxifer_torchserve.bench.harness.server import POLL_S, Served, State, idle
from approxifer_torchserve.serving.server.cluster import ClusterError

WARM_S = 1.0
START_S = 300.0
"""Twenty workers of a busy machine."""


class Lab:
    """One server, one policy's model at a time: a context manager.

    Args:
        size: What is served.
        model: The network, its requests and locators.
    """

    def __init__(self, size: Size, model: Model) -> None:
        self.size, self.model = size, model
        self._stack = ExitStack()
        self._cells = 0

    def __enter__(self) -> Lab:
        """Start the server, without workers.

        Raises:
            LaunchError: The server did not start.
        """
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-lies-")))
            self.served = stack.enter_context(Served(work))
            self.faults, self.cluster = self.served.faults, self.served.cluster
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        """Stop the server."""
        self._stack.close()

    @contextlib.contextmanager
    def serving(
        self, layout: Layout, policy: str, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Trial]:
        """Archive a policy's model and register it while a block lasts.

        Args:
            layout: Workers and liars.
            policy: Which.
            progress: Called while a locator is fitted; see `Model.locator`.

        Raises:
            ClusterError: Workers did not come up.
        """
        made = policies(layout, self.size.rate, self.size.probe_every_s)[policy]
        name = f"{policy}-{layout.workers}"
        if made.located:
            self.model.locator(made.code, progress)
        self.model.archive(self.served.store, name, made, self.size.service_ms)
        self.cluster.register(f"{name}.mar", name=name, workers=layout.workers, timeout=START_S)
        try:
            yield Trial(self, layout, policy, name)
        finally:
            self.faults.clear()
            self.cluster.unregister(name)

    def seed(self) -> int:
        """Return another number each time."""
        self._cells += 1
        return self._cells


class Trial:
    """Measures cells of a model that is registered.

    Args:
        lab: Its server.
        layout: Workers and liars.
        policy: Which.
        name: Of the model.
    """

    def __init__(self, lab: Lab, layout: Layout, policy: str, name: str) -> None:
        self.lab, self.layout, self.policy, self.name = lab, layout, policy, name
        self.served, self.cluster, self.faults = lab.served, lab.cluster, lab.faults
        self.url = self.served.target(name).url

    def cell(self, kind: str, liars: int, seconds: float) -> Cell:
        """Load the model while its busiest workers lie, and make them well again.

        Raises:
            ClusterError: The workers did not become well.
        """
        pids = {one.id: one.pid for one in self.cluster.describe(self.name)[0].workers}
        busy = self._cpu(pids)
        asyncio.run(self._load((), WARM_S))
        spent = {name: now - busy[name] for name, now in self._cpu(pids).items()}
        chosen = sorted(pids, key=lambda name: spent[name], reverse=True)[:liars]
        before = self._quiet()
        if kind == CLEAN:
            names = sorted(pids, key=int)
            self.faults.put_all(
                {str(pids[name]): accent(i, len(names)) for i, name in enumerate(names)}
            )
        else:
            self.faults.put_all({str(pids[name]): fault(kind) for name in chosen})
        answers, found, late = asyncio.run(self._load(chosen, seconds))
        after = self._quiet()
        self.faults.clear()
        self._heal(before, {name: pids[name] for name in chosen})
        return tally(self.layout.workers, self.policy, kind, found, answers, before, after, late)

    def _cpu(self, pids: Mapping[str, int]) -> dict[str, float]:
        """Return how many seconds each worker has computed."""
        spent = dict.fromkeys(pids, 0.0)
        for name, pid in pids.items():
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                spent[name] = times.user + times.system
        return spent

    async def _load(
        self, liars: Sequence[str], seconds: float
    ) -> tuple[list[Answer], dict[str, float | None], float]:
        found: dict[str, float | None] = dict.fromkeys(liars)
        times = arrival_times(self.lab.size.rate, seconds, self.lab.seed())
        bodies = len(self.lab.model.bodies)
        async with new_client(self.served.target(self.name)) as client:
            start = time.perf_counter()
            watcher = asyncio.create_task(self._watch(client, found, start))
            answers, late = await send_at(
                times, lambda number, due: self._ask(client, number % bodies, due)
            )
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        return answers, found, late

    async def _watch(
        self, client: httpx.AsyncClient, found: dict[str, float | None], start: float
    ) -> None:
        while found and None in found.values():
            with contextlib.suppress(httpx.HTTPError):
                reply = await client.get(f"{self.served.server.inference}/coded/{self.name}")
                workers = reply.json()["models"][0]["workers"]
                for name in found:
                    if found[name] is None and in_quarantine(workers[name]):
                        found[name] = time.perf_counter() - start
            await asyncio.sleep(POLL_S)

    async def _ask(self, client: httpx.AsyncClient, number: int, due: float) -> Answer:
        content, right = self.lab.model.bodies[number], self.lab.model.right[number]
        try:
            reply = await asyncio.wait_for(client.post(self.url, content=content), 7)
        except (httpx.HTTPError, asyncio.TimeoutError):
            return Answer(0)
        seconds = time.perf_counter() - due
        if reply.status_code != 200:
            return Answer(reply.status_code, seconds=seconds)
        decoded = reply.headers.get(OUTCOME_HEADER) == RECONSTRUCTED
        fine = same_class if decoded else _near
        return Answer(200, not fine(reply.content, right), decoded, seconds)

    def _quiet(self) -> State:
        start = time.monotonic()

        def well(state: State) -> bool:
            # Probes go on for ever; a request and its check are over within the time.
            return state["in_flight"] == 0 and (idle(state) or time.monotonic() > start + 1)

        return self.served.once(self.name, well, 10)

    def _heal(self, before: State, liars: Mapping[str, int]) -> None:
        """Give all workers a clean account: those ever judged wrong are restarted, readmitted."""

        def judged(state: State) -> set[str]:
            return {
                name
                for name, one in state["workers"].items()
                if in_quarantine(one)
                or one["confirmed_wrong"] > before["workers"][name]["confirmed_wrong"]
            }

        end = time.monotonic() + 60
        state = self.served.state(self.name)
        for name in judged(state):
            if not in_quarantine(state["workers"][name]):
                # Readmission forgets what an account says; only the quarantined are readmitted.
                self.cluster.quarantine(self.name, name)
        while True:
            model = self.cluster.describe(self.name)[0]
            lying = {one.id for one in model.workers if liars.get(one.id) == one.pid}
            state = self.served.state(self.name)
            away = {name for name, one in state["workers"].items() if in_quarantine(one)}
            alive = all(psutil.pid_exists(one.pid) for one in model.workers)
            if model.ready == self.layout.workers and alive and not away & lying:
                for name in away:
                    self.cluster.readmit(self.name, name)
                return
            if time.monotonic() > end:
                raise ClusterError(f"{self.name}: its workers were not well after 60 s: {state}")
            time.sleep(0.2)


def _near(content: bytes, right: Mapping[str, object]) -> bool:
    return not is_wrong(content, right)


def run_cells(out: Path, size: Size, console: Console, only: Sequence[str] = ()) -> list[Cell]:
    """Measure all cells that an earlier run into the same folder did not.

    Args:
        out: Folder that keeps them.
        size: What to measure.
        console: Where the progress bar goes.
        only: Policies to measure now; all where empty.

    Raises:
        LaunchError: The server did not start.
        ClusterError: Workers did not come up, or did not become well.
        OSError: The network could not be trained.
    """
    store = Store(out / "cells.jsonl", size)
    todo = [stage for stage in store.left(plan(size)) if not only or stage.policy in only]
    if not todo:
        return store.cells
    columns = (TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn())
    total = sum(seconds for stage in todo for _, _, seconds in stage.cells)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("train the network", total=total)

        def say(text: str) -> None:
            bar.update(task, description=text)

        with Lab(size, Model(out)) as lab:
            for stage in todo:
                for seconds in _measure(lab, stage, store, say):
                    bar.advance(task, seconds)
    return store.cells


def _measure(lab: Lab, stage: Stage, store: Store, say: Callable[[str], None]) -> Iterator[float]:
    """Measure a stage's cells, and yield the seconds of each when it is kept."""
    workers, policy = stage.layout.workers, stage.policy

    def fitting(done: int, of: int) -> None:
        say(f"{policy}: fit the locator {100 * done // of} %")

    say(f"{policy}: start {workers} workers")
    with lab.serving(stage.layout, policy, fitting) as trial:
        for kind, liars, seconds in stage.cells:
            say(f"{workers} workers, {policy}: {liars} × {kind}")
            store.add(trial.cell(kind, liars, seconds))
            yield seconds
