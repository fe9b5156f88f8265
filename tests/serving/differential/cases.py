"""A case: a handler's traits, and what clients send it, burst by burst."""

import json
from dataclasses import asdict, dataclass, field, replace

from serving_harness import BINARY, JSON

FORMS = ("steps", "handle", "class", "function", "callable")
SYSTEMATIC = {"code": {"name": "approxifer", "queries": 2, "stragglers": 1}}
CLASSIC = {"code": {**SYSTEMATIC["code"], "systematic": False}}
CODES = {"systematic": SYSTEMATIC, "classic": CLASSIC}


@dataclass(frozen=True)
class Spec:
    """A handler, see ``forms/behaviour.py``; the first value of each trait is the plain one."""

    form: str = "steps"
    batch_size: int | None = 8  # None: model-config.yaml does not say
    reads: str = "all rows"
    options: str = "of the row"
    state: str = "new"
    input: str = "kept"
    sets: str = "postprocess"
    catches: str = "nothing"
    scales: str = "no"
    mixes: str = "no"
    output: str = "tensor"
    container: str = "list"
    code: str = "systematic"

    def json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def mixing(self) -> bool:
        """Does an answer depend on the batch by design?"""
        return self.mixes != "no" or self.options == "of the first" or self.reads == "first row"


TRAITS = {
    "form": FORMS,
    "batch_size": (8, 1, None),
    "reads": ("all rows", "first row"),
    "options": ("of the row", "of the first"),
    "state": ("new", "appended", "queued", "by id", "on context"),
    "input": ("kept", "popped", "cleared", "grown", "headers"),
    "sets": ("postprocess", "preprocess", "counted"),
    "catches": ("nothing", "all rows", "first row", "own row"),
    "scales": ("no", "by row", "consumed"),
    "mixes": ("no", "mean", "count"),
    "output": ("tensor", "in place", "tuple", "dict", "list", "integers", "-inf", "nan"),
    "container": ("list", "tuple", "none", "dict"),
    "code": ("systematic", "classic"),
}


@dataclass(frozen=True)
class Query:
    """One client's request; ``asks`` are the instructions of ``forms/behaviour.py``."""

    asks: tuple[tuple[str, object], ...] = ()
    carrier: str = "json"
    headers: tuple[tuple[str, str], ...] = ()
    url: str = "predictions"
    framed: bool = True
    want: bool = False  # its prediction beside its answer

    def ask(self, key: str) -> object:
        return dict(self.asks).get(key)

    def harmless(self) -> "Query":
        """Returns the same without what may make its answer one that cannot be sent."""
        kept = tuple(a for a in self.asks if a[0] not in ("returns", "status", "header"))
        return replace(self, asks=kept)

    def parameters(self) -> dict[str, tuple[str, bytes]]:
        return CARRIERS[self.carrier](json.dumps(self._asked()).encode())

    def _asked(self) -> dict[str, object]:
        asked = dict(self.asks)
        numbers = asked.pop("x", (1.0, 2.0))
        return {"x": list(numbers), **asked}

    def all_headers(self) -> dict[str, str]:
        explain = "True" if self.url == "explanations" else "False"
        found = {"explain": explain, "url_path": "", **dict(self.headers)}
        if self.url == "describe":
            found["describe"] = "True"
        if not self.carrier.startswith("json"):
            found["x-do"] = json.dumps(self._asked())
        return found


# Parameters as the frontend sends them for each kind of request.
CARRIERS = {
    "json": lambda asked: {"body": (JSON, asked)},
    "json data": lambda asked: {"data": (JSON, asked)},
    "text": lambda _: {"body": ("text/plain", "grüße".encode())},
    "bytes": lambda _: {"body": (BINARY, b"\x00\xff")},
    "list": lambda _: {"body": (JSON, b"[1, null]")},
    "form": lambda _: {
        "image1": ("image/png", b"\x89PNG1"),
        "müll": (BINARY, b"\x00\x01"),
        "a/b": ("text/plain", b"x"),
        "data": ("", b"0.5"),
    },
    "urlencoded": lambda _: {
        "q": ("", "grüße & more".encode()),
        "p0": ("", b"1"),
        "coded": ("", b"2"),
        "m0/body": ("", b"3"),
    },
    "empty": lambda _: {},
}


@dataclass(frozen=True)
class Group:
    """A job of a group that is in the worker's batch beside the clients' requests."""

    kind: str  # parity or encode
    members: tuple[Query, ...]
    first: bool = False  # before the clients' requests in the message


@dataclass(frozen=True)
class Burst:
    """What waits when a worker is free; handed out in batches of the batch size."""

    queries: tuple[Query, ...]
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Case:
    spec: Spec = field(default_factory=Spec)
    bursts: tuple[Burst, ...] = ()


def ask(**asks: object) -> Query:
    return Query(tuple(asks.items()))


def case(*bursts: list[Query], groups: tuple[Group, ...] = (), **traits: object) -> Case:
    """A case from lists of queries; the groups' jobs come with the first."""
    made = [Burst(tuple(b), groups if i == 0 else ()) for i, b in enumerate(bursts)]
    return Case(Spec(**traits), tuple(made))
