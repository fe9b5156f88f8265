"""Closed-loop load from blocking threads: as many requests as a server can answer.

Threads over ``http.client`` instead of the asyncio client of ``load``: on a small machine the
client shares the processors with the server, and each millisecond it takes hides a difference.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from approxifer_torchserve.bench.harness.load import OUTCOME_HEADER, Target

# Called with the number of the body and the answer's bytes; False where it is wrong.
Check = Callable[[int, bytes], bool]


@dataclass
class Burst:
    """What a closed loop gave.

    Attributes:
        per_second: Answers with status 200 per second, after the warm-up.
        answered: All of them, the warm-up's too.
        failed: Other statuses, and connections that broke.
        wrong: Answers that the check refused.
        outcomes: How many answers came about how.
        failures: Some of what was said for failures.
    """

    per_second: float = 0.0
    answered: int = 0
    failed: int = 0
    wrong: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: set[str] = field(default_factory=set)


class Saturator:
    """Clients that each send their next request when the last is answered.

    Args:
        target: Where to.
        bodies: Sent in turn.
        clients: How many requests are under way at once.
        check: Looks at each answer that is called exact or hedged.
    """

    def __init__(
        self, target: Target, bodies: Sequence[bytes], clients: int, check: Check | None = None
    ) -> None:
        self.target = target
        self.bodies = bodies
        self.clients = clients
        self.check = check
        self.burst = Burst()
        self._counted = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, seconds: float, *, warm_s: float = 0.3, requests: int | None = None) -> Burst:
        """Send for some seconds, or until so many requests are answered.

        Args:
            seconds: How long at most, the warm-up included.
            warm_s: Answers before this do not count for ``per_second``.
            requests: Stop after these; None for no such limit.

        Returns:
            What came.
        """
        start = time.perf_counter()
        window = (start + warm_s, start + seconds)
        threads = [
            threading.Thread(target=self._client, args=(first, window, requests))
            for first in range(self.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        end = min(time.perf_counter(), window[1])
        self.burst.per_second = self._counted / max(1e-9, end - window[0])
        return self.burst

    def stop(self) -> None:
        """Make a run in another thread end early."""
        self._stop.set()

    def _client(self, first: int, window: tuple[float, float], requests: int | None) -> None:
        address = urlsplit(self.target.url)
        headers = {"content-type": "application/octet-stream", **self.target.headers}
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        turn = first
        while not self._stop.is_set() and time.perf_counter() < window[1]:
            if requests is not None and self.burst.answered + self.burst.failed >= requests:
                break
            number = turn % len(self.bodies)
            try:
                connection.request("POST", address.path, self.bodies[number], headers)
                reply = connection.getresponse()
                content = reply.read()
                status, outcome = reply.status, reply.headers.get(OUTCOME_HEADER, "plain")
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, outcome, content = 0, "", f"{type(error).__name__}: {error}".encode()
            self._note(status, outcome, number, content, window)
            turn += self.clients
        connection.close()

    def _note(
        self, status: int, outcome: str, number: int, content: bytes, window: tuple[float, float]
    ) -> None:
        now = time.perf_counter()
        right = (
            self.check is None
            or status != 200
            or outcome == "reconstructed"
            or self.check(number, content)
        )
        with self._lock:
            burst = self.burst
            if status == 200:
                burst.answered += 1
                burst.outcomes[outcome] = burst.outcomes.get(outcome, 0) + 1
                self._counted += window[0] <= now < window[1]
                burst.wrong += not right
            else:
                burst.failed += 1
                if len(burst.failures) < 5:
                    burst.failures.add(f"{status} {content[:200].decode(errors='replace')}")


def compare(answers: Sequence[object]) -> Check:
    """Return a check that an answer is JSON equal to ``answers[number]``."""

    def check(number: int, content: bytes) -> bool:
        try:
            return bool(json.loads(content) == answers[number])
        except ValueError:
            return False

    return check
