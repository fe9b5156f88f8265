"""What the bench about lies measures: its cells, their arithmetic, and how they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from approxifer_torchserve.bench.byzantine.policies import POLICIES, SMALL, Layout
from approxifer_torchserve.bench.harness.summary import quantile

RARE = "gaussian 1 in 5"
# What says most comes first, in case a run is stopped.
KINDS = (
    "sign_flip", "gaussian", "permuted", "stuck", "misrouted", "exponent", "nan", "huge", RARE,
)  # fmt: skip
CLEAN, HEALTHY = "clean", "healthy"
# Jobs in which a worker runs the model; the others compare, encode or decode.
FORWARDS = ("raw", "hedge", "parity", "coded")
# Two liars of these kinds may say the same: functions of the truth alone, or an old answer, which
# two workers share that were the pair of an earlier query.
ALIKE = ("sign_flip", "huge", "stuck", "misrouted")
# Of a prediction; the widest accent, less than half of the policy's tolerance.
MAX_ACCENT = 4e-4


@dataclass(frozen=True)
class Size:
    """What is served, how it is asked, and how long.

    Attributes:
        layouts: Workers and liars; one model is registered at a time.
        rate: Requests per second.
        cell_s: Seconds of load per cell.
        clean_s: Seconds of the clean run.
        service_ms: What a forward takes beside its work, asleep.
        probe_every_s: Seconds between a worker's probes; a liar is found after about two of these.
        policies: Some of ``POLICIES``.
        kinds: Some of ``KINDS``.
        clean_policy: The one of the clean run.
    """

    layouts: tuple[Layout, ...] = SMALL
    rate: float = 40.0
    cell_s: float = 6.0
    clean_s: float = 300.0
    service_ms: float = 10.0
    probe_every_s: float = 2.0
    policies: tuple[str, ...] = POLICIES
    kinds: tuple[str, ...] = KINDS
    clean_policy: str = "vote"


QUICK = Size(
    cell_s=3.0, clean_s=5.0, probe_every_s=1.0, kinds=("sign_flip", "nan"),
    policies=("none", "parity", "pairs", "coded", "vote"),
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What became of one request.

    Attributes:
        status: The HTTP status; 0 where there was no answer.
        wrong: A reconstructed answer of another class than the model's own; any other answer that
            is not the model's own within tolerance.
        reconstructed: Whether it was decoded from other answers.
        seconds: How long from when it was due until it was answered.
    """

    status: int
    wrong: bool = False
    reconstructed: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Cell:
    """What one cell gave.

    Attributes:
        workers: How many the model has.
        policy: Name of the policy.
        kind: The kind of lie; ``HEALTHY`` and ``CLEAN`` where nobody lied.
        liars: How many lied.
        requests: How many were sent.
        answered: How many were answered with status 200.
        reconstructed: How many of these were decoded from other answers.
        wrong: How many of the others are not the model's own, beyond tolerance.
        wrong_class: How many of the reconstructed have another class than the model's own.
        refused: How many had another status, or none at all.
        found_s: For each liar, seconds until it was quarantined; None for never.
        confirmed: Ids of honest workers with a confirmed wrong answer.
        quarantined: Ids of honest workers in quarantine.
        suspected: How often honest workers were suspected.
        forwards: Runs of the model beyond one per request, per request, without probes.
        extra: Jobs of any kind beyond one per request, per request, without probes.
        jobs: How many were handed to workers, by kind.
        late_hedges: How many jobs were sent again because they were late; part of ``extra``.
        median_ms: Median latency of the answered, in milliseconds.
        p99_ms: Their 99th percentile, in milliseconds.
        late_sending_s: The longest that a request left after it was due, in seconds: the client's
            own fault.
    """

    workers: int
    policy: str
    kind: str
    liars: int
    requests: int
    answered: int
    reconstructed: int
    wrong: int
    wrong_class: int
    refused: int
    found_s: tuple[float | None, ...]
    confirmed: tuple[str, ...]
    quarantined: tuple[str, ...]
    suspected: int
    forwards: float
    extra: float
    jobs: dict[str, int]
    late_hedges: int
    median_ms: float
    p99_ms: float
    late_sending_s: float

    @property
    def key(self) -> tuple[int, str, str, int]:
        """What tells it from the others."""
        return self.workers, self.policy, self.kind, self.liars

    @property
    def wrong_share(self) -> float:
        """Fraction of the answers that were wrong, or reconstructed with another class."""
        return (self.wrong + self.wrong_class) / self.answered if self.answered else 0.0


def measured(cells: Sequence[Cell]) -> tuple[list[str], list[str]]:
    """Returns the policies and kinds of some cells, in their own order whatever ran first."""
    policies = {cell.policy for cell in cells}
    kinds = {cell.kind for cell in cells}
    order = (HEALTHY, *KINDS, CLEAN)
    return [one for one in POLICIES if one in policies], [one for one in order if one in kinds]


