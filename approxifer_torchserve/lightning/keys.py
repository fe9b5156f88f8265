"""Keys under which figures are logged: safe in file names and loggers, and who monitors them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer

from approxifer_torchserve.evaluation.showing import Measured
from approxifer_torchserve.evaluation.specs import Case

LOGGED = (
    "healthy", "overall", "lost_only", "worst", "agreement", "agreement_lost", "healthy_agreement",
)  # fmt: skip
LOCATED = ("hits", "false_suspicions", "exact", "clean_false_suspicions")


def log_key(name: str) -> str:
    """Turns a code as a user writes it, or an output's name, into a part of a key.

    ``:`` becomes ``+``, and whatever else is no ASCII letter, digit or one of ``. _ = + -`` becomes
    ``_``: a colon or brace would end a field of ``ModelCheckpoint``'s ``filename``, a slash a part
    of the key.

    Args:
        name: Such as ``CodeSpec.label``.

    Returns:
        The part.

    Example:
        >>> log_key("approxifer:nodes=authors")
        'approxifer+nodes=authors'
    """
    return re.sub(r"[^\w.=+-]+", "_", name.replace(":", "+"), flags=re.ASCII)


def flatten(measured: Measured, prefix: str) -> Iterator[tuple[str, float]]:
    """Gives the keys and values to log of a result; what is not defined is left out.

    Args:
        measured: See ``evaluation.showing.as_measured``.
        prefix: Second half of the keys' first part.

    Yields:
        Keys ``<stage>_<prefix>/<code>/s=<S>/<figure>``, and fractions or relative errors.
    """
    start = f"{measured['stage']}_{prefix}/"
    heads = list(measured["heads"])
    yield from _with_mean(start, "base", heads, measured["base"])
    for case in measured["cases"]:
        key = f"{start}{log_key(case['code'])}/s={case['s']}/"
        for name in LOGGED:
            each = {head: case["scores"][head][name] for head in heads}
            yield from _with_mean(key, name, heads, each)
        for worker in range(case["workers"]):
            each = {head: case["scores"][head]["positions"][worker] for head in heads}
            yield from _with_mean(key, f"position/{worker}", heads, each)
        for name, value in (case["locator"] or {}).items():
            if value is not None:
                yield f"{key}{name}", value


def possible_keys(start: str, cases: Iterable[Case], heads: Sequence[str]) -> set[str]:
    """Gives all keys that ``flatten`` may ever give.

    Args:
        start: Such as ``val_degraded/``.
        cases: What is measured.
        heads: The model's outputs.
    """
    some = dict.fromkeys(heads, 0.0)
    keys = {key for key, _ in _with_mean(start, "base", heads, some)}
    for case in cases:
        key = f"{start}{log_key(case.spec.label)}/s={case.lost}/"
        positions = [f"position/{worker}" for worker in range(case.workers)]
        for name in (*LOGGED, *positions):
            keys |= {k for k, _ in _with_mean(key, name, heads, some)}
        if case.byzantine and case.code.byzantine:
            keys |= {f"{key}{name}" for name in LOCATED}
    return keys


def monitored(trainer: Trainer, start: str) -> dict[str, bool]:
    """Finds what callbacks and learning rate schedulers monitor.

    Args:
        trainer: Its callbacks and, once training is set up, its schedulers are asked.
        start: The keys to report begin so.

    Returns:
        Keys, and whether anybody insists on them (``strict``).
    """
    found: dict[str, bool] = {}
    for one in (*trainer.callbacks, *trainer.lr_scheduler_configs):  # type: ignore[attr-defined]
        key = getattr(one, "monitor", None)
        if isinstance(key, str) and key.startswith(start):
            found[key] = found.get(key, False) or bool(getattr(one, "strict", True))
    return found


def check_monitors(insisted: Iterable[str], possible: set[str]) -> None:
    """Refuses monitors that would never see a value.

    Args:
        insisted: Keys of this callback that somebody insists on.
        possible: The keys that there will be.

    Raises:
        ValueError: A key is none of them; the message says which are alike.
    """
    for key in insisted:
        if key not in possible:
            alike = difflib.get_close_matches(key, sorted(possible), n=3) or sorted(possible)[:3]
            raise ValueError(f"monitor={key!r}: expected a key that is logged, such as {alike}")


def respell(trainer: Trainer, start: str, cases: Iterable[Case]) -> None:
    """Lets other callbacks name a code as its user wrote it: their keys are made log-safe.

    ``monitor="val_degraded/approxifer:nodes=authors/s=1/overall"`` is the natural thing to write.

    Args:
        trainer: ``monitor`` and ``filename`` of its callbacks, and ``monitor`` of its schedulers
            once training is set up, are written anew.
        start: The keys begin so.
        cases: What is measured.
    """
    spelt = {c.spec.label: log_key(c.spec.label) for c in cases}
    for one in (*trainer.callbacks, *trainer.lr_scheduler_configs):  # type: ignore[attr-defined]
        for attribute in ("monitor", "filename"):
            text = getattr(one, attribute, None)
            if not isinstance(text, str):
                continue
            new = text
            for label, safe in spelt.items():
                new = new.replace(f"{start}{label}/", f"{start}{safe}/")
            if new != text:
                setattr(one, attribute, new)


def _with_mean(
    start: str, name: str, heads: Sequence[str], values: Mapping[str, Any]
) -> Iterator[tuple[str, float]]:
    known = {head: value for head, value in values.items() if value is not None}
    if known:
        yield f"{start}{name}", sum(known.values()) / len(known)
    if len(heads) > 1:
        for head, value in known.items():
            yield f"{start}{log_key(head)}/{name}", value
