"""What chaos sends, and what each answer is compared with, reconstructed ones too.

A reconstructed answer is an approximation, so it cannot be compared number by number. But the model
of the benches is linear, and the rows of every code's encoder and decoder sum to one. So all bodies
are made to have scores on one line, ``origin + t · direction`` with a t of their own::

    t = 0 ─────────── t of this request ──────────────────────── MAX_T
              exact, hedged: here, to the last bit
    reconstructed: on the same line, at another t; how far off is the code's own error

Whatever is not on the line came of damaged numbers, and no code made it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from approxifer_torchserve.bench.harness import model
from approxifer_torchserve.bench.harness.load import RECONSTRUCTED
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.faults import erasure_patterns

MAX_T = 100_000
# What float32 loses on the way, as a share of the largest score; damaged bytes are far beyond.
OFF_LINE = 1e-3
CHECKED = ("exact", "hedged")


@dataclass(frozen=True)
class Finding:
    """What an answer with status 200 is worth.

    Attributes:
        wrong: It is called exact or hedged and is not the model's own.
        damaged: It is called reconstructed, and no code makes it.
        error: How far a reconstructed answer is from the model's own, as a share of what answers
            vary by; None for all others.
        says: What was wrong.
    """

    wrong: bool = False
    damaged: bool = False
    error: float | None = None
    says: str = ""


class Bodies:
    """Bodies of one size with scores on a line, all different in every row.

    Args:
        size: Bytes of a body, a multiple of 256.
    """

    def __init__(self, size: int) -> None:
        self._rows = np.frombuffer(model.body(0, size), np.float32).reshape(-1, model.WIDTH)
        one = self._with(np.arange(len(self._rows)), 1.0)
        self.origin = _scores(model.right_answer(model.body(0, size)))
        self.direction = _scores(model.right_answer(one)) - self.origin
        self.scale = float(np.abs(self.origin).max() + MAX_T * np.abs(self.direction).max())

    def _with(self, order: NDArray[np.intp], t: float) -> bytes:
        rows = self._rows[order]
        rows[0, 0] += t
        return rows.tobytes()

    @staticmethod
    def place(number: int) -> int:
        """Returns request ``number``'s t; the first `MAX_T` requests have one each."""
        return number * 37_199 % MAX_T  # a prime: neighbours are far apart

    def body(self, number: int) -> bytes:
        """Returns request ``number``'s body."""
        # Another order of rows leaves the sums, and so the scores, as they are.
        order = np.random.default_rng(number).permutation(len(self._rows))
        return self._with(order, self.place(number))

    def check(self, number: int, outcome: str, content: bytes) -> Finding:
        """Compares an answer with status 200 with what request ``number`` should get.

        Args:
            number: The request's number.
            outcome: How the answer is said to have come about.
            content: The answer's bytes.
        """
        said = content[:300].decode(errors="replace")
        try:
            answer: dict[str, Any] = json.loads(content)
            scores = _scores(answer)
        except (ValueError, KeyError, TypeError):
            return Finding(outcome != RECONSTRUCTED, outcome == RECONSTRUCTED, None, said)
        right = self.origin + self.place(number) * self.direction
        if outcome in CHECKED:
            good = np.array_equal(scores, right) and answer["class"] == int(right.argmax())
            return Finding(wrong=not good, says="" if good else said)
        if outcome != RECONSTRUCTED:
            return Finding(wrong=True, says=f"its outcome is called {outcome}: {said}")
        if scores.shape != right.shape or not np.isfinite(scores).all():
            return Finding(damaged=True, says=said)
        t = float((scores - self.origin) @ self.direction / (self.direction @ self.direction))
        off = np.abs(scores - self.origin - t * self.direction).max() / self.scale
        damaged = bool(off > OFF_LINE or answer.get("class") != int(scores.argmax()))
        error = abs(t - self.place(number)) / MAX_T
        return Finding(damaged=damaged, error=error, says=said if damaged else "")


def _scores(answer: dict[str, Any]) -> NDArray[np.float64]:
    return np.array(answer["scores"], np.float64)


@cache
def typical_error(queries: int, stragglers: int, systematic: bool, draws: int = 200) -> float:
    """Returns the code's own median error where S answers are missing.

    Args:
        queries: K.
        stragglers: S.
        systematic: Whether the queries themselves are among the coded queries.
        draws: How many groups of random queries there are per pattern of missing answers.

    Returns:
        The median distance of a reconstructed answer from the true one, as `Finding.error`: over
        all queries, or over the lost ones where the others have exact answers.
    """
    code = make_code("approxifer", queries=queries, stragglers=stragglers, systematic=systematic)
    truth = torch.rand(draws, queries, 1, generator=torch.Generator().manual_seed(0))
    coded = code.encode(truth, batch_dims=1)
    errors: list[float] = []
    for pattern in erasure_patterns(code.num_workers, stragglers, 200):
        found = code.decode(coded, pattern.expand(draws, -1), batch_dims=1)
        lost = ~pattern[:queries] if systematic else torch.ones(queries, dtype=torch.bool)
        errors += (found - truth).abs()[:, lost, 0].flatten().tolist()
    return median(errors)
