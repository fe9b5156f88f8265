"""The bad days: how hard servers are asked, what goes wrong, and what is promised then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from approxifer_torchserve.bench.harness.schedule import Phase
from approxifer_torchserve.bench.worst.figures import Figures
from approxifer_torchserve.serving.config import PolicyConfig

SLOW_S, RARE, HANG_S = 1.0, 0.02, 600.0
SHIFT_MS = (20.0, 120.0)
# The client waits for it no longer than the slice; each holds at least a worker.
HANGING = 2


@dataclass(frozen=True)
class Size:
    """What is served and how long it is asked.

    Attributes:
        workers: Workers per server.
        service_ms: What a forward takes, asleep, as on a GPU.
        slice_s: Seconds of a slice; some scenarios take a multiple.
        turns: Slices per scenario and server; figures are medians over them.
        first_call_s: Seconds that the first call of a process takes where that is the fault.
        deadline_ms: The policy's deadline in scenarios that have one.
        seed: Seed of the load.
        warm_s: Seconds of saturating load on each server before its first slice.
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
    def queue_services(self) -> float:
        """What may be waited for under overload, in services, at batch size 1."""
        return 1.5 * (1 + max(32, self.workers) / self.workers)


QUICK = Size(workers=4, slice_s=3.0, turns=1, first_call_s=3.0)


@dataclass(frozen=True)
class Promise:
    """A bound on a figure.

    Attributes:
        what: What it is a figure of.
        figure: Reads it off the coded model's and the twin's figures.
        limit: Its bound; the figure may not be higher.
        unit: Stands behind the numbers.
        at_least: Whether the figure may not be lower instead.
    """

    what: str
    figure: Callable[[Figures, Figures], float]
    limit: float
    unit: str = ""
    at_least: bool = False

    def check(self, coded: Figures, plain: Figures) -> tuple[bool, str]:
        """Tells whether it was kept, and says by how much; what is unknown was not kept."""
        found = self.figure(coded, plain)
        kept = found >= self.limit if self.at_least else found <= self.limit
        side = "≥" if self.at_least else "≤"
        return kept, f"{found:.3g}{self.unit}, promised {side} {self.limit:.3g}{self.unit}"


def times_plain(name: str, limit: float, *, at_least: bool = False) -> Promise:
    """Returns the promise that a figure is at most so many times the twin's."""

    def figure(coded: Figures, plain: Figures) -> float:
        return coded.over(plain, name)

    return Promise(name, figure, limit, "× plain", at_least)


def at_most(name: str, limit: float, unit: str = "") -> Promise:
    """Returns the promise of a bound on one of the coded model's figures."""
    return Promise(name, lambda coded, _: float(getattr(coded, name)), limit, unit)


# Random: the two differ by some of a few hundred requests for no reason.
NOT_WORSE = (times_plain("p50_ms", 1.15), times_plain("p99_ms", 1.15))
LOST = Promise("lost beyond plain's", lambda c, p: c.lost_pct - p.lost_pct, 1.0, " points")
NOBODY = at_most("lost_pct", 0.0, " %")


@dataclass(frozen=True)
class Scenario:
    """A bad day.

    Attributes:
        name: What ``--scenario`` calls it.
        label: A sentence for readers.
        model: Which of `models` serves it.
        load: Stretches of a slice: requests over what the workers can do, and how many times
            ``slice_s`` it lasts.
        promises: What must come true.
        fault: What goes wrong; `bench.Twin` knows how.
        fresh: Whether it needs workers that have served nothing; then it has one turn.
    """

    name: str
    label: str
    model: str
    load: tuple[tuple[float, float], ...]
    promises: tuple[Promise, ...]
    fault: str = ""
    fresh: bool = False

    def capacity(self, size: Size) -> float:
        """Returns requests per second that so many workers can serve at most."""
        service_ms = SHIFT_MS[1] if self.fault == "shift" else size.service_ms
        return 1e3 * size.workers / service_ms

    def phase(self, size: Size) -> Phase:
        """Returns its load on so many workers."""
        capacity = self.capacity(size)
        (rate, seconds), *then = ((load * capacity, t * size.slice_s) for load, t in self.load)
        if self.fresh:
            # All that come during the first calls fit into TorchServe's queue of 100 jobs.
            rate, seconds = 60 / size.first_call_s, 1.5 * size.first_call_s
        turns = 1 if self.fresh else size.turns
        return Phase(self.name, self.label, rate, seconds, turns, tuple(then))


