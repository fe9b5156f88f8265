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
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from approxifer_torchserve.bench.byzantine.cells import (
    CLEAN,
    Answer,
    Cell,
    Size,
    Stage,
    accent,
    fault,
    in_quarantine,
    left,
    plan,
    tally,
)
from approxifer_torchserve.bench.byzantine.model import Model, is_wrong, same_class
from approxifer_torchserve.bench.byzantine.policies import Layout, policies
from approxifer_torchserve.bench.byzantine.report import report
from approxifer_torchserve.bench.harness.kept import Kept
from approxifer_torchserve.bench.harness.load import (
    RECONSTRUCTED,
    arrival_times,
    ask,
    new_client,
    send_at,
)
from approxifer_torchserve.bench.harness.report import Report, Say
from approxifer_torchserve.bench.harness.server import POLL_S, Served, State, cpu_seconds, idle
from approxifer_torchserve.serving.server.cluster import ClusterError

WARM_S = 1.0
ANSWER_S = 7.0
START_S = 300.0
"""Twenty workers of a busy machine."""
WELL_S = 60.0


@dataclass(frozen=True)
class Lab:
    """One server, one policy's model at a time.

    Attributes:
        size: What is served.
        model: The network, its requests and locators.
        served: The server.
        seeds: Another number each time.
    """

    size: Size
    model: Model
    served: Served
    seeds: Iterator[int]


class Trial:
    """Measures cells of a model that is registered.

    Args:
        lab: What the server serves.
        layout: Workers and liars.
        policy: Name of the policy.
        name: Name of the model.
    """

    def __init__(self, lab: Lab, layout: Layout, policy: str, name: str) -> None:
        self.lab, self.layout, self.policy, self.name = lab, layout, policy, name
        self.served, self.target = lab.served, lab.served.target(name)

    def cell(self, kind: str, liars: int, seconds: float) -> Cell:
        """Loads the model while its busiest workers lie, and makes them well again.

        Args:
            kind: The kind of lie.
            liars: How many workers lie.
            seconds: How long.

        Raises:
            ClusterError: The workers did not become well.
        """
        workers, faults = self.served.workers(self.name), self.served.faults
        busy = {name: cpu_seconds(worker) for name, worker in workers.items()}
        asyncio.run(self._load((), WARM_S))
        spent = {name: cpu_seconds(worker) - busy[name] for name, worker in workers.items()}
        chosen = sorted(workers, key=lambda name: spent[name], reverse=True)[:liars]
        before = self._quiet()
        if kind == CLEAN:
            told = {
                name: accent(i, len(workers)) for i, name in enumerate(sorted(workers, key=int))
            }
        else:
            told = {name: fault(kind) for name in chosen}
        faults.put_all({str(workers[name].pid): lie for name, lie in told.items()})
        answers, found, late = asyncio.run(self._load(chosen, seconds))
        after = self._quiet()
        faults.clear()
        self._heal(before, {name: workers[name].pid for name in chosen})
        return tally(self.layout.workers, self.policy, kind, found, answers, before, after, late)

    async def _load(
        self, liars: Sequence[str], seconds: float
    ) -> tuple[list[Answer], dict[str, float | None], float]:
        found: dict[str, float | None] = dict.fromkeys(liars)
        times = arrival_times(self.lab.size.rate, seconds, next(self.lab.seeds))
        bodies = len(self.lab.model.bodies)
        async with new_client(self.target) as client:
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
        reply = await ask(client, self.target, content, due, ANSWER_S)
        if reply.status != 200:
            return Answer(reply.status, seconds=reply.latency_s)
        decoded = reply.outcome == RECONSTRUCTED
        wrong = not same_class(reply.content, right) if decoded else is_wrong(reply.content, right)
        return Answer(200, wrong, decoded, reply.latency_s)

    def _quiet(self) -> State:
        start = time.monotonic()

        def well(state: State) -> bool:
            # Probes go on for ever; a request and its check are over within the time.
            return state["in_flight"] == 0 and (idle(state) or time.monotonic() > start + 1)

        return self.served.once(self.name, well, 10)

    def _heal(self, before: State, liars: Mapping[str, int]) -> None:
        """Gives all workers a clean account: those ever found wrong are restarted, readmitted."""

        def found_wrong(state: State) -> set[str]:
            return {
                name
                for name, one in state["workers"].items()
                if in_quarantine(one)
                or one["confirmed_wrong"] > before["workers"][name]["confirmed_wrong"]
            }

        cluster, end = self.served.cluster, time.monotonic() + WELL_S
        state = self.served.state(self.name)
        for name in found_wrong(state):
            if not in_quarantine(state["workers"][name]):
                # Readmission forgets what an account says; only the quarantined are readmitted.
                cluster.quarantine(self.name, name)
        while True:
            model = cluster.describe(self.name)[0]
            lying = {one.id for one in model.workers if liars.get(one.id) == one.pid}
            state = self.served.state(self.name)
            away = {name for name, one in state["workers"].items() if in_quarantine(one)}
            alive = all(psutil.pid_exists(one.pid) for one in model.workers)
            if model.ready == self.layout.workers and alive and not away & lying:
                for name in away:
                    cluster.readmit(self.name, name)
                return
            if time.monotonic() > end:
                raise ClusterError(
                    f"{self.name}: its workers were not well after {WELL_S:g} s: {state}"
                )
            time.sleep(0.2)


def run_byzantine(out: Path, size: Size, console: Console, only: Sequence[str] = ()) -> Report:
    """Measures all cells that an earlier run into the same folder did not.

    Args:
        out: Folder that keeps them, and for the plot.
        size: What to measure.
        console: Where the progress bar goes.
        only: Policies to measure now; all where empty.

    Raises:
        LaunchError: The server did not start.
        ClusterError: Workers did not come up, or did not become well.
        OSError: The network could not be trained.
    """
    kept = Kept(out / "cells.jsonl", asdict(size), Cell)
    stages = [stage for stage in plan(size) if not only or stage.policy in only]
    todo = left(stages, kept.results)
    if todo:
        columns = (TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn())
        total = sum(seconds for stage in todo for _, _, seconds in stage.cells)
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("train the network", total=total)

            def say(text: str) -> None:
                bar.update(task, description=text)

            model = Model(out)
            with Served() as served:
                lab = Lab(size, model, served, count(1))
                for stage in todo:
                    for seconds in _measure(lab, stage, kept, say):
                        bar.advance(task, seconds)
    return report(out, kept.results, size)


def _measure(lab: Lab, stage: Stage, kept: Kept[Cell], say: Say) -> Iterator[float]:
    """Measures a stage's cells, and yields the seconds of each when it is kept."""
    size, layout, policy = lab.size, stage.layout, stage.policy
    workers, name = layout.workers, f"{policy}-{layout.workers}"

    def fitting(done: int, of: int) -> None:
        say(f"{policy}: fit the locator {100 * done // of} %")

    made = policies(layout, size.rate, size.probe_every_s)[policy]
    if made.located:
        lab.model.locator(made.code, fitting)
    say(f"{policy}: start {workers} workers")
    lab.model.archive(lab.served.store, name, made, size.service_ms)
    with lab.served.serving(name, workers, START_S):
        trial = Trial(lab, layout, policy, name)
        for kind, liars, seconds in stage.cells:
            say(f"{workers} workers, {policy}: {liars} × {kind}")
            kept.add(trial.cell(kind, liars, seconds))
            yield seconds
