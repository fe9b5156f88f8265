"""Bad days on live twins: the coded model, and the same handler on plain TorchServe.

Two servers with as many workers each. A slice is the same load and fault on one of them; slices
alternate, so whatever else the machine does, it does to both::

    for each model:  register on both ── warm up ── turn 1: scenario, scenario, … ── turn 2 …
    scenario:        coded, plain  (next turn: plain, coded)
    slice:           the fault begins ── load, every answer awaited ── all workers well again
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from approxifer_torchserve.bench.harness import model
from approxifer_torchserve.bench.harness.faults import Victims
from approxifer_torchserve.bench.harness.kept import Kept
from approxifer_torchserve.bench.harness.load import Sample, ask, new_client
from approxifer_torchserve.bench.harness.report import Report
from approxifer_torchserve.bench.harness.schedule import Phase, order, run_slice
from approxifer_torchserve.bench.harness.server import Served, extra_jobs, idle, serving
from approxifer_torchserve.bench.worst.figures import Slice
from approxifer_torchserve.bench.worst.report import report
from approxifer_torchserve.bench.worst.scenarios import (
    HANG_S,
    RARE,
    SHIFT_MS,
    SLOW_S,
    Scenario,
    Size,
    policy,
    scenarios,
)

BODY_BYTES = 256
# TorchServe's own default; our servers' is longer.
QUEUE = 100
SIDES = ("coded", "plain")


class Twin:
    """One server's side of a model, and what goes wrong on it.

    Args:
        served: The server.
        name: The model's name.
        size: How it is served.
    """

    def __init__(self, served: Served, name: str, size: Size) -> None:
        self.served, self.name, self.size = served, name, size
        self.victims, self.warm = Victims(served, name), False
        self.held = served.store.parent / "held"

    def archive(self) -> None:
        """Archives the model: both sides have the same handler, one has the plugin."""
        service_ms = SHIFT_MS[0] if self.name == "shift" else self.size.service_ms
        self.held.mkdir(exist_ok=True)
        sample = self.served.store.parent / "sample.bin"
        sample.write_bytes(model.body(0, BODY_BYTES))
        code = {"name": "approxifer", "queries": self.size.workers - 1, "stragglers": 1}
        settings = model.settings(self.size.workers, service_ms=service_ms, held=str(self.held))
        model.archive_coded(
            self.served.store, self.name, settings={**settings, "jobQueueSize": QUEUE},
            sample=sample if self.served.plugin and self.name == "deadline" else None,
            approxifer={
                "enabled": self.served.plugin, "code": code, "policy": policy(self.name, self.size)
            },
            handler=Path(__file__).with_name("worst_handler.py"),
        )  # fmt: skip

    def run(self, scenario: Scenario, samples: Sequence[Sample], turn: int, seed: int) -> Slice:
        """Runs a slice with its fault, and makes all workers well again.

        Args:
            scenario: What goes wrong under which load.
            samples: What is sent.
            turn: Number of the alternation.
            seed: Seed of the scenario's load.

        Raises:
            ClusterError: The workers did not become well.
        """
        phase = scenario.phase(self.size)
        target = self.served.target(self.name)
        if scenario.fault != "first" and not self.warm:
            # A JVM compiles what runs often, and the policy learns service times.
            model.checked_loop(target, 2 * self.size.workers, BODY_BYTES).run(self.size.warm_s)
            self.warm = True

        async def disturb(_: str) -> None:
            await self._disturb(scenario.fault, phase)

        extra, late = self._counted()
        records = run_slice(phase, target, samples, seed, turn, disturb)
        held = self._heal()
        more, later = self._counted()
        return Slice(
            scenario.name, self.served.name, turn, more - extra, later - late, held,
            tuple(record.within(scenario.name, self.served.name, turn) for record in records),
        )  # fmt: skip

    async def _disturb(self, fault: str, phase: Phase) -> None:
        faults = self.served.faults
        if fault == "fail":
            await self.victims.hurt(fail=1.0)
        elif fault == "slow":
            await self.victims.hurt(delay_s=SLOW_S)
        elif fault == "rare":
            faults.put_all({"*": {"delay_s": SLOW_S, "probability": RARE}})
        elif fault == "hang":
            faults.put_all({"*": {"hang_s": HANG_S}})
            await asyncio.gather(
                *(self._hang(one, phase.slice_s) for one in range(self.size.hanging))
            )
        elif fault == "restart":
            await self.victims.kill_all(phase.slice_s / 5)
        elif fault == "shift":
            await asyncio.sleep(phase.slice_s / 4)
            faults.put_all({"*": {"delay_s": (SHIFT_MS[1] - SHIFT_MS[0]) / 1e3}})

    async def _hang(self, number: int, seconds: float) -> None:
        """Sends a request that never ends, and hangs up when the slice is over."""
        await asyncio.sleep((number + 1) * seconds / 10)
        content = np.frombuffer(model.body(number, BODY_BYTES), np.float32).copy()
        content[0] = -1
        target = self.served.target(self.name)
        async with new_client(target, timeout_s=seconds) as client:
            await ask(client, target, content.tobytes(), 0.0, seconds * (9 - number) / 10)

    def _heal(self) -> int:
        """Ends what hangs, and returns how many workers did."""
        self.served.faults.clear()
        marks = list(self.held.iterdir())
        hung = {int(mark.name) for mark in marks}
        ended = [one for one in self.served.workers(self.name).values() if one.pid in hung]
        for worker in ended:
            with suppress(psutil.Error):
                worker.kill()
        psutil.wait_procs(ended, timeout=5)
        for mark in marks:
            mark.unlink()
        self.served.wait_well(self.name, self.size.workers)
        return len(hung)

    def _counted(self) -> tuple[int, int]:
        """Returns how many extra and how many late jobs the plugin counted so far."""
        if not self.served.plugin:
            return 0, 0
        state = self.served.once(self.name, idle, 10)
        return extra_jobs(state), state["counters"]["late"]


def run_worst(out: Path, size: Size, only: Sequence[str], console: Console) -> Report:
    """Measures all slices that an earlier run into the same folder did not.

    Args:
        out: Folder for slices.jsonl and worst.png.
        size: What is served and how long it is asked.
        only: Names of scenarios to measure now; all where empty.
        console: Where the progress bar goes.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up, or did not become well.
    """
    kept = Kept(out / "slices.jsonl", asdict(size), Slice)
    done = {(one.scenario, one.turn, one.server) for one in kept.results}
    todo = [step for step in plan(size, only) if (step[0].name, *step[1:]) not in done]
    if todo:
        columns = (
            TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as bar, ExitStack() as stack:
            task, before = bar.add_task("start servers", total=len(todo)), len(done)
            sides = [stack.enter_context(Served(name, plugin=name == "coded")) for name in SIDES]
            for name, steps in groupby(todo, key=lambda step: step[0].model):
                session = _session(sides, name, list(steps), size, kept)
                for now in session:
                    bar.update(task, description=now, completed=len(kept.results) - before)
    return report(out, size, kept.results)


Step = tuple[Scenario, int, str]


def plan(size: Size, only: Sequence[str] = ()) -> list[Step]:
    """Returns scenario, turn and server of all slices in their order, one model after another."""
    chosen = [one for one in scenarios(size).values() if not only or one.name in only]
    return [
        (scenario, turn, side)
        for name in dict.fromkeys(one.model for one in chosen)
        for turn in range(size.turns)
        for scenario in chosen
        if scenario.model == name and turn < scenario.phase(size).turns
        for side in order(SIDES, turn)
    ]


def _session(
    sides: Sequence[Served], name: str, steps: Sequence[Step], size: Size, kept: Kept[Slice]
) -> Iterator[str]:
    """Measures slices of one model, and says before each step what it is."""
    yield f"{name}: start workers"
    twins = {side.name: Twin(side, name, size) for side in sides}
    for twin in twins.values():
        twin.archive()
        if any(scenario.fault == "first" for scenario, _, _ in steps):
            twin.served.faults.put_all({"*": {"first_call_s": size.first_call_s}})
    numbers = {one: number for number, one in enumerate(scenarios(size))}
    samples = model.samples(64, BODY_BYTES)
    with serving(sides, name, size.workers):
        for scenario, turn, side in steps:
            yield f"{scenario.name}, turn {turn + 1}: {side}"
            kept.add(twins[side].run(scenario, samples, turn, size.seed + numbers[scenario.name]))
