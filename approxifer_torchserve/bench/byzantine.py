"""Lying workers against a real server: what reaches clients, who is found, what it costs.

For each policy one model on at most nine workers, for each kind of lie one cell of some seconds::

    healthy ── one liar × each kind ── two liars × each kind        last policy: a clean run, too
    each cell: some processes told to lie ── Poisson load, every answer compared ── well again

A liar is a *process*: the restart that quarantine brings heals it, so a cell counts what reached
clients until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from approxifer_torchserve.bench import probe
from approxifer_torchserve.bench.byzantine_cells import (
    CLEAN,
    Cell,
    Size,
    Store,
    accent,
    fault,
    in_quarantine,
    is_wrong,
    plan,
    policies,
    tally,
)
from approxifer_torchserve.bench.load import arrival_times, new_client, send_at
from approxifer_torchserve.bench.served import POLL_S, Served, State, idle
from approxifer_torchserve.serving.cluster import ClusterError

BODIES, BODY_BYTES = 256, 256


class Lab:
    """One server, one policy's model at a time: a context manager.

    Args:
        size: What is served.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.bodies = [probe.body(number, BODY_BYTES) for number in range(BODIES)]
        self.right = [probe.right_answer(content) for content in self.bodies]
        self._stack = ExitStack()
        self._cells = 0

    def __enter__(self) -> Lab:
        """Archive the models and start the server, without workers.

        Raises:
            LaunchError: The server did not start.
        """
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-lies-")))
            self.served = Served(work)
            sample = work / "sample.bin"
            sample.write_bytes(probe.body(BODIES, BODY_BYTES))
            code = {"name": "approxifer", "queries": self.size.workers - 1, "stragglers": 1}
            for name, policy in policies(self.size).items():
                probe.archive_coded(
                    self.served.store, name,
                    approxifer={"code": code, "policy": {"deadline_ms": 5000, **policy}},
                    settings={
                        "responseTimeout": 10,
                        "handler": {"bench": {"service_ms": self.size.service_ms}},
                    },
                    sample=sample if "probe_every_s" in policy else None,
                )  # fmt: skip
            stack.enter_context(self.served)
            self.faults, self.cluster = self.served.faults, self.served.cluster
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        """Stop the server."""
        self._stack.close()

    @contextlib.contextmanager
    def serving(self, policy: str) -> Iterator[None]:
        """Register a policy's model while a block lasts.

        Raises:
            ClusterError: Workers did not come up.
        """
        self.cluster.register(f"{policy}.mar", name=policy, workers=self.size.workers)
        try:
            yield
        finally:
            self.faults.clear()
            self.cluster.unregister(policy)

    def cell(self, policy: str, kind: str, liars: int, seconds: float) -> Cell:
        """Load the model while some workers lie, and make them well again.

        Raises:
            ClusterError: The workers did not become well.
        """
        self._cells += 1
        pids = {one.id: one.pid for one in self.cluster.describe(policy)[0].workers}
        names = sorted(pids, key=int)
        # Two are neighbours, which may be a pair again and again: the worst for pairs.
        chosen = [names[(self._cells * 2 + i) % len(names)] for i in range(liars)]
        before = self._quiet(policy)
        if kind == CLEAN:
            own = {str(pids[name]): accent(i) for i, name in enumerate(names)}
            self.faults.put_all(own)
        else:
            self.faults.put_all({str(pids[name]): fault(kind) for name in chosen})
        answers, found, late = asyncio.run(self._load(policy, chosen, seconds))
        after = self._quiet(policy)
        self.faults.clear()
        self._heal(policy, before, {name: pids[name] for name in chosen})
        return tally(policy, kind, found, answers, before, after, late)

    async def _load(
        self, policy: str, liars: Sequence[str], seconds: float
    ) -> tuple[list[tuple[int, bool]], dict[str, float | None], float]:
        found: dict[str, float | None] = dict.fromkeys(liars)
        times = arrival_times(self.size.rate, seconds, self._cells)
        target = self.served.target(policy)
        async with new_client(target) as client:
            start = time.perf_counter()
            watcher = asyncio.create_task(self._watch(client, policy, found, start))
            answers, late = await send_at(
                times, lambda number, _: self._ask(client, target.url, number % BODIES)
            )
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        return answers, found, late

    async def _watch(
        self, client: httpx.AsyncClient, policy: str, found: dict[str, float | None], start: float
    ) -> None:
        while found and None in found.values():
            with contextlib.suppress(httpx.HTTPError):
                reply = await client.get(f"{self.served.server.inference}/coded/{policy}")
                workers = reply.json()["models"][0]["workers"]
                for name in found:
                    if found[name] is None and in_quarantine(workers[name]):
                        found[name] = time.perf_counter() - start
            await asyncio.sleep(POLL_S)

    async def _ask(self, client: httpx.AsyncClient, url: str, number: int) -> tuple[int, bool]:
        try:
            reply = await asyncio.wait_for(client.post(url, content=self.bodies[number]), 7)
        except (httpx.HTTPError, asyncio.TimeoutError):
            return 0, False
        wrong = reply.status_code == 200 and is_wrong(reply.content, self.right[number])
        return reply.status_code, wrong

    def _quiet(self, policy: str) -> State:
        start = time.monotonic()

        def well(state: State) -> bool:
            # Probes go on for ever; a request and its check are over within the time.
            return state["in_flight"] == 0 and (idle(state) or time.monotonic() > start + 1)

        return self.served.once(policy, well, 10)

    def _heal(self, policy: str, before: State, liars: Mapping[str, int]) -> None:
        """Give all workers a clean account: those ever judged wrong are restarted, readmitted."""

        def judged(state: State) -> set[str]:
            return {
                name
                for name, one in state["workers"].items()
                if in_quarantine(one)
                or one["confirmed_wrong"] > before["workers"][name]["confirmed_wrong"]
            }

        end = time.monotonic() + 60
        state = self.served.state(policy)
        for name in judged(state):
            if not in_quarantine(state["workers"][name]):
                # Readmission forgets what an account says; only the quarantined are readmitted.
                self.cluster.quarantine(policy, name)
        while True:
            model = self.cluster.describe(policy)[0]
            lying = {one.id for one in model.workers if liars.get(one.id) == one.pid}
            state = self.served.state(policy)
            away = {name for name, one in state["workers"].items() if in_quarantine(one)}
            alive = all(psutil.pid_exists(one.pid) for one in model.workers)
            if model.ready == self.size.workers and alive and not away & lying:
                for name in away:
                    self.cluster.readmit(policy, name)
                return
            if time.monotonic() > end:
                raise ClusterError(f"{policy}: its workers were not well after 60 s: {state}")
            time.sleep(0.2)


def run_cells(out: Path, size: Size, console: Console) -> list[Cell]:
    """Measure all cells that an earlier run into the same folder did not.

    Args:
        out: Folder that keeps them.
        size: What to measure.
        console: Where the progress bar goes.

    Raises:
        LaunchError: The server did not start.
        ClusterError: Workers did not come up, or did not become well.
    """
    store = Store(out / "cells.jsonl", size)
    done = {cell.key for cell in store.cells}
    todo = {
        policy: left
        for policy, cells in plan(size).items()
        if (left := [cell for cell in cells if (policy, *cell[:2]) not in done])
    }
    if not todo:
        return store.cells
    columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn())
    total = sum(seconds for cells in todo.values() for _, _, seconds in cells)
    with Progress(*columns, console=console) as bar, Lab(size) as lab:
        task = bar.add_task("", total=total)
        for policy, cells in todo.items():
            bar.update(task, description=f"{policy}: start {size.workers} workers")
            with lab.serving(policy):
                for kind, liars, seconds in cells:
                    bar.update(task, description=f"{policy}: {liars} × {kind}")
                    store.add(lab.cell(policy, kind, liars, seconds))
                    bar.advance(task, seconds)
    return store.cells
