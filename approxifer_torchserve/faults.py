"""What can go wrong: which answers of a group are lost, and faults that tests put into workers.

A worker reads faults only when the environment variable ``APPROXIFER_FAULTS`` names a JSON file::

    {"*": {"delay_s": 0.01, "probability": 0.5}, "4711": {"delay_s": 1.0}}

The key is a worker's process id, or ``*`` for all others. The file is read again when it changes,
so that a bench can make a running worker slow and well again.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from itertools import combinations, islice
from math import comb
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, field_validator

from approxifer_torchserve.corruption import corrupt_alone, corruption_kinds

VARIABLE = "APPROXIFER_FAULTS"
logger = logging.getLogger(__name__)


class Fault(BaseModel):
    """A fault of one worker, applied to a batch with a probability.

    Args:
        delay_s: Seconds to sleep before the batch.
        probability: How often, 0..1.
        lie: Kind of wrong answer (`corruption.corruption_kinds`), or null for the truth.
        lie_size: Its size; null for the kind's own.
        lie_probability: How often, 0..1, an answer is a lie.
        garbage: How often a reply is cut short or replaced by random bytes, 0..1.
        fail: How often a forward raises, 0..1; this and what follows is for handlers that ask.
        hang_s: Seconds that a forward takes in which a row is one that hangs.
        first_call_s: Seconds that a process's first forward takes more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay_s: float = Field(0.0, ge=0, le=600)
    probability: float = Field(1.0, ge=0, le=1)
    lie: str | None = None
    lie_size: float | None = Field(None, gt=0)
    lie_probability: float = Field(1.0, ge=0, le=1)
    garbage: float = Field(0.0, ge=0, le=1)
    fail: float = Field(0.0, ge=0, le=1)
    hang_s: float = Field(0.0, ge=0, le=600)
    first_call_s: float = Field(0.0, ge=0, le=600)

    @field_validator("lie")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in corruption_kinds():
            raise ValueError(f"expected one of {sorted(corruption_kinds())}, got {value!r}")
        return value


class _Faults(RootModel[dict[str, Fault]]):
    pass


class WorkerFaults:
    """The faults of this process; does nothing unless the environment asks for it.

    Args:
        environ: Where to look for ``APPROXIFER_FAULTS``.
        pid: The process id to look up.
        sleep: How to wait; tests pass a recorder.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        pid: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        name = (os.environ if environ is None else environ).get(VARIABLE)
        self.path = Path(name) if name else None
        self.pid = str(os.getpid() if pid is None else pid)
        self._sleep = sleep
        self._stamp: tuple[int, int] | None = None
        self._fault: Fault | None = None
        self._random = random.Random(f"approxifer faults {self.pid}")
        self._previous: torch.Tensor | None = None
        self._first = True
        if self.path is not None:
            logger.warning(
                "FAULTS ARE ENABLED for worker %s by %s=%s. Never do this in production.",
                self.pid,
                VARIABLE,
                self.path,
            )

    def apply(self) -> None:
        """Sleeps if this worker has a delay now; call it once per batch."""
        fault = self.current()
        if fault is None or fault.delay_s == 0:
            return
        if fault.probability >= 1 or self._random.random() < fault.probability:
            self._sleep(fault.delay_s)

    def forward(self, hangs: bool = False) -> None:
        """Starts slowly, hangs or fails as a handler would; it calls this in each forward.

        Args:
            hangs: Whether a row of the batch is one that hangs.

        Raises:
            RuntimeError: This worker's fault says so.
        """
        fault, first = self.current(), self._first
        self._first = False
        if fault is None:
            return
        pause = fault.first_call_s * first + fault.hang_s * hangs
        if pause:
            self._sleep(pause)
        if self._random.random() < fault.fail:
            raise RuntimeError(f"{VARIABLE} makes this forward fail")

    def lie(self, output: Any) -> Any:
        """Returns a batch's model output, rows of it made wrong if this worker's fault says so.

        Args:
            output: A tensor ``[B, *p]``; anything else is returned as it is.
        """
        fault = self.current()
        if fault is None or fault.lie is None or not isinstance(output, torch.Tensor):
            return output
        if not output.is_floating_point() or output.dim() == 0:
            return output
        told = output.detach().cpu().clone()
        for row in range(len(told)):
            truth = told[row].clone()
            if self._random.random() < fault.lie_probability:
                told[row] = self._wrong(truth, fault)
            # One that is stuck repeats a single answer, its first; others know their latest.
            if fault.lie != "stuck" or self._previous is None:
                self._previous = truth
        return told.to(output.device)

    def _wrong(self, truth: torch.Tensor, fault: Fault) -> torch.Tensor:
        previous = self._previous
        if previous is None or previous.shape != truth.shape:
            previous = truth if fault.lie == "stuck" else torch.zeros_like(truth)
        generator = torch.Generator().manual_seed(self._random.getrandbits(32))
        return corrupt_alone(
            truth, str(fault.lie), previous=previous, size=fault.lie_size, generator=generator
        )

    def spoil(self, replies: list[Any]) -> list[Any]:
        """Returns a batch's replies, some made unreadable if this worker's fault says so."""
        fault = self.current()
        if fault is None or fault.garbage == 0:
            return replies
        return [
            self._garbage(reply)
            if isinstance(reply, bytes) and self._random.random() < fault.garbage
            else reply
            for reply in replies
        ]

    def _garbage(self, reply: bytes) -> bytes:
        if self._random.random() < 0.5:
            return reply[: self._random.randrange(len(reply))]
        return self._random.randbytes(self._random.randrange(1, 2 * len(reply)))

    def current(self) -> Fault | None:
        """Returns this worker's fault, or None. A broken file is logged once and means none."""
        if self.path is None:
            return None
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except OSError:
            self._stamp, self._fault = None, None
            return None
        if stamp != self._stamp:
            self._stamp, self._fault = stamp, None
            try:
                faults = _Faults.model_validate_json(self.path.read_bytes()).root
                self._fault = faults.get(self.pid) or faults.get("*")
            except (OSError, ValidationError) as error:
                logger.error("%s=%s is ignored: %s", VARIABLE, self.path, error)
        return self._fault


def erasure_patterns(num_workers: int, lost: int, limit: int, seed: int = 0) -> torch.Tensor:
    """Returns which answers came, for every way to lose some, or a seeded sample where many.

    Args:
        num_workers: Answers of a group, N+1.
        lost: How many are lost in each pattern.
        limit: The most patterns to return.
        seed: Of the sample, where not every way is returned.

    Returns:
        ``bool [P, N+1]``, no pattern twice.

    Raises:
        ValueError: ``lost`` is not in 0..num_workers, or ``limit`` is below 1.
    """
    if not 0 <= lost <= num_workers:
        raise ValueError(f"lost: expected 0..num_workers={num_workers}, got {lost}")
    if limit < 1:
        raise ValueError(f"limit: expected at least 1, got {limit}")
    if comb(num_workers, lost) <= limit:
        chosen = list(islice(combinations(range(num_workers), lost), limit))
    else:
        draw = random.Random(seed)
        seen: set[tuple[int, ...]] = set()
        while len(seen) < limit:
            seen.add(tuple(sorted(draw.sample(range(num_workers), lost))))
        chosen = sorted(seen)
    available = torch.ones(len(chosen), num_workers, dtype=torch.bool)
    for pattern, missing in zip(available, chosen, strict=True):
        pattern[list(missing)] = False
    return available
