"""Codes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from approxifer_torchserve.codes.base import Code

CodeFactory = Callable[..., Code]
_Factory = TypeVar("_Factory", bound=CodeFactory)


@dataclass(frozen=True)
class Option:
    """An option of a code beyond queries, stragglers and byzantine.

    Attributes:
        name: The keyword of ``make_code``.
        values: What it takes, for a reader.
        default: What it is when left out.
        help: What it does, one sentence.
    """

    name: str
    values: str
    default: str | float | bool | None
    help: str


@dataclass(frozen=True)
class CodeRecord:
    """What a reader should know of a code before choosing it.

    Attributes:
        name: The name for ``make_code``.
        summary: What it does and at which price, one sentence.
        options: Options beyond queries, stragglers and byzantine.
        paper: The publication it comes from, or ``none``.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    paper: str


Settle = Callable[[Mapping[str, Any]], dict[str, Any]]
"""From a code's options to the same with those that they imply."""
_codes: dict[str, tuple[CodeRecord, CodeFactory, Settle]] = {}


def register_code(
    name: str,
    *,
    summary: str,
    paper: str,
    options: tuple[Option, ...] = (),
    settle: Settle = dict,
) -> Callable[[_Factory], _Factory]:
    """Registers a code's class, or a function that makes codes, under a name.

    Args:
        name: The name for ``make_code``.
        summary: What it does and at which price, one sentence.
        paper: The publication it comes from, or ``none``.
        options: See ``CodeRecord``; the factory takes them as keywords.
        settle: See ``settled``; for a code whose options imply others.

    Returns:
        A decorator that returns what it decorates.

    Raises:
        ValueError: The name is taken.
    """
    if name in _codes:
        raise ValueError(f"name {name!r} is already registered: choose another name")

    def register(factory: _Factory) -> _Factory:
        _codes[name] = (CodeRecord(name, summary, options, paper), factory, settle)
        return factory

    return register


def available_codes() -> tuple[CodeRecord, ...]:
    """Returns one record for each registered code, by name."""
    return tuple(_codes[name][0] for name in sorted(_codes))


def settled(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Says what options mean: returns them with those that they imply.

    ``make_code``, the keys of accuracy reports and ``model-config.yaml`` all read options so; for
    ApproxIFER, ``nodes`` alone implies ``systematic=False``, and no ``nodes`` implies ``True``.

    Args:
        name: A registered name, see ``available_codes``.
        options: The code's own options; None for one is the same as leaving it out.

    Returns:
        The options that ``make_code`` makes the code of. Defaults that hold whatever else is given
        are left out.

    Raises:
        ValueError: The name, or an option's name, is unknown.

    Example:
        >>> settled("approxifer", {"nodes": "authors"})
        {'nodes': 'authors', 'systematic': False}
        >>> settled("approxifer", {})
        {'systematic': True}
    """
    if name not in _codes:
        raise ValueError(f"name must be one of {sorted(_codes)}, got {name!r}")
    record, _, settle = _codes[name]
    known = [option.name for option in record.options]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"code {name!r} has no option {', '.join(map(repr, unknown))}: "
            + (f"its options are {known}" if known else "it has none")
        )
    return settle({key: value for key, value in options.items() if value is not None})


def make_code(
    name: str, *, queries: int, stragglers: int, byzantine: int = 0, **options: object
) -> Code:
    """Makes a code by name.

    Args:
        name: A registered name, see ``available_codes``.
        queries: K, the number of queries coded together.
        stragglers: S, how many answers of a group may be missing.
        byzantine: E, how many answers of a group may be wrong.
        **options: The code's own options, see ``settled``.

    Returns:
        The code.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument is unknown or out of range; the message names it.

    Example:
        >>> make_code("approxifer", queries=8, stragglers=1).num_workers
        9
    """
    own = settled(name, options)
    factory = _codes[name][1]
    return factory(queries=queries, stragglers=stragglers, byzantine=byzantine, **own)
