"""Alternating slices: whatever else the machine does, it does to both servers alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from approxifer_torchserve.bench.harness.load import Record, Sample, Target, open_loop

# Called with the server's name when its slice starts; runs beside the load.
Disturbance = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Phase:
    """A stretch of the bench.

    Attributes:
        name: Short, a key in the report.
        label: A sentence for readers.
        rate: Requests per second during a slice.
        slice_s: Seconds of one slice.
        turns: Slices per server.
    """

    name: str
    label: str
    rate: float
    slice_s: float
    turns: int


def run_phase(
    phase: Phase,
    targets: Sequence[Target],
    samples: Sequence[Sample],
    seed: int,
    *,
    disturb: Disturbance | None = None,
    tick: Callable[[float], None] | None = None,
) -> list[Record]:
    """Run a phase's slices, server by server in turn.

    Args:
        phase: What to run.
        targets: The servers; which one starts changes with each turn.
        samples: What is sent. Both servers get the same samples at the same times in a turn.
        seed: Of the load.
        disturb: A fault to bring about during each slice.
        tick: Called with the seconds done after each slice, for a progress bar.

    Returns:
        The records of all requests.
    """
    records: list[Record] = []
    for turn in range(phase.turns):
        order = targets if turn % 2 == 0 else tuple(reversed(targets))
        for target in order:
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
    """Run one slice on one server; the same turn is the same load on each.

    Args:
        phase: What to run.
        target: The server.
        samples: What is sent.
        seed: Of the phase's load.
        turn: Which alternation.
        disturb: A fault to bring about during the slice.

    Returns:
        The records of its requests.
    """
    return asyncio.run(_slice(phase, target, samples, seed * 1000 + turn, turn, disturb))


async def _slice(
    phase: Phase,
    target: Target,
    samples: Sequence[Sample],
    seed: int,
    turn: int,
    disturb: Disturbance | None,
) -> list[Record]:
    fault = None if disturb is None else asyncio.create_task(_run(disturb, target.server))
    records = await open_loop(target, samples, phase.rate, phase.slice_s, seed)
    if fault is not None:
        await fault
    return [record.within(phase.name, target.server, turn) for record in records]


async def _run(disturb: Disturbance, server: str) -> None:
    await disturb(server)


def by_server(records: Sequence[Record]) -> Mapping[str, list[Record]]:
    """Group records by server, in order of first appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.server, []).append(record)
    return groups
