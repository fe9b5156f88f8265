"""What a bench measured so far, one JSON line each, so that a run that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T", bound=Any)


class Kept(Generic[T]):
    """A file of results.

    Args:
        path: The file; one that was written under other conditions is begun anew.
        conditions: What the results depend on: sizes, seed.
        kind: The dataclass of a result.

    Attributes:
        results: All results so far.

    Raises:
        ValueError: A line of the file is no result.
    """

    def __init__(self, path: Path, conditions: Mapping[str, Any], kind: type[T]) -> None:
        self.path = path
        self.results: list[T] = []
        head = json.dumps(conditions)
        lines = path.read_text().split("\n") if path.exists() else []
        if lines[:1] == [head]:
            # What follows the last line break was cut off in the middle.
            whole = lines[1:-1]
            self.results = [TypeAdapter(kind).validate_json(line) for line in whole]
            path.write_text("".join(f"{line}\n" for line in (head, *whole)))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(head + "\n")

    def add(self, result: T) -> None:
        """Keeps a result."""
        self.results.append(result)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
