"""The bad days: how hard servers are asked, what goes wrong, and what is promised then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from approxifer_torchserve.bench.harness.schedule import Phase

SLOW_S, RARE, HANG_S = 1.0, 0.02, 600.0
SHIFT_MS = (20.0, 120.0)


@dataclass(frozen=True)
class Size:
    """What is served and how long it is asked.

    Attributes:
        workers: Workers per server.
        service_ms: What a forward takes, asleep, as on a GPU.
        slice_s: Seconds of a slice; some scenarios take a multiple.
        turns: Slices per scenario and server; figures are medians over them.
        first_call_s: Seconds that a slow first call of a process takes.
        deadline_ms: The policy's deadline in scenarios that have one.
        seed: Seed of the load.
        warm_s: Seconds of saturating load on each model before its first slice.
    """

    workers: int = 9
    service_ms: float = 50.0
    slice_s: float = 10.0
    turns: int = 3
    first_call_s: float = 12.0
    deadline_ms: float = 2000.0
    seed: int = 0
    warm_s: float = 2.0

    @property
    def hanging(self) -> int:
        """How many requests hang: each may hold two workers, and half of them are to be left."""
        return max(1, self.workers // 4)


QUICK = Size(workers=4, slice_s=3.0, turns=1, first_call_s=3.0)


@dataclass(frozen=True)
class Promise:
    """A bound on a figure of the coded model.

    Attributes:
        figure: Its name in `figures.FIGURES`.
        limit: What it may not exceed.
        by: What is bound: the figure itself, how many ``times`` plain's it is, or how much it is
            ``beyond`` plain's.
        at_least: Whether the limit is the lowest that it may be.
    """

    figure: str
    limit: float
    by: Literal["itself", "times", "beyond"] = "itself"
    at_least: bool = False

    def check(self, coded: Mapping[str, float], plain: Mapping[str, float]) -> tuple[bool, str]:
        """Tells whether it was kept, which the unknown was not, and says by how much."""
        mine, theirs = coded[self.figure], plain[self.figure]
        beyond = 0.0 if mine == theirs else mine - theirs
        found = {"itself": mine, "times": over(mine, theirs), "beyond": beyond}[self.by]
        kept = found >= self.limit if self.at_least else found <= self.limit
        says = {"itself": "", "times": " times plain's", "beyond": " beyond plain's"}[self.by]
        return kept, f"{found:.3g}{says}, promised {'≥' if self.at_least else '≤'} {self.limit:.3g}"


def over(mine: float, theirs: float) -> float:
    """Returns a figure over another; 1 where they are equal, 0 and infinite too."""
    return 1.0 if mine == theirs else mine / theirs if theirs else math.inf


NOT_WORSE = (Promise("p50 ms", 1.15, "times"), Promise("p99 ms", 1.15, "times"))
NOBODY_LOST = Promise("lost %", 0)
FULL = Promise("goodput", 0.97, "times", at_least=True)


@dataclass(frozen=True)
class Scenario:
    """A bad day.

    Attributes:
        name: What ``--scenario`` calls it.
        label: A sentence for readers.
        model: Which one serves it: ``deadline``, which has one, and a sample; ``none``, without
            either; ``shift``, likewise, and fast.
        load: Stretches of a slice: requests over what the workers can do, and how many times
            ``slice_s`` it lasts.
        promises: What must come true.
        fault: What goes wrong; `bench.Twin` knows how. With ``first`` workers must have served
            nothing, so it has one turn.
    """

    name: str
    label: str
    model: str
    load: tuple[tuple[float, float], ...]
    promises: tuple[Promise, ...]
    fault: str = ""

    @property
    def overload(self) -> bool:
        """Whether more is asked at first than the workers can do."""
        return self.load[0][0] > 1

    def capacity(self, size: Size) -> float:
        """Returns requests per second that so many workers can serve at most."""
        return 1e3 * size.workers / (SHIFT_MS[1] if self.model == "shift" else size.service_ms)

    def phase(self, size: Size) -> Phase:
        """Returns its load on so many workers."""
        # Two seconds of full queues, and two to see them empty, at least.
        least = (size.deadline_ms / 1e3 + 2, 2.0) if self.overload else (0.0,)
        loads = [
            (load * self.capacity(size), max(part * size.slice_s, short))
            for (load, part), short in zip(self.load, least, strict=False)
        ]
        if self.fault == "first":
            # All that come during the first calls fit into TorchServe's queue of 100 jobs.
            loads = [(60 / size.first_call_s, 1.25 * size.first_call_s)]
        turns = 1 if self.fault == "first" else size.turns
        return Phase(self.name, self.label, *loads[0], turns, tuple(loads[1:]))


def policy(model: str, size: Size) -> dict[str, Any]:
    """Returns ``handler.approxifer.policy`` of a model; there is no deadline unless it says so."""
    return {"deadline_ms": size.deadline_ms} if model == "deadline" else {}


def scenarios(size: Size) -> dict[str, Scenario]:
    """Returns all by name, in their order."""
    waiting = 1 + max(32, size.workers) / size.workers
    overload = (
        FULL, Promise("p99 ms", 1.5 * waiting * size.service_ms), Promise("refused in ms", 50),
        Promise("failed %", 0.1),
    )  # fmt: skip
    as_plain = (FULL, *NOT_WORSE, Promise("lost %", 1, "beyond"))
    once, step = ((1.0, 1.0),), ((3.0, 1.0), (0.5, 0.3))
    rare = (
        Promise("p99 ms", 0.15, "times"), Promise("p99.9 ms", 0.2, "times"),
        Promise("extra %", 3), NOBODY_LOST,
    )  # fmt: skip
    # A median of 256 service times follows after half of them; 200 late jobs are enough.
    learning = max(50.0, 20_000 * SHIFT_MS[1] / (960 * size.workers * size.slice_s))
    within, first_s = f"deadline {size.deadline_ms:g} ms", size.first_call_s
    found = (
        Scenario("first-sample", f"a first call takes {first_s:g} s; sample, {within}", "deadline",
                 once, (NOBODY_LOST, Promise("p99.9 ms", 500 * first_s)), "first"),
        Scenario("over-1.25", f"1.25× capacity, {within}", "deadline", ((1.25, 0.8),), overload),
        Scenario("over-3", f"3× capacity, then .5×, {within}", "deadline", step,
                 (*overload, Promise("clean s", 1))),
        Scenario("over-1.25-none", "1.25× capacity, no deadline", "none", ((1.25, 0.8),), as_plain),
        Scenario("error-.3", "one worker fails at once, load .3", "none", ((0.3, 0.7),),
                 (Promise("lost %", 0.1), *NOT_WORSE), "fail"),
        Scenario("rare", f"{RARE:.0%} of jobs +{SLOW_S:g} s, load .22", "none", ((0.22, 1.6),),
                 rare, "rare"),
        Scenario("error-.7", "one worker fails at once, load .7", "none", ((0.7, 0.7),),
                 (Promise("lost %", 0.1),), "fail"),
        Scenario("over-3-none", "3× capacity, then .5×, no deadline", "none", step,
                 (*as_plain, Promise("clean s", 0.5, "beyond"))),
        Scenario("slow", f"one worker +{SLOW_S:g} s, load .6", "none", ((0.6, 1),),
                 (Promise("p99.9 ms", 0.3, "times"), *NOT_WORSE, NOBODY_LOST), "slow"),
        Scenario("hang", f"clients' requests never end: {size.hanging}; load .3", "none",
                 ((0.3, 0.8),), (NOBODY_LOST, Promise("held", 2), *NOT_WORSE), "hang"),
        Scenario("restart", "all workers are killed, load .05", "none", ((0.05, 1.2),),
                 (Promise("lost %", 1, "beyond"),), "restart"),
        Scenario("first", f"a first call takes {first_s:g} s; no sample, no deadline", "shift",
                 once, (NOBODY_LOST,), "first"),
        Scenario("shift", f"{SHIFT_MS[0]:g} → {SHIFT_MS[1]:g} ms, load .6 then", "shift",
                 ((0.6, 1.6),), (*NOT_WORSE, NOBODY_LOST, Promise("late %", learning)), "shift"),
    )  # fmt: skip
    return {one.name: one for one in found}