def fault(kind: str) -> dict[str, float | str]:
    """Returns what a liar of a kind is told."""
    if kind == RARE:
        return {"lie": "gaussian", "lie_probability": 0.2}
    return {"lie": kind}


def accent(number: int, workers: int) -> dict[str, float | str]:
    """Returns what makes a worker's last digits its own, as another make of device would.

    Bytes differ then and numbers agree, so that checks must really compare.
    """
    return {"lie": "huge", "lie_size": 1 + MAX_ACCENT * (number + 1) / workers}


def tally(
    workers: int,
    policy: str,
    kind: str,
    liars: Mapping[str, float | None],
    answers: Sequence[Answer],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    late_sending_s: float = 0.0,
) -> Cell:
    """Makes a cell's figures.

    Args:
        workers: How many the model has.
        policy: Name of the policy.
        kind: The kind of lie.
        liars: For each liar's id, seconds until it was quarantined.
        answers: What became of each request.
        before: What ``GET /coded/<model>`` said before the cell.
        after: What it said afterwards.
        late_sending_s: See `Cell`.
    """
    old, new = before["counters"], after["counters"]
    jobs = {name: count - old["jobs"].get(name, 0) for name, count in new["jobs"].items()}
    jobs = {name: count for name, count in jobs.items() if count}
    admitted = new["requests"] - old["requests"]
    honest = {name: one for name, one in after["workers"].items() if name not in liars}

    def more(name: str, key: str) -> int:
        was = before["workers"].get(name, {}).get(key, 0)
        # A worker that was started anew counts from 0.
        return max(0, int(after["workers"][name].get(key, 0)) - int(was))

    answered = [one for one in answers if one.status == 200]
    decoded = [one for one in answered if one.reconstructed]
    wrong_class = sum(one.wrong for one in decoded)
    times = [1e3 * one.seconds for one in answered]

    def per_request(work: int) -> float:
        return (work - admitted) / admitted if admitted else 0.0

    return Cell(
        workers=workers, policy=policy, kind=kind, liars=len(liars),
        requests=len(answers), answered=len(answered), reconstructed=len(decoded),
        wrong=sum(one.wrong for one in answered) - wrong_class, wrong_class=wrong_class,
        refused=len(answers) - len(answered), found_s=tuple(liars.values()),
        confirmed=tuple(name for name in honest if more(name, "confirmed_wrong")),
        quarantined=tuple(name for name, one in honest.items() if in_quarantine(one)),
        suspected=sum(more(name, "suspicions") for name in honest),
        forwards=per_request(sum(jobs.get(name, 0) for name in FORWARDS)),
        extra=per_request(sum(count for name, count in jobs.items() if name != "probe")),
        jobs=jobs, late_hedges=new["hedges"] - old["hedges"],
        median_ms=quantile(times, 0.5) if times else 0.0,
        p99_ms=quantile(times, 0.99) if times else 0.0,
        late_sending_s=late_sending_s,
    )  # fmt: skip


def in_quarantine(worker: Mapping[str, Any]) -> bool:
    """Tells whether a worker's entry in the ledger says that clients are kept from it."""
    return worker["state"] in ("quarantined", "kept out")


@dataclass(frozen=True)
class Stage:
    """Cells of one policy on one layout: its model is registered as long as they last.

    Attributes:
        layout: Workers and liars.
        policy: Name of the policy.
        cells: For each cell its kind of lie, how many lie, and seconds of load.
    """

    layout: Layout
    policy: str
    cells: tuple[tuple[str, int, float], ...]


def plan(size: Size) -> list[Stage]:
    """Returns what is measured, in order; the long clean run comes last."""
    stages = []
    for layout in size.layouts:
        cells = ((HEALTHY, 0), *((kind, layout.liars) for kind in size.kinds))
        timed = tuple((kind, liars, size.cell_s) for kind, liars in cells)
        stages += [Stage(layout, policy, timed) for policy in size.policies]
    clean = ((CLEAN, 0, size.clean_s),) if size.clean_s > 0 else ()
    last = stages[-1]
    if (last.layout, last.policy) == (size.layouts[0], size.clean_policy):
        stages[-1] = replace(last, cells=last.cells + clean)  # its workers are started anyway
    elif clean:
        stages.append(Stage(size.layouts[0], size.clean_policy, clean))
    return stages


def left(stages: Sequence[Stage], measured: Sequence[Cell]) -> list[Stage]:
    """Returns what of a plan is not measured yet."""
    done = {cell.key for cell in measured}
    found = []
    for stage in stages:
        prefix = (stage.layout.workers, stage.policy)
        cells = tuple(cell for cell in stage.cells if (*prefix, *cell[:2]) not in done)
        if cells:
            found.append(replace(stage, cells=cells))
    return found
