"""Chaos: open-loop load while workers fail at random, and every answer is checked.

What is promised: with at most S workers under a fault at a time (schedule A) every answer is 200;
with any number (schedule B) every client still gets a final status by its deadline and a second,
and a refusal says why. In both, no answer that is called exact or hedged is wrong.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from approxifer_torchserve.bench import probe
from approxifer_torchserve.bench.chaos_faults import Chaos, Event, Schedule
from approxifer_torchserve.bench.load import OUTCOME_HEADER, arrival_times, new_client, send_at
from approxifer_torchserve.bench.report import quantile
from approxifer_torchserve.bench.served import Served, State, idle
from approxifer_torchserve.bench.sheet import Check

MODEL = "chaos"
GRACE_S = 1.0
CHECKED = ("exact", "hedged")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """What is served and how hard it is asked.

    Attributes:
        queries: K.
        stragglers: S; the model gets K + S workers.
        rate: Requests per second.
        deadline_ms: The policy's.
        reconstruct: Let the code answer too, beside hedges. Its answers are approximations and are
            counted, not compared.
        body_bytes: Size of a request.
    """

    queries: int = 4
    stragglers: int = 2
    rate: float = 60.0
    deadline_ms: float = 2000.0
    reconstruct: bool = False
    body_bytes: int = probe.SMALL_BYTES

    @property
    def workers(self) -> int:
        """K + S."""
        return self.queries + self.stragglers


@dataclass(frozen=True)
class Attempt:
    """What became of one request.

    Attributes:
        sent_s: When it left, in seconds from the run's start.
        latency_s: From then until its whole answer was there.
        status: HTTP status; 0 where none came in time, or the connection broke.
        outcome: The plugin's word for how the answer came about.
        wrong: Whether an answer that is called exact or hedged is not the model's own.
        detail: What was said where the status is not 200, or what was wrong.
    """

    sent_s: float
    latency_s: float
    status: int
    outcome: str
    wrong: bool
    detail: str = ""


@dataclass(frozen=True)
class Run:
    """One schedule's run.

    Attributes:
        late_sending_s: The longest that a request left after it was due: this process's own fault.
        after: What ``GET /coded`` said when all was well again.
    """

    schedule: Schedule
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

    def most_at_once(self) -> int:
        """Return how many workers were under a fault at a time, at most."""
        edges = [(event.start_s, 1) for event in self.events]
        edges += [(event.end_s or self.seconds, -1) for event in self.events]
        now = most = 0
        for _, step in sorted(edges):
            now += step
            most = max(most, now)
        return most

    def facts(self) -> dict[str, Any]:
        """Return the run's figures for report.json."""
        times = [1e3 * one.latency_s for one in self.attempts]
        return {
            "schedule": self.schedule,
            "seconds": self.seconds,
            "size": asdict(self.size),
            "requests": len(self.attempts),
            "statuses": dict(Counter(str(one.status) for one in self.attempts)),
            "outcomes": dict(Counter(one.outcome for one in self.attempts)),
            "lost": len(self.lost),
            "wrong": len(self.wrong),
            "reasons": dict(Counter(_reason(one) for one in (*self.refused, *self.lost))),
            "p50_ms": quantile(times, 0.5),
            "p99_ms": quantile(times, 0.99),
            "max_ms": max(times, default=0.0),
            "late_sending_ms": 1e3 * self.late_sending_s,
            "faults": dict(Counter(event.kind for event in self.events)),
            "most_at_once": self.most_at_once(),
            "events": [asdict(event) for event in self.events],
            "not_200": [asdict(one) for one in (*self.refused, *self.lost, *self.wrong)][:200],
            "counters": self.after.get("counters", {}),
        }

    def checks(self) -> list[Check]:
        """Return what the schedule promises, and whether it came true."""
        name, said = f"schedule {self.schedule}", Counter(_reason(one) for one in self.refused)
        checks = [
            Check(
                f"{name}: wrong answers", not self.wrong,
                f"{len(self.wrong)} of those called exact or hedged",
            ),
            Check(
                f"{name}: lost requests", not self.lost,
                f"{len(self.lost)} of {len(self.attempts)} had no final status "
                f"{GRACE_S:g} s after their deadline",
            ),
        ]  # fmt: skip
        if self.schedule == "A":
            says = f"{len(self.refused)} other than 200 {dict(said) or ''}"
            checks.append(Check(f"{name}: refusals", not self.refused, says))
            most = self.most_at_once()
            says = f"at most {most} workers under a fault at a time"
            checks.append(Check(f"{name}: bound", most <= self.size.stragglers, says))
        else:
            silent = [one for one in self.refused if not one.detail]
            says = f"{len(self.refused)} in all, {len(silent)} without a reason: {dict(said)}"
            checks.append(Check(f"{name}: refusals say why", not silent, says))
        # A client that cannot run measures itself: its losses and latencies say nothing then.
        says = f"a request left at most {1e3 * self.late_sending_s:.0f} ms after it was due"
        checks.append(Check(f"{name}: the client kept up", self.late_sending_s < GRACE_S, says))
        left = {key: self.after.get(key) for key in ("in_flight", "outstanding_jobs")}
        alive = self.after.get("live_workers")
        checks.append(
            Check(
                f"{name}: all well afterwards",
                set(left.values()) == {0} and alive == self.size.workers,
                f"{left}, {alive} of {self.size.workers} workers live",
            )
        )
        return checks