def policy(model: str, size: Size) -> dict[str, Any]:
    """Returns ``handler.approxifer.policy`` of a model: with a deadline, or without."""
    if model in ("deadline", "sample"):
        return {"deadline_ms": size.deadline_ms}
    # Where a deadline cannot be left out, ten minutes are none.
    none = str(PolicyConfig().deadline_ms) == "none"
    return {"deadline_ms": "none" if none else 600_000}


def scenarios(size: Size) -> dict[str, Scenario]:
    """Returns all by name, in their order."""
    bound_ms = size.queue_services * size.service_ms
    overload = (
        times_plain("goodput", 0.97, at_least=True), at_most("p99_ms", bound_ms, " ms"),
        at_most("refusal_ms", 50.0, " ms"), at_most("failed_pct", 0.1, " %"),
    )  # fmt: skip
    as_plain = (times_plain("goodput", 0.97, at_least=True), *NOT_WORSE, LOST)
    clean = at_most("clean_s", 1.0, " s")
    healed = Promise("clean_s", lambda c, p: c.clean_s - p.clean_s, 0.5, " s beyond plain's")
    errors = at_most("lost_pct", 0.1, " %")
    first = replace(NOBODY, what="failed or refused")
    step = ((3.0, 1.0), (0.5, 0.5))
    within = f"deadline {size.deadline_ms:g} ms"
    found = (
        Scenario("over-1.25", f"1.25× capacity, {within}", "deadline", ((1.25, 1.0),), overload),
        Scenario("over-3", f"3× capacity, then .5×, {within}", "deadline", step,
                 (*overload, clean)),
        Scenario("over-1.25-none", "1.25× capacity, no deadline", "none", ((1.25, 1.0),),
                 as_plain),
        Scenario("error-.3", "one worker fails at once, load .3", "none", ((0.3, 1.0),),
                 (errors, *NOT_WORSE), "fail"),
        Scenario("rare", f"{RARE:.0%} of jobs +{SLOW_S:g} s, load .22", "none", ((0.22, 2.0),),
                 (times_plain("p99_ms", 0.15), times_plain("p999_ms", 0.2),
                  at_most("extra_pct", 3.0, " %"), NOBODY), "rare"),
        Scenario("error-.7", "one worker fails at once, load .7", "none", ((0.7, 1.0),),
                 (errors,), "fail"),
        Scenario("over-3-none", "3× capacity, then .5×, no deadline", "none", step,
                 (*as_plain, healed)),
        Scenario("slow", f"one worker +{SLOW_S:g} s, load .6", "none", ((0.6, 1.0),),
                 (times_plain("p999_ms", 0.3), *NOT_WORSE, NOBODY), "slow"),
        Scenario("hang", f"{HANGING} clients' requests never end, load .3", "none", ((0.3, 1.0),),
                 (NOBODY, at_most("held", 2.0, " workers each"), *NOT_WORSE), "hang"),
        Scenario("restart", "all workers are killed, load .05", "none", ((0.05, 1.5),),
                 (LOST,), "restart"),
        Scenario("shift", f"{SHIFT_MS[0]:g} → {SHIFT_MS[1]:g} ms, load .6 then", "shift",
                 ((0.6, 2.0),), (*NOT_WORSE, NOBODY, at_most("late_pct", 50.0, " %")), "shift"),
        Scenario("first", f"a first call takes {size.first_call_s:g} s, no sample", "first",
                 ((0.0, 0.0),), (first,), "first", fresh=True),
        Scenario("first-sample", f"a first call takes {size.first_call_s:g} s, sample, {within}",
                 "sample", ((0.0, 0.0),),
                 (first, Promise("p99.9", lambda c, _: c.p999_ms / 1e3, size.first_call_s / 2,
                                 " s")), "first", fresh=True),
    )  # fmt: skip
    return {one.name: one for one in found}
