"""Open-loop latency of the coded model against what a user would do instead.

Competitors, in alternating slices: plain TorchServe with K workers and with K + 1; the same K + 1
with hedging in the client or a proxy, which needs no plugin; every query to two of K + 1 workers
(replication); and the coded model, which hedges what is late, on K + 1.
Phases: healthy; one worker of each a second late at every job; any job a second late with 2 %.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from approxifer_torchserve.bench.harness import model as probe
from approxifer_torchserve.bench.harness.client_hedge import Hedging
from approxifer_torchserve.bench.harness.faults import Victims
from approxifer_torchserve.bench.harness.kept import Kept
from approxifer_torchserve.bench.harness.load import Sample
from approxifer_torchserve.bench.harness.saturate import Saturator
from approxifer_torchserve.bench.harness.schedule import Phase, run_slice
from approxifer_torchserve.bench.harness.server import Served, idle
from approxifer_torchserve.bench.harness.sheet import Sheet
from approxifer_torchserve.bench.latency.report import write_report
from approxifer_torchserve.bench.latency.slices import CODED, RARE, SLOW_S, Size, Slice, phases

# Before the coded model's first request it has no threshold to lend.
FIRST_HEDGE_S = 0.2


@dataclass(frozen=True)
class Competitor:
    """One way to serve.

    Attributes:
        name: In reports.
        workers: How many.
        plugin: Whether it runs on the server with the plugin.
        approxifer: Its section of model-config.yaml.
        model: Its model's name on its server; two competitors may share one.
        hedging: Whether its clients hedge.
    """

    name: str
    workers: int
    plugin: bool
    approxifer: dict[str, Any]
    model: str
    hedging: bool = False


def competitors(queries: int) -> tuple[Competitor, ...]:
    """Return the ways to serve that are compared, for K queries and S = 1."""
    more = queries + 1
    off: dict[str, Any] = {"enabled": False}

    def code(name: str) -> dict[str, Any]:
        return {"code": {"name": name, "queries": queries, "stragglers": 1}}

    return (
        Competitor(f"plain {queries}", queries, False, off, "plain"),
        Competitor(f"plain {more}", more, False, off, "plain-more"),
        Competitor(f"client hedge {more}", more, False, off, "plain-more", hedging=True),
        Competitor(f"replication {more}", more, True, code("replication"), "replication"),
        Competitor(CODED, more, True, code("approxifer"), CODED),
    )


class Entrant:
    """A competitor that runs, and the worker of it that is made slow.

    Args:
        competitor: Which.
        served: Its server.
        threshold_s: Returns after how many seconds a request is late; asked before each slice.
    """

    def __init__(
        self, competitor: Competitor, served: Served, threshold_s: Callable[[], float]
    ) -> None:
        self.competitor = competitor
        self.served = served
        self.threshold_s = threshold_s
        self.hedging = Hedging(FIRST_HEDGE_S) if competitor.hedging else None
        self.target = replace(
            served.target(competitor.model, competitor.name), hedging=self.hedging
        )
        self.victims = Victims(served.server, served.cluster, competitor.model, served.faults)

    async def slow(self) -> None:
        """Make one worker a second late at every job."""
        await self.victims.slow_down(SLOW_S)

    async def rarely_slow(self) -> None:
        """Make any job a second late with a small probability."""
        self.served.faults.put_all({"*": {"delay_s": SLOW_S, "probability": RARE}})

    async def well(self) -> None:
        """Make all workers well."""
        self.served.faults.clear()

    def run(self, phase: Phase, samples: Sequence[Sample], seed: int, turn: int) -> Slice:
        """Run a slice, with the phase's fault."""
        faults = {"healthy": self.well, "slow": self.slow, "rare": self.rarely_slow}
        if self.hedging is not None:
            self.hedging.after_s = self.threshold_s()

        async def disturb(_: str) -> None:
            await faults[phase.name]()

        before = self._extra()
        records = run_slice(phase, self.target, samples, seed, turn, disturb)
        return Slice(phase.name, self.target.server, turn, self._extra() - before, tuple(records))

    def _extra(self) -> int:
        """Return how many jobs beyond one a request there were so far."""
        if self.hedging is not None:
            return self.hedging.sent
        if not self.competitor.plugin:
            return 0
        counters = self.served.once(self.competitor.model, idle, 5)["counters"]
        return int(sum(counters["jobs"].values()) - counters["requests"])


def run_latency(out: Path, size: Size, console: Console) -> Sheet:
    """Measure all slices that an earlier run into the same folder did not; write the report.

    Args:
        out: Folder for slices.jsonl, report.json, latency.png and report.html.
        size: What is served and how it is asked.
        console: Where the progress bar goes.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up.
    """
    load_average = os.getloadavg()[0]
    kept = Kept(out / "slices.jsonl", asdict(size))
    slices = [Slice.read(one) for one in kept.results]
    done = {one.key for one in slices}
    names = [one.name for one in competitors(size.queries)]
    todo = [
        # The same load in a turn for all, another in each phase.
        (phase, size.seed + number, turn, name)
        for number, phase in enumerate(phases(size))
        for turn in range(size.turns)
        for name in order(names, turn)
        if (phase.name, turn, name) not in done
    ]
    if todo:
        columns = (
            TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as bar, ExitStack() as stack:
            task = bar.add_task("start servers", total=len(todo))
            entrants = _start(stack, size)
            samples = probe.samples(64)
            for phase, seed, turn, name in todo:
                bar.update(task, description=f"{phase.name}, turn {turn + 1}: {name}")
                slices.append(entrants[name].run(phase, samples, seed, turn))
                kept.add(slices[-1].written())
                bar.advance(task)
    return write_report(out, size, slices, load_average)


def order(names: Sequence[str], turn: int) -> list[str]:
    """Return who is loaded after whom in a turn: another first, and every second turn backwards."""
    first = turn % len(names)
    turned = [*names[first:], *names[:first]]
    return turned[::-1] if turn % 2 else turned


def _start(stack: ExitStack, size: Size) -> dict[str, Entrant]:
    work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-bench-")))
    servers = {
        plugin: stack.enter_context(Served(work / f"plugin-{plugin}", plugin=plugin))
        for plugin in (False, True)
    }

    def threshold_s() -> float:
        return float(servers[True].state(CODED)["late_after_ms"]) / 1e3

    entrants, registered = {}, set()
    for one in competitors(size.queries):
        served = servers[one.plugin]
        if one.model not in registered:
            registered.add(one.model)
            settings = {
                "minWorkers": one.workers, "maxWorkers": one.workers, "batchSize": 1,
                "handler": {"bench": {"service_ms": size.service_ms}},
            }  # fmt: skip
            probe.archive_coded(
                served.store, one.model, approxifer=one.approxifer, settings=settings
            )
            served.cluster.register(f"{one.model}.mar", name=one.model, workers=one.workers)
        entrants[one.name] = Entrant(one, served, threshold_s)
        # A JVM compiles what runs often, and all should have done so.
        bodies = [sample.body for sample in probe.samples(8)]
        Saturator(entrants[one.name].target, bodies, one.workers).run(size.warm_s)
    return entrants
