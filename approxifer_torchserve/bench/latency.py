"""Open-loop latency of the coded model against what a user would do instead.

Competitors, in alternating slices: plain TorchServe with K workers and with K + 1; the same K + 1
with hedging in the client or a proxy, which needs no plugin; every query to two of K + 1 workers
(replication); and the coded model, which hedges what is late, on K + 1.
Phases: healthy; one worker of each a second late at every job; any job a second late with 2 %.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from approxifer_torchserve.bench.harness import model
from approxifer_torchserve.bench.harness.client_hedge import Hedging
from approxifer_torchserve.bench.harness.faults import Victims
from approxifer_torchserve.bench.harness.kept import Kept
from approxifer_torchserve.bench.harness.load import ClosedLoop, Record, Sample
from approxifer_torchserve.bench.harness.plot import tails
from approxifer_torchserve.bench.harness.report import Check, Report, Table
from approxifer_torchserve.bench.harness.schedule import Phase, by_server, order, run_slice
from approxifer_torchserve.bench.harness.server import Served, idle
from approxifer_torchserve.bench.harness.summary import Summary, summarise

SLOW_S = 1.0
RARE = 0.02
CODED = "coded"
# Before the coded model's first request it has no threshold to lend.
FIRST_HEDGE_S = 0.2
COLUMNS = (
    "phase", "served by", "requests", "p50 ms", "turns", "p99 ms", "turns", "max ms",
    "over 0.5 s", "extra", "failed", "right",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """What is served and how it is asked.

    Attributes:
        queries: K.
        service_ms: What a forward takes, asleep, as on a GPU.
        utilisation: How busy plain TorchServe's K workers are, a fraction.
        slice_s: Seconds of a slice.
        turns: Slices per phase and competitor.
        seed: Seed of the load.
        warm_s: Seconds of saturating load on each before the first slice.
    """

    queries: int = 3
    service_ms: float = 10.0
    utilisation: float = 0.3
    slice_s: float = 8.0
    turns: int = 10
    seed: int = 0
    warm_s: float = 3.0

    def rate(self, phase: str) -> float:
        """Returns requests per second that keep K workers as busy in every phase.

        Two in a hundred jobs that sleep a second take more of a worker than all others together.
        """
        mean_s = self.service_ms / 1e3 + (RARE * SLOW_S if phase == "rare" else 0)
        return self.utilisation * self.queries / mean_s

    def phases(self) -> tuple[Phase, ...]:
        """Returns the phases in their order."""
        labels = {
            "healthy": "All workers well.",
            "slow": f"One worker sleeps {SLOW_S:g} s at every job.",
            "rare": f"Any job sleeps {SLOW_S:g} s with {RARE:.0%}.",
        }
        return tuple(
            Phase(name, label, self.rate(name), self.slice_s, self.turns)
            for name, label in labels.items()
        )


@dataclass(frozen=True)
class Slice:
    """One slice of one competitor.

    Attributes:
        phase: The phase's name.
        server: The competitor's name.
        turn: Number of the alternation.
        extra: Jobs beyond one a request.
        records: What became of its requests.
    """

    phase: str
    server: str
    turn: int
    extra: int
    records: tuple[Record, ...]

    @property
    def key(self) -> tuple[str, int, str]:
        """What tells it from the others."""
        return self.phase, self.turn, self.server


@dataclass(frozen=True)
class Competitor:
    """One way to serve.

    Attributes:
        name: What reports call it.
        workers: How many it has.
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
    """Returns the ways to serve that are compared, for K queries and S = 1."""
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
        competitor: Which one.
        served: Its server.
        threshold_s: Returns after how many seconds a request is late; asked before each slice.
    """

    def __init__(
        self, competitor: Competitor, served: Served, threshold_s: Callable[[], float]
    ) -> None:
        self.competitor, self.served, self.threshold_s = competitor, served, threshold_s
        self.hedging = Hedging(FIRST_HEDGE_S) if competitor.hedging else None
        self.target = replace(
            served.target(competitor.model), server=competitor.name, hedging=self.hedging
        )
        self.victims = Victims(served, competitor.model)

    def run(self, phase: Phase, samples: Sequence[Sample], seed: int, turn: int) -> Slice:
        """Runs a slice, with the phase's fault."""
        if self.hedging is not None:
            self.hedging.after_s = self.threshold_s()

        async def disturb(_: str) -> None:
            if phase.name == "slow":
                await self.victims.hurt(delay_s=SLOW_S)
            elif phase.name == "rare":
                self.served.faults.put_all({"*": {"delay_s": SLOW_S, "probability": RARE}})
            else:
                self.served.faults.clear()

        before = self._extra()
        records = run_slice(phase, self.target, samples, seed, turn, disturb)
        return Slice(phase.name, self.target.server, turn, self._extra() - before, tuple(records))

    def _extra(self) -> int:
        """Returns how many jobs beyond one a request there were so far."""
        if self.hedging is not None:
            return self.hedging.sent
        if not self.competitor.plugin:
            return 0
        counters = self.served.once(self.competitor.model, idle, 5)["counters"]
        return int(sum(counters["jobs"].values()) - counters["requests"])