def _reason(attempt: Attempt) -> str:
    # Request ids and port numbers would make each reason one of its own.
    words = [w for w in attempt.detail.split() if not any(c.isdigit() for c in w)]
    return " ".join([str(attempt.status), *words])[:160]


class Lab:
    """One server with the model under test: a context manager.

    Args:
        size: What is served.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self._stack = ExitStack()

    def __enter__(self) -> Lab:
        """Archive the model, start the server and all workers.

        Raises:
            LaunchError: The server did not start.
            ClusterError: Workers did not come up.
        """
        size = self.size
        with ExitStack() as stack:
            work = stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-chaos-"))
            self.served = Served(Path(work))
            policy = {
                "deadline_ms": size.deadline_ms,
                "on_late": ["hedge", "reconstruct"] if size.reconstruct else ["hedge"],
                "min_degraded_accuracy": 0,
            }
            code = {"name": "approxifer", "queries": size.queries, "stragglers": size.stragglers}
            probe.archive_coded(
                self.served.store, MODEL, approxifer={"code": code, "policy": policy},
                settings={"responseTimeout": 10},
            )  # fmt: skip
            stack.enter_context(self.served)
            self.served.cluster.register(f"{MODEL}.mar", name=MODEL, workers=size.workers)
            self.target = self.served.target(MODEL)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        """Stop the server."""
        self._stack.close()

    def run(self, schedule: Schedule, seconds: float, seed: int) -> Run:
        """Load the server while workers fail.

        Args:
            schedule: "A" or "B".
            seconds: How long.
            seed: Of the load and of the faults.
        """
        chaos = Chaos(self.served, MODEL, self.size.workers, self.size.stragglers, schedule, seed)
        attempts, late = asyncio.run(self._run(chaos, seconds, seed))
        after = self.served.once(MODEL, self._well, 30)
        return Run(schedule, seconds, self.size, tuple(attempts), tuple(chaos.events), late, after)

    async def _run(self, chaos: Chaos, seconds: float, seed: int) -> tuple[list[Attempt], float]:
        faults = asyncio.create_task(chaos.run(seconds))
        times = arrival_times(self.size.rate, seconds, seed)
        start = time.perf_counter()

        async def ask(number: int, due: float) -> Attempt:
            content = probe.body(seed * 1_000_000 + number, self.size.body_bytes)
            return await self._ask(client, content, start)

        async with new_client(self.target, connections=2000) as client:
            attempts, late = await send_at(times, ask)
        await faults
        return attempts, late

    async def _ask(self, client: httpx.AsyncClient, content: bytes, start: float) -> Attempt:
        limit = self.size.deadline_ms / 1e3 + GRACE_S
        sent = time.perf_counter()
        status, outcome, wrong, detail = 0, "lost", False, ""
        try:
            reply = await asyncio.wait_for(client.post(self.target.url, content=content), limit)
            status, outcome = reply.status_code, reply.headers.get(OUTCOME_HEADER, "none")
            if status != 200:
                detail = _message(reply)
            elif outcome in CHECKED and reply.json() != probe.right_answer(content):
                wrong, detail = True, reply.text[:300]
        except (httpx.HTTPError, asyncio.TimeoutError, ValueError) as error:
            wrong = status == 200  # an answer that is not even JSON
            detail = f"{type(error).__name__}: {error}"
        return Attempt(sent - start, time.perf_counter() - sent, status, outcome, wrong, detail)

    def _well(self, state: State) -> bool:
        return idle(state) and state["live_workers"] == self.size.workers


def _message(reply: httpx.Response) -> str:
    try:
        return str(json.loads(reply.text)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return ""


def run_schedules(
    size: Size, schedules: Sequence[Schedule], seconds: float, seed: int, say: Say = print
) -> list[Run]:
    """Run schedules one after the other on one server.

    Args:
        size: What is served and how hard it is asked.
        schedules: Which.
        seconds: Of each.
        seed: Of load and faults.
        say: Told what happens now.

    Raises:
        LaunchError: The server did not start.
        ClusterError: Workers did not come up.
    """
    runs = []
    say(f"start a server with {size.workers} workers")
    with Lab(size) as lab:
        for number, schedule in enumerate(schedules):
            say(f"schedule {schedule}: {seconds:g} s at {size.rate:g}/s")
            runs.append(lab.run(schedule, seconds, seed + number))
    return runs
