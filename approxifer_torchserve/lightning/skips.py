"""What becomes of an error in a measurement: the training run goes on without the figures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class Skips:
    """Warns once of each kind of thing that is skipped, or raises it.

    Args:
        strict: Raise.

    Attributes:
        proved: Something was measured, or would have been, since the callback was made: what goes
            wrong from then on is no wrong argument.
    """

    def __init__(self, strict: bool) -> None:
        self.strict, self.proved = strict, False
        self._said: set[str] = set()

    def restart(self) -> None:
        """Forgets what was warned of: another run may say it again."""
        self._said.clear()

    def say(self, kind: str, text: str) -> None:
        """Warns, once of each kind.

        Args:
            kind: Any name.
            text: What happened and what to set.
        """
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(f"DegradedAccuracy: {text}", stacklevel=2)

    def skip(self, kind: str, text: str) -> None:
        """Warns, or raises if strict.

        Args:
            kind: Any name.
            text: What is skipped and what to set.

        Raises:
            RuntimeError: It is strict.
        """
        if self.strict:
            raise RuntimeError(f"DegradedAccuracy: {text}")
        self.say(kind, text)

    @contextmanager
    def guard(self, raises: bool = False) -> Iterator[None]:
        """Turns an error in its block into a warning.

        Args:
            raises: Let errors through, as ``strict`` does, unless something was measured before.
        """
        try:
            yield
        except Exception as error:
            if self.strict or (raises and not self.proved):
                raise
            self.say(
                "error",
                f"figures are left out after {type(error).__name__}: {error} (training goes on; "
                "strict=True raises it)",
            )
