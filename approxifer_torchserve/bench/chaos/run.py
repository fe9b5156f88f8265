"""What one schedule of chaos gave, its figures, and whether it kept what is promised.

Promised: with at most S workers under a fault at a time (schedule A) every answer is 200; with any
number (schedule B) every client still gets a final status by its deadline and a second, and a
refusal says why. In both, no answer that is called exact or hedged is wrong, and none that is
called reconstructed was damaged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from approxifer_torchserve.bench.chaos.answers import OFF_LINE, typical_error
from approxifer_torchserve.bench.chaos.faults import Event, Schedule
from approxifer_torchserve.bench.harness import model
from approxifer_torchserve.bench.harness.report import Check
from approxifer_torchserve.bench.harness.server import State
from approxifer_torchserve.bench.harness.summary import quantile

GRACE_S = 1.0
# Groups of a moment are not all full and lose not just S answers; medians move by chance too.
NEAR = 1.25
MIN_ERRORS = 30
POLICIES = ("hedge", "reconstruct", "classic")


@dataclass(frozen=True)
class Variant:
    """What is served, and how large requests are.

    Attributes:
        policy: ``hedge``, systematic, what is late is sent again; ``reconstruct``, the code
            answers too and the first to come settles; ``classic``, ApproxIFER as published: every
            answer is reconstructed.
        body_bytes: Bytes of a request, a multiple of 256.
    """

    policy: str = "hedge"
    body_bytes: int = model.SMALL_BYTES

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.policy}, {self.body_bytes // 1000} KB"

    @property
    def slug(self) -> str:
        """Its name in file names."""
        return f"{self.policy}-{self.body_bytes // 1000}kb"

    @property
    def systematic(self) -> bool:
        """Whether the queries themselves are among the coded queries."""
        return self.policy != "classic"


@dataclass(frozen=True)
class Size:
    """On how many workers, and how hard they are asked.

    Attributes:
        queries: K.
        stragglers: S; the model gets K + S workers.
        rate: Requests per second.
        deadline_ms: The policy's deadline, in milliseconds.
    """

    queries: int = 4
    stragglers: int = 2
    rate: float = 60.0
    deadline_ms: float = 2000.0

    @property
    def workers(self) -> int:
        """K + S."""
        return self.queries + self.stragglers


@dataclass(frozen=True)
class Attempt:
    """What became of one request.

    Attributes:
        sent_s: When it left, in seconds from the run's start.
        latency_s: Seconds from then until its whole answer was there.
        status: HTTP status; 0 where none came in time, or the connection broke.
        outcome: The plugin's word for how the answer came about.
        wrong: Whether an answer that is called exact or hedged is not the model's own.
        damaged: Whether an answer that is called reconstructed is one that no code makes.
        error: How far a reconstructed answer is off, see `answers.Finding`.
        detail: What was said where the status is not 200, or what was wrong.
    """

    sent_s: float
    latency_s: float
    status: int
    outcome: str
    wrong: bool = False
    damaged: bool = False
    error: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Run:
    """One schedule's run.

    Attributes:
        schedule: "A" or "B".
        variant: What was served and sent.
        seconds: How long it ran.
        size: On how many workers, and how hard they were asked.
        attempts: What became of each request.
        events: The faults.
        late_sending_s: The longest that a request left after it was due, in seconds: this
            process's own fault.
        after: What ``GET /coded`` said when all was well again.
    """

    schedule: Schedule
    variant: Variant
    seconds: float
    size: Size
    attempts: tuple[Attempt, ...]
    events: tuple[Event, ...]
    late_sending_s: float
    after: State = field(default_factory=dict)

    @property
    def lost(self) -> list[Attempt]:
        """Requests without a final status in time."""
        return [one for one in self.attempts if one.status == 0]

    @property
    def refused(self) -> list[Attempt]:
        """Requests with a final status other than 200."""
        return [one for one in self.attempts if one.status not in (0, 200)]

    @property
    def wrong(self) -> list[Attempt]:
        """Answers that are called exact or hedged and are not the model's own."""
        return [one for one in self.attempts if one.wrong]

    @property
    def damaged(self) -> list[Attempt]:
        """Answers that are called reconstructed and that no code makes."""
        return [one for one in self.attempts if one.damaged]

    @property
    def errors(self) -> list[float]:
        """How far each reconstructed answer is from the model's own."""
        return [one.error for one in self.attempts if one.error is not None]

    def most_at_once(self) -> int:
        """Returns how many workers were under a fault at a time, at most."""
        edges = [(event.start_s, 1) for event in self.events]
        edges += [(event.end_s or self.seconds, -1) for event in self.events]
        now = most = 0
        for _, step in sorted(edges):
            now += step
            most = max(most, now)
        return most

    def facts(self) -> dict[str, Any]:
        """Returns the run's figures for report.json."""
        times = [1e3 * one.latency_s for one in self.attempts]
        worst = (*self.wrong, *self.damaged, *self.lost, *self.refused)
        return {
            "schedule": self.schedule,
            "variant": {**asdict(self.variant), "name": self.variant.name},
            "seconds": self.seconds,
            "size": asdict(self.size),
            "requests": len(self.attempts),
            "statuses": dict(Counter(str(one.status) for one in self.attempts)),
            "outcomes": dict(Counter(one.outcome for one in self.attempts)),
            "lost": len(self.lost),
            "wrong": len(self.wrong),
            "damaged": len(self.damaged),
            "reconstructed_error": {
                "median": median(self.errors) if self.errors else None,
                "typical_of_code": self._typical(),
            },
            "reasons": dict(Counter(_reason(one) for one in (*self.refused, *self.lost))),
            "p50_ms": quantile(times, 0.5),
            "p99_ms": quantile(times, 0.99),
            "max_ms": max(times, default=0.0),
            "late_sending_ms": 1e3 * self.late_sending_s,
            "faults": dict(Counter(event.kind for event in self.events)),
            "most_at_once": self.most_at_once(),
            "events": [asdict(event) for event in self.events],
            "not_as_promised": [asdict(one) for one in worst][:200],
            "counters": self.after.get("counters", {}),
        }

    def checks(self) -> list[Check]:
        """Returns what the schedule promises, and whether it came true."""
        found: dict[str, tuple[bool, str]] = {
            "wrong answers": (
                not self.wrong, f"{len(self.wrong)} of those called exact or hedged"
            ),
            "lost requests": (
                not self.lost,
                f"{len(self.lost)} of {len(self.attempts)} had no final status "
                f"{GRACE_S:g} s after their deadline",
            ),
        }  # fmt: skip
        if self.errors or self.damaged:
            says = f"{len(self.damaged)} of {len(self.errors)} are none that the code can make"
            found["damaged reconstructions"] = not self.damaged, says
        if len(self.errors) >= MIN_ERRORS:
            own, typical = median(self.errors), self._typical()
            says = f"median error {own:.3f}, the code's own {typical:.3f} with S answers missing"
            found["reconstructions near"] = own <= NEAR * typical + OFF_LINE, says
        said = dict(Counter(_reason(one) for one in self.refused))
        if self.schedule == "A":
            says = f"{len(self.refused)} other than 200 {said or ''}"
            found["refusals"] = not self.refused, says
            most = self.most_at_once()
            says = f"at most {most} workers under a fault at a time"
            found["bound"] = most <= self.size.stragglers, says
        else:
            silent = [one for one in self.refused if not one.detail]
            says = f"{len(self.refused)} in all, {len(silent)} without a reason: {said}"
            found["refusals say why"] = not silent, says
        # A client that cannot run measures itself: its losses and latencies say nothing then.
        says = f"a request left at most {1e3 * self.late_sending_s:.0f} ms after it was due"
        found["the client kept up"] = self.late_sending_s < GRACE_S, says
        left = {key: self.after.get(key) for key in ("in_flight", "outstanding_jobs")}
        alive, workers = self.after.get("live_workers"), self.size.workers
        says = f"{left}, {alive} of {workers} workers live"
        found["all well afterwards"] = set(left.values()) == {0} and alive == workers, says
        name = f"{self.variant.name}, schedule {self.schedule}"
        return [Check(f"{name}: {what}", *said_of) for what, said_of in found.items()]

    def _typical(self) -> float:
        size = self.size
        return typical_error(size.queries, size.stragglers, self.variant.systematic)


def _reason(attempt: Attempt) -> str:
    # Request ids and port numbers would make each reason one of its own.
    words = [w for w in attempt.detail.split() if not any(c.isdigit() for c in w)]
    return " ".join([str(attempt.status), *words])[:160]
