"""Open-loop latency of the coded model against what a user would do instead.

Competitors, in alternating slices: plain TorchServe with K workers and with K + 1; every query to
two of K + 1 workers (replication); and the coded model, which hedges what is late, on K + 1.
Phases: healthy; one worker of each a second late at every job; any job a second late with 2 %.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib

from approxifer_torchserve.bench import probe
from approxifer_torchserve.bench.disturb import Victims
from approxifer_torchserve.bench.load import Record
from approxifer_torchserve.bench.report import Summary, summarise
from approxifer_torchserve.bench.schedule import Phase, by_server, run_phase
from approxifer_torchserve.bench.served import Served
from approxifer_torchserve.bench.sheet import Check, Sheet, Table

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SLOW_S = 1.0
RARE = 0.02
CODED = "coded"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """What is served and how it is asked.

    Attributes:
        queries: K.
        service_ms: What a forward takes, asleep, as on a GPU.
        utilisation: Of plain TorchServe's K workers, a fraction.
        slice_s: Seconds of a slice.
        turns: Slices per phase and competitor.
    """

    queries: int = 3
    service_ms: float = 10.0
    utilisation: float = 0.3
    slice_s: float = 4.0
    turns: int = 5

    def rate(self, phase: str) -> float:
        """Return requests per second that keep K workers as busy in every phase.

        Two in a hundred jobs that sleep a second take more of a worker than all others together.
        """
        mean_s = self.service_ms / 1e3 + (RARE * SLOW_S if phase == "rare" else 0)
        return self.utilisation * self.queries / mean_s


@dataclass(frozen=True)
class Competitor:
    """One way to serve.

    Attributes:
        name: In reports.
        workers: How many.
        plugin: Whether it runs on the server with the plugin.
        approxifer: Its section of model-config.yaml.
    """

    name: str
    workers: int
    plugin: bool
    approxifer: dict[str, Any]

    @property
    def model(self) -> str:
        """Its model's name on its server."""
        return self.name.replace(" ", "-")


def competitors(queries: int) -> tuple[Competitor, ...]:
    """Return the ways to serve that are compared, for K queries and S = 1."""
    more = queries + 1
    off: dict[str, Any] = {"enabled": False}

    def code(name: str) -> dict[str, Any]:
        return {"code": {"name": name, "queries": queries, "stragglers": 1}}

    return (
        Competitor(f"plain {queries}", queries, False, off),
        Competitor(f"plain {more}", more, False, off),
        Competitor(f"replication {more}", more, True, code("replication")),
        Competitor(CODED, more, True, code("approxifer")),
    )


class Entrant:
    """A competitor that runs, and the worker of it that is made slow."""

    def __init__(self, competitor: Competitor, served: Served) -> None:
        self.target = served.target(competitor.model, competitor.name)
        self.faults = served.faults
        self.victims = Victims(served.server, served.cluster, competitor.model, served.faults)

    async def slow(self) -> None:
        """Make one worker a second late at every job."""
        await self.victims.slow_down(SLOW_S)

    async def rarely_slow(self) -> None:
        """Make any job a second late with a small probability."""
        self.faults.put_all({"*": {"delay_s": SLOW_S, "probability": RARE}})

    async def well(self) -> None:
        """Make all workers well."""
        self.faults.clear()


def run_latency(out: Path, size: Size | None = None, seed: int = 0, say: Say = print) -> Sheet:
    """Measure all phases and write the report.

    Args:
        out: Folder for report.json, latency.png and report.html.
        size: What is served and how it is asked.
        seed: Of the load.
        say: Told what happens now.

    Raises:
        LaunchError: A server did not start.
        ClusterError: Workers did not come up.
    """
    size = size or Size()
    load_average = os.getloadavg()[0]
    found: dict[str, list[Record]] = {}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-bench-")))
        entrants = _start(stack, work, size, say)
        samples = probe.samples(64)
        phases: tuple[tuple[str, str, Callable[[Entrant], Awaitable[None]]], ...] = (
            ("healthy", "All workers well.", Entrant.well),
            ("slow", f"One worker sleeps {SLOW_S:g} s at every job.", Entrant.slow),
            ("rare", f"Any job sleeps {SLOW_S:g} s with {RARE:.0%}.", Entrant.rarely_slow),
        )
        for number, (name, label, disturb) in enumerate(phases):
            say(f"{name}: {label}")
            by_name = {entrant.target.server: entrant for entrant in entrants}

            async def fault(
                server: str,
                entrants: dict[str, Entrant] = by_name,
                disturb: Callable[[Entrant], Awaitable[None]] = disturb,
            ) -> None:
                await disturb(entrants[server])

            phase = Phase(name, label, size.rate(name), size.slice_s, size.turns)
            targets = [entrant.target for entrant in entrants]
            found[name] = run_phase(phase, targets, samples, seed + number, disturb=fault)
    sheet = _sheet(out, size, found, load_average)
    sheet.write(out)
    return sheet


