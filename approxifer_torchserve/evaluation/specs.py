"""Codes as a user writes them, ``approxifer:nodes=authors``, and the keys that reports use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from approxifer_torchserve.artifacts.report import code_key
from approxifer_torchserve.codes import Code, make_code, settled

OptionValue = str | int | float | bool


@dataclass(frozen=True)
class CodeSpec:
    """A code without K, S and E.

    Attributes:
        name: The code's, as ``make_code`` takes it.
        options: The code's own options, as sorted pairs.
    """

    name: str
    options: tuple[tuple[str, OptionValue], ...] = ()

    @property
    def label(self) -> str:
        """The text that gives this spec again, short and usable in a metric's key."""
        texts = [k if v is True else f"{k}={_text(v)}" for k, v in self.options]
        return ":".join([self.name, *texts])

    def make(self, queries: int, stragglers: int, byzantine: int = 0) -> Code:
        """Makes the code; ``uncoded`` is made with S=0, whatever is lost from it later.

        Args:
            queries: K, how many queries form a group.
            stragglers: S, how many answers may be missing.
            byzantine: E, how many answers may be wrong.

        Returns:
            The code.

        Raises:
            TypeError: An option is of another type.
            ValueError: The name or an option is unknown or out of range.
        """
        if self.name == "uncoded":
            stragglers, byzantine = 0, 0
        return make_code(
            self.name,
            queries=queries,
            stragglers=stragglers,
            byzantine=byzantine,
            **dict(self.options),
        )


@dataclass(frozen=True)
class Case:
    """One row of a table: a code for S losses, from which exactly S answers are taken away.

    Attributes:
        spec: The code as the user wrote it.
        code: What ``make_code`` made of it.
        lost: S, how many answers are lost.
        byzantine: E, how many answers are made wrong.
    """

    spec: CodeSpec
    code: Code
    lost: int
    byzantine: int = 0

    @property
    def key(self) -> str:
        """Unique among the cases of one evaluation."""
        return f"{self.spec.label}/s={self.lost}"

    @property
    def workers(self) -> int:
        """Workers that a group takes."""
        return self.code.num_workers

    @property
    def settings(self) -> dict[str, OptionValue]:
        """K, S, E and the options, as ``model-config.yaml`` would have them."""
        return {
            "queries": self.code.queries,
            "stragglers": self.code.stragglers,
            "byzantine": self.code.byzantine,
            **settled(self.spec.name, dict(self.spec.options)),
        }

    @property
    def report_key(self) -> str:
        """The key of an accuracy report's ``codes``, under which serving looks this code up."""
        return code_key(self.spec.name, self.settings)


def parse_spec(given: str | Mapping[str, Any] | CodeSpec) -> CodeSpec:
    """Reads one code.

    Args:
        given: ``name[:option=value][:flag]...``; a mapping with ``name`` and options; or a spec.

    Returns:
        The spec. Values ``true``, ``false`` and numbers are read as such; a flag is true.

    Raises:
        TypeError: Neither a text, a mapping nor a spec.
        ValueError: There is no name, or an option appears twice.

    Example:
        >>> parse_spec("approxifer:nodes=authors")
        CodeSpec(name='approxifer', options=(('nodes', 'authors'),))
        >>> parse_spec({"name": "approxifer", "systematic": True}).label
        'approxifer:systematic'
    """
    if isinstance(given, CodeSpec):
        return given
    if isinstance(given, Mapping):
        options = dict(given)
        name = options.pop("name", None)
        if not isinstance(name, str) or not name:
            raise ValueError(f"codes: expected a mapping with 'name', got {dict(given)!r}")
        return CodeSpec(name, tuple(sorted(options.items())))
    if not isinstance(given, str):
        raise TypeError(f"codes: expected texts or mappings, got {type(given).__name__}")
    name, *parts = given.strip().split(":")
    if not name:
        raise ValueError(f"codes: expected name[:option=value]..., got {given!r}")
    options = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not key or key in options:
            raise ValueError(f"codes: expected each option once as key=value, got {given!r}")
        options[key] = _value(value) if equals else True
    return CodeSpec(name, tuple(sorted(options.items())))


def make_cases(
    codes: Iterable[str | Mapping[str, Any] | CodeSpec],
    queries: int,
    stragglers: Iterable[int],
    byzantine: int = 0,
) -> tuple[Case, ...]:
    """Makes every code for every S.

    Args:
        codes: Each as ``parse_spec`` takes it.
        queries: K, how many queries form a group.
        stragglers: The values of S, each at least 0.
        byzantine: E; ``uncoded`` is measured with E wrong answers too.

    Returns:
        One case for each code and S, in this order.

    Raises:
        TypeError: An argument is of another type.
        ValueError: There is none, one appears twice, or S exceeds what can be lost.

    Example:
        >>> [case.key for case in make_cases(["approxifer", "uncoded"], 4, [1, 2])]
        ['approxifer/s=1', 'approxifer/s=2', 'uncoded/s=1', 'uncoded/s=2']
    """
    specs, losses = [parse_spec(code) for code in codes], list(stragglers)
    if not specs or not losses:
        raise ValueError("codes and stragglers: expected at least one of each")
    cases = []
    for spec in specs:
        for lost in losses:
            code = spec.make(queries, lost, byzantine)
            if lost > code.num_workers:
                raise ValueError(
                    f"stragglers: {lost} answers cannot be lost of the {code.num_workers} of "
                    f"{spec.label} with queries={queries}"
                )
            cases.append(Case(spec, code, lost, byzantine))
    keys = [case.key for case in cases]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"codes and stragglers: expected each once, got {twice} more than once")
    return tuple(cases)


def _value(text: str) -> OptionValue:
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _text(value: OptionValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
