"""One cell of the table: one locator on one code, against every kind of lie.

answers of clean groups ─▶ lies of E workers ─▶ locate ─▶ decode ─▶ labels
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from approxifer_torchserve.codes import LocatingCode
from approxifer_torchserve.corruption import corrupt

FAULTS: dict[str, tuple[str, float | None]] = {
    "gaussian 100": ("gaussian", 100.0),
    "gaussian 10": ("gaussian", 10.0),
    "sign flip": ("sign_flip", None),
    "permuted": ("permuted", None),
    "stuck": ("stuck", None),
    "misrouted": ("misrouted", None),
    "exponent bit": ("exponent", None),
    "exponent bit >= 2^4, up": ("exponent_gross", None),
    "NaN": ("nan", None),
    "huge": ("huge", None),
}
"""Row of the table: kind of lie and its size."""


@dataclass(frozen=True)
class Trial:
    """Clean answers and what they should become.

    Attributes:
        answers: float32 ``[groups, N+1, classes]``.
        labels: int64 ``[groups, K]``, the right classes.
    """

    answers: Tensor
    labels: Tensor


def place_liars(groups: int, workers: int, count: int, generator: torch.Generator) -> Tensor:
    """Chooses who lies: every worker equally often where one does.

    Args:
        groups: How many groups to make.
        workers: N+1, answers of a group.
        count: E, how many lie in each group.
        generator: Where chance comes from.

    Returns:
        bool ``[groups, N+1]`` with ``count`` true in each row.
    """
    first = (torch.arange(groups) % workers)[:, None]
    order = torch.rand(groups, workers, generator=generator).scatter_(1, first, -1.0).argsort(dim=1)
    liars = torch.zeros(groups, workers, dtype=torch.bool)
    return liars.scatter_(1, order[:, :count], True)


def accuracy(code: LocatingCode, answers: Tensor, wrong: Tensor, labels: Tensor) -> float:
    """Decodes without the answers found wrong, and compares with the labels.

    Args:
        code: The code that decodes.
        answers: ``[groups, N+1, classes]``.
        wrong: bool ``[groups, N+1]``, left out.
        labels: int64 ``[groups, K]``, the right classes.

    Returns:
        Share of right classes; a query that cannot be recovered counts as wrong.
    """
    recovered = code.recoverable(~wrong)
    # Where one query of a group is lost for good the others still have their own answers.
    whole = recovered.all(dim=1)
    right = torch.zeros_like(labels, dtype=torch.bool)
    if whole.any():
        predictions = code.decode(answers[whole], ~wrong[whole], batch_dims=1)
        right[whole] = predictions.argmax(dim=-1) == labels[whole]
    for group in (~whole).nonzero().flatten().tolist():
        for worker, query in enumerate(code.sources):
            if query is not None and not wrong[group, worker]:
                right[group, query] = answers[group, worker].argmax() == labels[group, query]
    return right.double().mean().item()


def measure(
    code: LocatingCode, trial: Trial, *, seed: int, faults: Collection[str] = tuple(FAULTS)
) -> dict[str, object]:
    """Measures a code's locator against every fault, with E workers of each group lying.

    Args:
        code: The code with its locator; E is its ``byzantine``.
        trial: Clean answers that no fit has seen.
        seed: Of who lies, and what.
        faults: The faults to measure, some of ``FAULTS``.

    Returns:
        ``false_suspicions`` (share of clean groups), ``clean_accuracy`` (after locating in clean
        groups), ``healthy_accuracy`` (nothing located) and, for each fault, ``named`` (share of
        groups where the E most suspicious are the liars), ``located`` (where those suspected are),
        ``accuracy`` after locating, ``oracle`` (liars known) and ``untreated`` (liars believed).
    """
    groups, workers = trial.answers.shape[:2]
    everything = torch.ones(workers, dtype=torch.bool)
    locator = code.locator or code.default_locator()
    naming = code
    if locator.kind != "rational":
        always = dataclasses.replace(locator, thresholds=(float("-inf"),))  # type: ignore[type-var]
        naming = code.with_locator(always)
    suspected = code.locate(trial.answers, everything, batch_dims=1)
    nobody = torch.zeros_like(suspected)
    found: dict[str, object] = {}
    for fault in faults:
        kind, size = FAULTS[fault]
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {fault}".encode()))
        liars = place_liars(groups, workers, code.byzantine, generator)
        told = corrupt(trial.answers, liars, kind, size=size, generator=generator)
        wrong = code.locate(told, everything, batch_dims=1)
        named = naming.locate(told, everything, batch_dims=1)
        # Never decode NaN or Inf: whoever serves treats them as missing.
        finite = told.nan_to_num(0.0, 0.0, 0.0)
        found[fault] = {
            "named": (named == liars).all(dim=1).double().mean().item(),
            "located": (wrong == liars).all(dim=1).double().mean().item(),
            "accuracy": accuracy(code, finite, wrong, trial.labels),
            "oracle": accuracy(code, finite, liars, trial.labels),
            "untreated": accuracy(code, finite, nobody, trial.labels),
        }
    return {
        "groups": groups,
        "false_suspicions": suspected.any(dim=1).double().mean().item(),
        "clean_accuracy": accuracy(code, trial.answers, suspected, trial.labels),
        "healthy_accuracy": accuracy(code, trial.answers, nobody, trial.labels),
        "faults": found,
    }
