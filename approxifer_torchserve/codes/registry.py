"""Codes by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from approxifer_torchserve.codes.base import Code

CodeFactory = Callable[..., Code]
_Factory = TypeVar("_Factory", bound=CodeFactory)


@dataclass(frozen=True)
class Option:
    """An option of a code beyond queries, stragglers and byzantine.

    Attributes:
        name: The keyword.
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
        paper: Where it comes from.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    paper: str


_codes: dict[str, tuple[CodeRecord, CodeFactory]] = {}


def register_code(
    name: str, *, summary: str, paper: str, options: tuple[Option, ...] = ()
) -> Callable[[_Factory], _Factory]:
    """Register a code's class, or a function that makes codes, under a name.

    Args:
        name: The name for ``make_code``.
        summary: See ``CodeRecord``.
        paper: See ``CodeRecord``.
        options: See ``CodeRecord``; the factory takes them as keywords.

    Returns:
        A decorator that returns what it decorates.

    Raises:
        ValueError: The name is taken.
    """
    if name in _codes:
        raise ValueError(f"name {name!r} is already registered: choose another name")

    def register(factory: _Factory) -> _Factory:
        _codes[name] = (CodeRecord(name, summary, options, paper), factory)
        return factory

    return register


def available_codes() -> tuple[CodeRecord, ...]:
    """List the registered codes.

    Returns:
        One record for each, by name.
    """
    return tuple(record for _, (record, _) in sorted(_codes.items()))


def make_code(
    name: str, *, queries: int, stragglers: int, byzantine: int = 0, **options: object
) -> Code:
    """Make a code by name.

    Args:
        name: A registered name, see ``available_codes``.
        queries: K, the number of queries coded together.
        stragglers: S, how many answers of a group may be missing.
        byzantine: E, how many answers of a group may be wrong.
        **options: The code's own options.

    Returns:
        The code.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument is unknown or out of range; the message names it.

    Example:
        >>> make_code("approxifer", queries=8, stragglers=1).num_workers
        9
    """
    if name not in _codes:
        raise ValueError(f"name must be one of {sorted(_codes)}, got {name!r}")
    record, factory = _codes[name]
    known = [option.name for option in record.options]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"code {name!r} has no option {', '.join(map(repr, unknown))}: "
            + (f"its options are {known}" if known else "it has none")
        )
    return factory(queries=queries, stragglers=stragglers, byzantine=byzantine, **options)
