"""From the records of one slice to the figures that promises are about."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.harness.summary import quantile
from approxifer_torchserve.bench.worst.scenarios import Scenario, Size

BIN_S = 0.25
# After an overload: hardly anybody waits for a worker at half of capacity.
CLEAN_SERVICES = 3.0
# What each figure is, and how it is written.
FIGURES = {
    "requests": (".0f", "How many there were."),
    "goodput": (".2f", "Right answers within the deadline, if there is one, over what the workers "
                "can do at most (workers / service time)."),
    "p50 ms": (".0f", "Median latency of right answers, from when their requests were due."),
    "p99 ms": (".0f", "Their 99th percentile."),
    "p99.9 ms": (".0f", "Their 99.9th percentile."),
    "failed %": (".1f", "Requests neither answered right nor refused."),
    "refused %": (".1f", "Requests answered 503 with Retry-After. Plain TorchServe's 503 has none "
                  "and counts as failed."),
    "refused in ms": (".0f", "99th percentile of these answers' latencies; 0 for none."),
    "lost %": (".1f", "Failed or refused."),
    "extra %": (".1f", "Jobs beside the requests themselves, of right answers."),
    "late %": (".1f", "Jobs that the plugin found late, of right answers."),
    "held": (".1f", "Workers that each hanging request was given to, the mean."),
    "clean s": (".2f", "From the end of an overload until all that is due in a quarter of a second "
                "is answered within three service times."),
}  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """One slice of one server.

    Attributes:
        scenario: The scenario's name.
        server: "coded" or "plain".
        turn: Number of the alternation.
        extra: Jobs beside the requests themselves.
        late: Jobs that the plugin found late.
        held: Workers that all hanging requests together were given to.
        records: What became of its requests; those that hang are not among them.
    """

    scenario: str
    server: str
    turn: int
    extra: int
    late: int
    held: int
    records: tuple[Record, ...]


def figures(scenario: Scenario, size: Size, one: Slice) -> dict[str, float]:
    """Works out the `FIGURES` of a slice; NaN where there is none, infinite for what never came.

    An overload counts from a deadline after its begin, when queues are full, to its end; all else
    counts whole.
    """
    phase, deadline_s = scenario.phase(size), size.deadline_ms / 1e3
    start = deadline_s if scenario.overload else 0.0
    limit_s = deadline_s if scenario.model == "deadline" else math.inf
    due = [r for r in one.records if start <= r.due_s < phase.slice_s]
    good = [1e3 * r.latency_s for r in due if right(r)]
    refused = [1e3 * r.latency_s for r in due if r.status == 503 and r.retry_after]
    ends = (r.due_s + r.latency_s for r in one.records if right(r) and r.latency_s <= limit_s)
    done = sum(start <= end < phase.slice_s for end in ends)
    percent = 100 / max(1, len(due))
    answers = sum(map(right, one.records)) or math.nan
    calm = (r for r in one.records if r.due_s >= phase.slice_s)
    return {
        "requests": len(due),
        "goodput": done / (phase.slice_s - start) / scenario.capacity(size),
        "p50 ms": quantile(good, 0.5),
        "p99 ms": quantile(good, 0.99),
        "p99.9 ms": quantile(good, 0.999),
        "failed %": percent * (len(due) - len(good) - len(refused)),
        "refused %": percent * len(refused),
        "refused in ms": quantile(refused, 0.99) if refused else 0.0,
        "lost %": percent * (len(due) - len(good)),
        "extra %": 100 * one.extra / answers,
        "late %": 100 * one.late / answers,
        "held": one.held / size.hanging if scenario.fault == "hang" else math.nan,
        "clean s": clean_after(calm, phase.slice_s, CLEAN_SERVICES * size.service_ms / 1e3),
    }


def right(record: Record) -> bool:
    """Tells whether a request got its right answer."""
    return record.status == 200 and record.predicted == record.label


def clean_after(calm: Iterable[Record], start_s: float, bound_s: float) -> float:
    """Returns seconds until a quarter of a second in which all due then were answered soon.

    Args:
        calm: The requests due after an overload; NaN without any.
        start_s: When it ended.
        bound_s: Seconds that count as soon.
    """
    bins: dict[float, bool] = {}
    for record in calm:
        begin = (record.due_s - start_s) // BIN_S * BIN_S
        soon = right(record) and record.latency_s <= bound_s
        bins[begin] = bins.get(begin, True) and soon
    return min(
        (begin for begin, soon in bins.items() if soon), default=math.inf if bins else math.nan
    )
