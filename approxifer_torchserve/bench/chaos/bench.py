"""Chaos: open-loop load while workers fail at random, and every answer is checked.

One server; for each variant of policy and size of bodies the model is registered anew, and the
schedules run one after the other. `chaos_run` says what is promised.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from approxifer_torchserve.bench.chaos.answers import Bodies, Judgement
from approxifer_torchserve.bench.chaos.faults import Chaos, Schedule
from approxifer_torchserve.bench.chaos.run import GRACE_S, POLICIES, Attempt, Run, Size, Variant
from approxifer_torchserve.bench.harness import model as probe
from approxifer_torchserve.bench.harness.load import (
    OUTCOME_HEADER,
    Target,
    arrival_times,
    new_client,
    send_at,
)
from approxifer_torchserve.bench.harness.server import Served, State, idle

# Long enough that a group of a coded model fills at the rates that chaos runs at.
GROUP_DELAY_MS = 50
FORWARD_MS = 20
Say = Callable[[str], None]


def section(policy: str, size: Size) -> dict[str, Any]:
    """Return ``handler.approxifer`` for one of ``POLICIES``."""
    code = {"name": "approxifer", "queries": size.queries, "stragglers": size.stragglers}
    rules: dict[str, Any] = {"deadline_ms": size.deadline_ms, "group_delay_ms": GROUP_DELAY_MS}
    if policy == "reconstruct":
        rules["on_late"] = ["hedge", "reconstruct"]
        rules["min_degraded_accuracy"] = 0  # the user insists: no report is asked for
        rules["max_extra_load"] = 1  # S parities for every group
    return {"code": {**code, "systematic": policy != "classic"}, "policy": rules}


class Lab:
    """One server, one variant's model at a time: a context manager.

    Args:
        size: On how many workers, and how hard they are asked.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self._stack = ExitStack()

    def __enter__(self) -> Lab:
        """Archive the models and start the server, without workers.

        Raises:
            LaunchError: The server did not start.
        """
        with ExitStack() as stack:
            work = stack.enter_context(tempfile.TemporaryDirectory(prefix="approxifer-chaos-"))
            # Large bodies of some seconds of requests lie in the heap, in several frames each.
            self.served = Served(Path(work), vmargs="-Xmx1g")
            for policy in POLICIES:
                # Against a forward that takes no time the hedge always comes first.
                service_ms = FORWARD_MS if policy == "reconstruct" else 0
                probe.archive_coded(
                    self.served.store, policy, approxifer=section(policy, self.size),
                    settings={
                        "responseTimeout": 10, "handler": {"bench": {"service_ms": service_ms}},
                    },
                )  # fmt: skip
            stack.enter_context(self.served)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        """Stop the server."""
        self._stack.close()

    @contextmanager
    def serving(self, policy: str) -> Iterator[None]:
        """Register a policy's model while a block lasts.

        Raises:
            ClusterError: Workers did not come up.
        """
        cluster = self.served.cluster
        cluster.register(f"{policy}.mar", name=policy, workers=self.size.workers)
        try:
            yield
        finally:
            self.served.faults.clear()
            cluster.unregister(policy)

    def run(self, variant: Variant, schedule: Schedule, seconds: float, seed: int) -> Run:
        """Load the served model while its workers fail.

        Args:
            variant: Its policy is the one that is served.
            schedule: "A" or "B".
            seconds: How long.
            seed: Of the load and of the faults.
        """
        model, size = variant.policy, self.size
        chaos = Chaos(self.served, model, size.workers, size.stragglers, schedule, seed)
        load = self._load(chaos, variant, seconds, seed)
        attempts, late = asyncio.run(load)
        after = self.served.once(model, self._well, 30)
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
    """Sends requests and judges what comes.

    Args:
        client: The pooled client.
        target: Where to.
        bodies: What.
        limit_s: A request without its whole answer by then is lost.
    """

    def __init__(
        self, client: httpx.AsyncClient, target: Target, bodies: Bodies, limit_s: float
    ) -> None:
        self.client = client
        self.target = target
        self.bodies = bodies
        self.limit_s = limit_s
        self.start = time.perf_counter()

    async def ask(self, number: int) -> Attempt:
        """Send one request and wait for its end."""
        content = self.bodies.body(number)
        sent = time.perf_counter()
        status, outcome, judged, detail = 0, "lost", Judgement(), ""
        try:
            reply = await asyncio.wait_for(
                self.client.post(self.target.url, content=content), self.limit_s
            )
            status, outcome = reply.status_code, reply.headers.get(OUTCOME_HEADER, "none")
        except (httpx.HTTPError, asyncio.TimeoutError) as error:
            detail = f"{type(error).__name__}: {error}"
        latency = time.perf_counter() - sent
        if status == 200:
            judged = self.bodies.judge(number, outcome, reply.content)
            detail = judged.says
        elif status:
            detail = _message(reply)
        return Attempt(
            sent - self.start, latency, status, outcome,
            judged.wrong, judged.damaged, judged.error, detail,
        )  # fmt: skip


def _message(reply: httpx.Response) -> str:
    try:
        return str(json.loads(reply.text)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return ""


def run_schedules(
    size: Size,
    variants: Sequence[Variant],
    schedules: Sequence[Schedule],
    seconds: float,
    seed: int,
    say: Say = print,
) -> list[Run]:
    """Run schedules one after the other, variant by variant, on one server.

    Args:
        size: On how many workers, and how hard they are asked.
        variants: What is served and sent.
        schedules: Which.
        seconds: Of each schedule and variant.
        seed: Of load and faults.
        say: Told what happens now.

    Raises:
        LaunchError: The server did not start.
        ClusterError: Workers did not come up.
    """
    runs = []
    say(f"start a server with {size.workers} workers")
    with Lab(size) as lab:
        for variant in variants:
            with lab.serving(variant.policy):
                for number, schedule in enumerate(schedules):
                    say(f"{variant.name}, schedule {schedule}: {seconds:g} s at {size.rate:g}/s")
                    runs.append(lab.run(variant, schedule, seconds, seed + number))
                    for check in runs[-1].checks():
                        if not check.ok:
                            say(f"✗ {check.what}: {check.says}")
    return runs
