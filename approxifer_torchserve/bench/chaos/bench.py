"""Chaos: open-loop load while workers fail at random, and every answer is checked.

One server; for each variant of policy and size of bodies the model is registered anew, and the
schedules run one after the other. `run` says what is promised.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from approxifer_torchserve.bench.chaos.answers import Bodies, Finding
from approxifer_torchserve.bench.chaos.faults import Chaos, Schedule
from approxifer_torchserve.bench.chaos.report import report
from approxifer_torchserve.bench.chaos.run import GRACE_S, POLICIES, Attempt, Run, Size, Variant
from approxifer_torchserve.bench.harness import model
from approxifer_torchserve.bench.harness.load import Target, arrival_times, ask, new_client, send_at
from approxifer_torchserve.bench.harness.report import Report, Say
from approxifer_torchserve.bench.harness.server import Served, State, idle

# Long enough that a group of a coded model fills at the rates that chaos runs at.
GROUP_DELAY_MS = 50
FORWARD_MS = 20


def section(policy: str, size: Size) -> dict[str, Any]:
    """Returns ``handler.approxifer`` for one of ``POLICIES``."""
    code = {"name": "approxifer", "queries": size.queries, "stragglers": size.stragglers}
    rules: dict[str, Any] = {"deadline_ms": size.deadline_ms, "group_delay_ms": GROUP_DELAY_MS}
    if policy == "reconstruct":
        rules["on_late"] = ["hedge", "reconstruct"]
        rules["min_degraded_accuracy"] = 0  # the user insists: no report is asked for
        rules["max_extra_load"] = 1  # S parities for every group
    return {"code": {**code, "systematic": policy != "classic"}, "policy": rules}


@contextmanager
def start(size: Size) -> Iterator[Lab]:
    """Starts a server while a block lasts and archives the models of all policies.

    Args:
        size: On how many workers, and how hard they are asked.

    Raises:
        LaunchError: The server did not start.
    """
    # Large bodies of some seconds of requests lie in the heap, in several frames each.
    with Served(vmargs="-Xmx1g") as served:
        for policy in POLICIES:
            # Against a forward that takes no time the hedge always comes first.
            service_ms = FORWARD_MS if policy == "reconstruct" else 0
            settings = {
                "batchSize": 8,
                "responseTimeout": 10,
                "handler": {"bench": {"service_ms": service_ms}},
            }
            model.archive_coded(
                served.store, policy, approxifer=section(policy, size), settings=settings
            )
        yield Lab(size, served)


@dataclass(frozen=True)
class Lab:
    """One server, one variant's model at a time.

    Attributes:
        size: On how many workers, and how hard they are asked.
        served: The server, with an archive for each policy.
    """

    size: Size
    served: Served

    def run(self, variant: Variant, schedule: Schedule, seconds: float, seed: int) -> Run:
        """Loads a model that is served while its workers fail.

        Args:
            variant: Its policy is the one that is served.
            schedule: "A" or "B".
            seconds: How long.
            seed: Seed of the load and of the faults.
        """
        size, policy = self.size, variant.policy
        chaos = Chaos(self.served, policy, size.workers, size.stragglers, schedule, seed)
        attempts, late = asyncio.run(self._load(chaos, variant, seconds, seed))
        after = self.served.once(policy, self._well, 30)
        return Run(
            schedule, variant, seconds, size, tuple(attempts), tuple(chaos.events), late, after
        )

    async def _load(
        self, chaos: Chaos, variant: Variant, seconds: float, seed: int
    ) -> tuple[list[Attempt], float]:
        bodies = Bodies(variant.body_bytes)
        target = self.served.target(variant.policy)
        times = arrival_times(self.size.rate, seconds, seed)
        async with new_client(target, connections=2000) as client:
            asker = Asker(client, target, bodies, self.size.deadline_ms / 1e3 + GRACE_S)
            faults = asyncio.create_task(chaos.run(seconds))
            attempts, late = await send_at(times, lambda number, _: asker.ask(number))
            await faults
        return attempts, late

    def _well(self, state: State) -> bool:
        return idle(state) and bool(state["live_workers"] == self.size.workers)


class Asker:
    """Sends requests and checks what comes.

    Args:
        client: The pooled client.
        target: Where to.
        bodies: What is sent.
        limit_s: Seconds after which a request without its whole answer is lost.
    """

    def __init__(
        self, client: httpx.AsyncClient, target: Target, bodies: Bodies, limit_s: float
    ) -> None:
        self.client, self.target, self.bodies, self.limit_s = client, target, bodies, limit_s
        self.start = time.perf_counter()

    async def ask(self, number: int) -> Attempt:
        """Sends one request and waits for its end."""
        content = self.bodies.body(number)
        sent = time.perf_counter()
        reply = await ask(self.client, self.target, content, sent, self.limit_s)
        found, detail, outcome = Finding(), reply.detail, reply.outcome or "none"
        if reply.status == 200:
            found = self.bodies.check(number, outcome, reply.content)
            detail = found.says
        elif reply.status:
            detail = _message(reply.content)
        else:
            outcome = "lost"
        return Attempt(
            sent - self.start, reply.latency_s, reply.status, outcome,
            found.wrong, found.damaged, found.error, detail,
        )  # fmt: skip


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return ""


def run_chaos(
    out: Path,
    size: Size,
    variants: Sequence[Variant],
    schedules: Sequence[Schedule],
    seconds: float,
    seed: int,
    say: Say = print,
) -> Report:
    """Runs schedules one after the other, variant by variant, on one server.

    Args:
        out: Folder for the timelines.
        size: On how many workers, and how hard they are asked.
        variants: What is served and sent.
        schedules: Which ones run.
        seconds: How long each runs for each variant.
        seed: Seed of load and faults.
        say: Told what happens now.

    Raises:
        LaunchError: The server did not start.
        ClusterError: Workers did not come up.
    """
    runs = []
    say(f"start a server with {size.workers} workers")
    with start(size) as lab:
        for variant in variants:
            with lab.served.serving(variant.policy, size.workers):
                for number, schedule in enumerate(schedules):
                    say(f"{variant.name}, schedule {schedule}: {seconds:g} s at {size.rate:g}/s")
                    runs.append(lab.run(variant, schedule, seconds, seed + number))
                    for check in runs[-1].checks():
                        if not check.ok:
                            say(f"✗ {check.what}: {check.says}")
    return report(out, runs)
