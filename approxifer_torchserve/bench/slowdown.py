"""A slowdown of everything: is saturated throughput then as high as with the plugin off?

When all workers are slow, each job sent twice takes a place from another request. Two servers, as
many workers each, one loaded at a time, in turns that alternate::

    saturated, healthy ──▶ in mid-run all workers k times slower, still saturated ──▶ well again
                           └── answers per second, and jobs beyond one a request, are from here

The healthy part is long enough that lateness is again told by healthy times: each slowdown is
a surprise.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from approxifer_torchserve.bench.harness import model
from approxifer_torchserve.bench.harness.report import Check, Report, Say, Table
from approxifer_torchserve.bench.harness.schedule import alternate
from approxifer_torchserve.bench.harness.server import Served, State, extra_jobs, idle, serving
from approxifer_torchserve.bench.harness.summary import Ratio

# Not lower than with the plugin off; two servers differ by so much for no reason.
GOAL = 0.99
# The plugin's purse: so many jobs may be sent twice before the share counts.
BURST = 10


@dataclass(frozen=True)
class Size:
    """How long the bench runs, and on what.

    Attributes:
        factor: How many times slower a forward becomes.
        workers: Workers per server.
        batches: Batch sizes.
        turns: How many there are per server and batch size.
        healthy_s: Seconds of a turn before the slowdown.
        slow_s: Seconds of the slowdown.
        service_ms: What a forward takes when healthy, asleep, as on a GPU.
        max_extra_load: The policy's bound on extra jobs, per request.
        body_bytes: Bytes of a request.
    """

    factor: float = 5.0
    workers: int = 4
    batches: tuple[int, ...] = (1, 8)
    turns: int = 6
    healthy_s: float = 4.0
    slow_s: float = 8.0
    service_ms: float = 20.0
    max_extra_load: float = 0.25
    body_bytes: int = model.SMALL_BYTES

    @property
    def fault(self) -> dict[str, dict[str, float]]:
        """What all workers are told."""
        return {"*": {"delay_s": (self.factor - 1) * self.service_ms / 1e3}}


@dataclass(frozen=True)
class Turn:
    """One turn on one server.

    Attributes:
        per_second: Answers per second during the slowdown.
        requests: How many came during the slowdown; 0 without the plugin, which counts them.
        extra_jobs: How many jobs were handed out then beside the requests themselves, likewise.
        failed: How many requests were not answered 200.
        wrong: How many answers are not the model's.
    """

    per_second: float
    requests: int
    extra_jobs: int
    failed: int
    wrong: int


@dataclass(frozen=True)
class Comparison:
    """All turns of one batch size.

    Attributes:
        batch: The batch size.
        off: The turns without the plugin.
        on: The turns with it.
    """

    batch: int
    off: tuple[Turn, ...]
    on: tuple[Turn, ...]

    @property
    def ratio(self) -> Ratio:
        """Answers per second with the plugin over those without, turn by turn."""
        return Ratio.of([one.per_second for one in self.on], [one.per_second for one in self.off])

    @property
    def extra(self) -> float:
        """Jobs beside the requests themselves, per request, over all turns."""
        return sum(t.extra_jobs for t in self.on) / max(1, sum(t.requests for t in self.on))

    def facts(self) -> dict[str, Any]:
        """Returns its figures for report.json."""
        return {**asdict(self), "ratios": self.ratio.turns, "extra_jobs_per_request": self.extra}

    def line(self) -> str:
        """Says it in a line."""
        median, lowest, highest = self.ratio.cells()
        return (
            f"{median}× plugin off ({lowest} to {highest} in {len(self.on)} turns); "
            f"{_median(self.on):.0f}/s against {_median(self.off):.0f}/s"
        )


def _median(turns: Sequence[Turn]) -> float:
    return statistics.median(turn.per_second for turn in turns)


def run_slowdown(size: Size, say: Say = print) -> Report:
    """Measures all batch sizes.

    Args:
        size: How long and on what.
        say: Told what happens now.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up.
    """
    found = []
    with ExitStack() as stack:
        sides = [stack.enter_context(Served(name, plugin=name == "on")) for name in ("off", "on")]
        for side in sides:
            _archive(side, size)
        for batch in size.batches:
            with serving(sides, f"batch{batch}", size.workers):
                say(f"batch {batch}: {size.turns} turns, all {size.workers} workers slow in each")
                turn = partial(_turn, size=size, batch=batch)
                found.append(Comparison(batch, **alternate(sides, size.turns, turn)))
                say(f"{found[-1].line()}; {found[-1].extra:.3f} extra jobs per request")
    return _report(size, found)


def _archive(side: Served, size: Size) -> None:
    code = {"name": "approxifer", "queries": size.workers - 1, "stragglers": 1}
    policy = {"max_extra_load": size.max_extra_load}
    for batch in size.batches:
        model.archive_coded(
            side.store,
            f"batch{batch}",
            approxifer={"enabled": side.plugin, "code": code, "policy": policy},
            settings=model.settings(size.workers, batch, service_ms=size.service_ms),
        )


def _turn(served: Served, size: Size, batch: int) -> Turn:
    name = f"batch{batch}"
    # Enough that each worker's next batch waits already while it serves one.
    clients = 2 * size.workers * batch
    load = model.checked_loop(served.target(name), clients, size.body_bytes)
    seen: list[State] = []

    def begin() -> None:
        if served.plugin:
            seen.append(served.state(name))
        served.faults.put_all(size.fault)

    timer = threading.Timer(size.healthy_s, begin)
    timer.start()
    try:
        # Only what is answered after ``warm_s`` counts for answers per second.
        burst = load.run(size.healthy_s + size.slow_s, warm_s=size.healthy_s)
    finally:
        timer.cancel()
        timer.join()
        served.faults.clear()
    requests, extra = _since(seen[0], served.once(name, idle, 10)) if seen else (0, 0)
    return Turn(burst.per_second, requests, extra, burst.failed, burst.wrong)


def _since(before: State, after: State) -> tuple[int, int]:
    """Returns how many requests came between two states, and how many jobs beside them."""
    requests = after["counters"]["requests"] - before["counters"]["requests"]
    return requests, extra_jobs(after) - extra_jobs(before)


def checks(size: Size, found: Sequence[Comparison]) -> tuple[Check, ...]:
    """Returns what is promised, and whether it came true."""
    result = []
    for one in found:
        most = max(turn.extra_jobs - size.max_extra_load * turn.requests for turn in one.on)
        share = max(turn.extra_jobs / max(1, turn.requests) for turn in one.on)
        result += [
            Check(
                f"batch {one.batch}: throughput", one.ratio.median >= GOAL,
                f"{one.line()}; the goal is {GOAL}×",
            ),
            Check(
                f"batch {one.batch}: extra work", most <= BURST,
                f"{one.extra:.3f} extra jobs per request, at most {share:.3f} in a turn; "
                f"the bound is {size.max_extra_load:g}, and {BURST} jobs",
            ),
        ]  # fmt: skip
    bad = sum(turn.failed + turn.wrong for one in found for turn in (*one.off, *one.on))
    return (*result, Check("answers", bad == 0, f"{bad} failed or wrong"))


def _report(size: Size, found: Sequence[Comparison]) -> Report:
    columns = (
        "batch", "plugin off/s", "plugin on/s", "ratio", "lowest", "highest", "extra jobs/request",
    )  # fmt: skip
    rows = tuple(
        (
            str(one.batch), f"{_median(one.off):.1f}", f"{_median(one.on):.1f}",
            *one.ratio.cells(), f"{one.extra:.3f}",
        )
        for one in found
    )  # fmt: skip
    facts = {"size": asdict(size), "comparisons": [one.facts() for one in found]}
    lead = (
        f"Two servers with {size.workers} workers each, without and with the plugin, saturated. "
        f"After {size.healthy_s:g} s of each turn a forward takes {size.factor:g} times its "
        f"{size.service_ms:g} ms on every worker, for {size.slow_s:g} s; answers per second are "
        "counted then. Turns alternate; a ratio compares the two servers in one turn. Extra jobs "
        "are those beside the requests themselves, during the slowdown."
    )
    table = Table(f"all workers {size.factor:g} times slower", columns, rows)
    return Report("Slowdown of everything", lead, facts, (table,), checks(size, found))