def run_latency(out: Path, size: Size, console: Console) -> Report:
    """Measures all slices that an earlier run into the same folder did not.

    Args:
        out: Folder for slices.jsonl and latency.png.
        size: What is served and how it is asked.
        console: Where the progress bar goes.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up.
    """
    kept = Kept(out / "slices.jsonl", asdict(size), Slice)
    done = {one.key for one in kept.results}
    names = [one.name for one in competitors(size.queries)]
    todo = [
        # The same load in a turn for all, another in each phase.
        (phase, size.seed + number, turn, name)
        for number, phase in enumerate(size.phases())
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
            samples = model.samples(64)
            for phase, seed, turn, name in todo:
                bar.update(task, description=f"{phase.name}, turn {turn + 1}: {name}")
                kept.add(entrants[name].run(phase, samples, seed, turn))
                bar.advance(task)
    return report(out, size, kept.results)


def _start(stack: ExitStack, size: Size) -> dict[str, Entrant]:
    servers = {plugin: stack.enter_context(Served(plugin=plugin)) for plugin in (False, True)}

    def threshold_s() -> float:
        return float(servers[True].state(CODED)["late_after_ms"]) / 1e3

    entrants, registered = {}, set()
    for one in competitors(size.queries):
        served = servers[one.plugin]
        if one.model not in registered:
            registered.add(one.model)
            settings = model.settings(one.workers, service_ms=size.service_ms)
            model.archive_coded(
                served.store, one.model, approxifer=one.approxifer, settings=settings
            )
            served.cluster.register(f"{one.model}.mar", name=one.model, workers=one.workers)
        entrants[one.name] = Entrant(one, served, threshold_s)
        # A JVM compiles what runs often, and all should have done so.
        bodies = [sample.body for sample in model.samples(8)]
        ClosedLoop(entrants[one.name].target, bodies, one.workers).run(size.warm_s)
    return entrants


def report(out: Path, size: Size, slices: Sequence[Slice]) -> Report:
    """Draws latency.png and says what was found.

    Args:
        out: Folder for the plot.
        size: What was asked for.
        slices: What came.
    """
    found: dict[str, list[Record]] = {}
    extra: dict[tuple[str, str], int] = {}
    for one in slices:
        found.setdefault(one.phase, []).extend(one.records)
        key = one.phase, one.server
        extra[key] = extra.get(key, 0) + one.extra
    summaries = {
        phase: [summarise(name, group) for name, group in sorted(by_server(records).items())]
        for phase, records in found.items()
    }
    tails(out / "latency.png", found)
    rows = tuple(
        row(phase, summary, found[phase], extra[phase, summary.server])
        for phase, all_ in summaries.items()
        for summary in all_
    )
    facts = {
        "size": {**asdict(size), "rates": {phase: size.rate(phase) for phase in summaries}},
        "phases": {
            phase: [
                {**asdict(one), "extra_jobs_per_request": extra[phase, one.server] / one.requests}
                for one in all_
            ]
            for phase, all_ in summaries.items()
        },
    }
    lead = (
        f"K = {size.queries}, S = 1, batch size 1; a forward takes {size.service_ms:g} ms asleep; "
        f"Poisson requests, {size.utilisation:.0%} of what {size.queries} workers can do in that "
        f"phase, in {size.turns} slices of {size.slice_s:g} s that alternate. A latency counts "
        "from the moment its request was due. p50 and p99 are medians over turns, with the lowest "
        "and highest turn beside them. A client that hedges has no plugin: it sends again after "
        "what the coded model takes for late then, without a bound on extra work. Extra: jobs "
        "beyond one a request, per request."
    )
    return Report(
        "Latency against the alternatives", lead, facts,
        (Table("latency", COLUMNS, rows, names=2),), checks(summaries), ("latency.png",),
    )  # fmt: skip


def row(phase: str, one: Summary, records: Sequence[Record], extra: int) -> tuple[str, ...]:
    """Returns a competitor's line of the table for one phase."""
    long = sum(r.latency_s > 0.5 for r in records if r.server == one.server)
    return (
        phase, one.server, str(one.requests), *_spread(one.p50_turns_ms, 1),
        *_spread(one.p99_turns_ms, 0), f"{one.max_ms:.0f}", str(long),
        f"{extra / one.requests:.3f}", str(one.failed), f"{one.accuracy:.3f}",
    )  # fmt: skip


def _spread(turns: Sequence[float], digits: int) -> tuple[str, str]:
    middle, low, high = statistics.median(turns), min(turns), max(turns)
    return f"{middle:.{digits}f}", f"{low:.{digits}f}–{high:.{digits}f}"


def checks(summaries: Mapping[str, Sequence[Summary]]) -> tuple[Check, ...]:
    """Returns what is promised of the coded model, and whether it came true."""
    result = []
    for phase, all_ in summaries.items():
        coded = next(one for one in all_ if one.server == CODED)
        says = f"{coded.failed} failed, {coded.accuracy:.3f} right {list(coded.failures) or ''}"
        good = coded.failed == 0 and coded.accuracy == 1
        result.append(Check(f"{phase}: answers", good, says))
        if phase != "healthy":
            waited = coded.max_ms < 1e3 * SLOW_S
            result.append(Check(f"{phase}: longest wait", waited, f"{coded.max_ms:.0f} ms"))
    return tuple(result)