def _start(stack: ExitStack, work: Path, size: Size, say: Say) -> list[Entrant]:
    entrants = []
    for plugin in (False, True):
        served = stack.enter_context(Served(work / f"plugin-{plugin}", plugin=plugin))
        for one in competitors(size.queries):
            if one.plugin == plugin:
                say(f"{one.name}: {one.workers} workers")
                settings = {
                    "minWorkers": one.workers, "maxWorkers": one.workers, "batchSize": 1,
                    "handler": {"bench": {"service_ms": size.service_ms}},
                }  # fmt: skip
                probe.archive_coded(
                    served.store, one.model, approxifer=one.approxifer, settings=settings
                )
                served.cluster.register(f"{one.model}.mar", name=one.model, workers=one.workers)
                entrants.append(Entrant(one, served))
    return entrants


def _sheet(out: Path, size: Size, found: dict[str, list[Record]], load_average: float) -> Sheet:
    summaries = {
        phase: [summarise(name, group) for name, group in by_server(records).items()]
        for phase, records in found.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    _plot(out / "latency.png", found)
    columns = (
        "phase", "served by", "requests", "p50 ms", "p99 ms", "max ms", "over 0.5 s", "hedged",
        "failed", "right",
    )  # fmt: skip
    rows = tuple(
        _row(phase, summary, found[phase]) for phase, all_ in summaries.items() for summary in all_
    )
    facts = {
        "size": {**asdict(size), "rates": {phase: size.rate(phase) for phase in summaries}},
        "phases": {phase: [asdict(one) for one in all_] for phase, all_ in summaries.items()},
    }
    lead = (
        f"K = {size.queries}, S = 1, batch size 1; a forward takes {size.service_ms:g} ms asleep; "
        f"Poisson requests, {size.utilisation:.0%} of what {size.queries} workers can do in that "
        "phase, in slices that alternate. A latency counts from the moment its request was due."
    )
    table = Table("latency", columns, rows)
    return Sheet(
        "Latency against the alternatives", lead, facts, (table,), _checks(summaries),
        load_average, ("latency.png",),
    )  # fmt: skip


def _row(phase: str, one: Summary, records: Sequence[Record]) -> tuple[str, ...]:
    return (
        phase, one.server, str(one.requests), f"{one.p50_ms:.1f}", f"{one.p99_ms:.0f}",
        f"{one.max_ms:.0f}", str(_over(one.server, records)), str(one.hedged), str(one.failed),
        f"{one.accuracy:.3f}",
    )  # fmt: skip


def _over(server: str, records: Sequence[Record], seconds: float = 0.5) -> int:
    return sum(one.latency_s > seconds for one in records if one.server == server)


def _checks(summaries: dict[str, list[Summary]]) -> tuple[Check, ...]:
    checks = []
    for phase, all_ in summaries.items():
        coded = next(one for one in all_ if one.server == CODED)
        checks.append(
            Check(
                f"{phase}: answers", coded.failed == 0 and coded.accuracy == 1,
                f"{coded.failed} failed, {coded.accuracy:.3f} right {list(coded.failures) or ''}",
            )
        )  # fmt: skip
        if phase != "healthy":
            checks.append(
                Check(
                    f"{phase}: longest wait", coded.max_ms < 1e3 * SLOW_S, f"{coded.max_ms:.0f} ms"
                )
            )
    return tuple(checks)


def _plot(path: Path, found: dict[str, list[Record]]) -> None:
    # Okabe and Ito's colours, which people with any colour vision tell apart.
    colours = ("#d55e00", "#e69f00", "#cc79a7", "#0072b2")
    figure, axes = plt.subplots(
        1, len(found), figsize=(4.5 * len(found), 4), sharey=True, squeeze=False,
        constrained_layout=True,
    )  # fmt: skip
    for axis, (phase, records) in zip(axes[0], found.items(), strict=True):
        for colour, (name, group) in zip(colours, by_server(records).items(), strict=False):
            times = sorted(1e3 * record.latency_s for record in group)
            longer = [1 - done / len(times) for done in range(len(times))]
            axis.step(times, longer, where="post", label=name, color=colour)
        axis.set(xscale="log", yscale="log", xlabel="latency, ms", title=phase)
        axis.grid(which="both", alpha=0.25)
    axes[0][0].set_ylabel("share of requests that took longer")
    axes[0][-1].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
