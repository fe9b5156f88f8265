"""Alternating slices: whatever else the machine does, it does to all servers alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from approxifer_torchserve.bench.harness.load import (
    Record,
    Sample,
    Target,
    arrival_times,
    open_loop,
)
from approxifer_torchserve.bench.harness.server import Served

# Called with the server's name when its slice starts; runs beside the load.
Disturbance = Callable[[str], Awaitable[None]]
T = TypeVar("T")


@dataclass(frozen=True)
class Phase:
    """A stretch of the bench.

    Attributes:
        name: A short name, a key in the report.
        label: A sentence for readers.
        rate: Requests per second during a slice.
        slice_s: Seconds of one slice.
        turns: Slices per server.
        then: Stretches that follow in the same slice: requests per second, seconds.
    """

    name: str
    label: str
    rate: float
    slice_s: float
    turns: int
    then: tuple[tuple[float, float], ...] = ()

    def times(self, seed: int) -> list[float]:
        """Draws when the requests of a slice are due, in seconds from its start."""
        times, start = [], 0.0
        for number, (rate, seconds) in enumerate(((self.rate, self.slice_s), *self.then)):
            times += [start + at for at in arrival_times(rate, seconds, seed + number)]
            start += seconds
        return times


def order(sides: Sequence[T], turn: int) -> list[T]:
    """Returns who is loaded after whom in a turn.

    Every second turn is the one before it backwards, and another side begins every two turns: none
    is always first, or always after the same other.
    """
    first = turn // 2 % len(sides)
    turned = [*sides[first:], *sides[:first]]
    return turned[::-1] if turn % 2 else turned


def alternate(
    sides: Sequence[Served], turns: int, measure: Callable[[Served], T]
) -> dict[str, tuple[T, ...]]:
    """Measures servers in turn, and returns what each gave in all turns, by its name."""
    found: dict[str, list[T]] = {side.name: [] for side in sides}
    for turn in range(turns):
        for side in order(sides, turn):
            found[side.name].append(measure(side))
    return {name: tuple(each) for name, each in found.items()}


def run_phase(
    phase: Phase,
    targets: Sequence[Target],
    samples: Sequence[Sample],
    seed: int,
    *,
    disturb: Disturbance | None = None,
    tick: Callable[[float], None] | None = None,
) -> list[Record]:
    """Runs a phase's slices, server by server in turn.

    Args:
        phase: What to run.
        targets: The servers.
        samples: What is sent. All servers get the same samples at the same times in a turn.
        seed: Seed of the load.
        disturb: A fault to bring about during each slice.
        tick: Called with the seconds done after each slice, for a progress bar.

    Returns:
        The records of all requests.
    """
    records: list[Record] = []
    for turn in range(phase.turns):
        for target in order(targets, turn):
            records += run_slice(phase, target, samples, seed, turn, disturb)
            if tick is not None:
                tick(phase.slice_s)
    return records


def run_slice(
    phase: Phase,
    target: Target,
    samples: Sequence[Sample],
    seed: int,
    turn: int,
    disturb: Disturbance | None = None,
) -> list[Record]:
    """Runs one slice on one server; the same turn is the same load on each.

    Args:
        phase: What to run.
        target: The server.
        samples: What is sent.
        seed: Seed of the phase's load.
        turn: Number of the alternation.
        disturb: A fault to bring about during the slice.

    Returns:
        The records of its requests.
    """

    async def run() -> list[Record]:
        drawn = seed * 1000 + turn
        load = open_loop(target, samples, phase.times(drawn), drawn)
        if disturb is None:
            return await load
        fault = asyncio.ensure_future(disturb(target.server))
        records = await load
        await fault
        return records

    return [record.within(phase.name, target.server, turn) for record in asyncio.run(run())]


def by_server(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Groups records by server, in order of first appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.server, []).append(record)
    return groups
