"""What a handler may have changed while it tried a batch, put back before it tries again.

Handlers take things out of their input, set statuses and headers, and note what postprocess will
need. Under plain TorchServe a batch is tried once, so none of it matters. Here a batch is tried
again when one client's request made it fail, and preprocess also runs for jobs of groups.

Two things are put back: a request as it came (`Snapshot`), and what was noted in the lists and
dicts that live in the handler and its context (`HandlerState`, `Notes`).
"""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

_CONTAINER, _OWN, _OTHER = "container", "own", "other"
_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict)
_JSON = (list, dict)
# A dict of lists is looked into, a vocabulary is not.
MAX_LOOKED_INTO = 16
MAX_DEPTH = 2


class Snapshot:
    """A request's rows and headers as they came.

    Bodies that are bytes are not copied: handlers read them. JSON is, since handlers take
    options out of it.

    Args:
        rows: What the handler is given.
        headers: The request's headers.
    """

    def __init__(self, rows: list[Any], headers: Mapping[str, Any]) -> None:
        self._rows = [_keep(row) for row in rows]
        self._headers = dict(headers)

    def rows(self) -> list[Any]:
        """Returns the rows, new each time."""
        return [make() for make in self._rows]

    def headers(self) -> dict[str, Any]:
        """Returns the headers, new each time."""
        return dict(self._headers)


def _keep(value: Any) -> Callable[[], Any]:
    """Returns a function that gives a value as it is now."""
    if type(value) is dict and any(isinstance(v, (bytes, bytearray)) for v in value.values()):
        parts = {key: _keep(part) for key, part in value.items()}
        return lambda: {key: make() for key, make in parts.items()}
    if type(value) in _JSON:
        try:
            # In C, so a tenth of what copy.deepcopy takes.
            text = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception:  # no JSON (an envelope's rows may hold anything), or nested too deeply
            kept = value.copy()
            return lambda: kept.copy()
        return lambda: pickle.loads(text)  # noqa: S301  (our own bytes)
    return lambda: value


class HandlerState:
    """Where a handler keeps things from one step to the next.

    That is in its attributes, its module's, and its context's.

    Args:
        entry: The user's ``handle``: a method, a function, or an object that can be called.
        folder: The unpacked archive: instances of classes from it are looked into too.
    """

    def __init__(self, entry: Any, folder: Path) -> None:
        owner = getattr(entry, "__self__", entry)
        module = sys.modules.get(getattr(owner, "__module__", ""))
        self._folder = folder.resolve()
        self._spaces = [vars(place) for place in (owner, module) if hasattr(place, "__dict__")]
        self._kinds: dict[type, str] = dict.fromkeys(_CONTAINERS, _CONTAINER)

    def note(self, context: Any, whole: bool = False) -> Notes:
        """Notes what is there now.

        Args:
            context: The handler's context, or None.
            whole: Whether assigned values are to be put back too.
        """
        notes = Notes(whole)
        seen: set[int] = set()
        for space in self._spaces:
            self._look(space, notes, seen, 0)
        if context is not None:
            self._look(vars(context), notes, seen, 0)
        return notes

    def _look(self, space: dict[str, Any], notes: Notes, seen: set[int], depth: int) -> None:
        if id(space) in seen or depth > MAX_DEPTH:
            return
        seen.add(id(space))
        notes.add_space(space)
        kinds = self._kinds
        # A copy: threads of the handler's may be at work.
        for value in list(space.values()):
            kind = kinds.get(type(value)) or self._classify(type(value))
            if kind is _CONTAINER:
                _measure(value, notes, 0)
            elif kind is _OWN:
                self._look(vars(value), notes, seen, depth + 1)

    def _classify(self, kind: type) -> str:
        found = _OWN if self._is_own(kind) else _OTHER
        self._kinds[kind] = found
        return found

    def _is_own(self, kind: type) -> bool:
        if issubclass(kind, (nn.Module, type, ModuleType)) or not kind.__dictoffset__:
            return False
        path = getattr(sys.modules.get(kind.__module__), "__file__", None)
        return path is not None and Path(path).resolve().is_relative_to(self._folder)


class Notes:
    """How much the containers of a handler hold, so that what is added can be removed.

    Args:
        whole: Whether assigned values are kept too.
    """

    def __init__(self, whole: bool) -> None:
        self._whole = whole
        self._spaces: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._lengths: list[tuple[Any, int]] = []

    def add_space(self, space: dict[str, Any]) -> None:
        """Adds a namespace."""
        if self._whole:
            self._spaces.append((space, dict(space)))

    def add(self, container: Any) -> None:
        """Adds a container."""
        self._lengths.append((container, len(container)))

    def put_back(self, dicts: bool = True) -> None:
        """Takes out of the containers what has been added to them.

        What a handler *assigns* stays, unless this is to be ``whole``: the next try assigns it
        again, and it may be a connection made anew.

        Args:
            dicts: Whether dicts are among them; what a first call loads is often kept in one.
        """
        for space, before in self._spaces:
            for name in [name for name in space if name not in before]:
                del space[name]
            space.update(before)
        for container, length in self._lengths:
            if type(container) is set and length:
                continue  # which ones are new cannot be told
            if isinstance(container, dict) and not dicts:
                continue
            take = container.popitem if isinstance(container, dict) else container.pop
            with suppress(LookupError):  # a thread was faster
                while len(container) > length:
                    take()


def _measure(container: Any, notes: Notes, depth: int) -> None:
    notes.add(container)
    if len(container) <= MAX_LOOKED_INTO and depth < MAX_DEPTH:
        for item in list(container.values() if isinstance(container, dict) else container):
            if type(item) in _CONTAINERS:
                _measure(item, notes, depth + 1)
