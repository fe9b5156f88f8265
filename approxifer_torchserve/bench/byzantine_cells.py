"""What the bench about lies measures: its cells, their arithmetic, and how they are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KINDS = ("gaussian", "sign_flip", "permuted", "stuck", "misrouted", "exponent", "nan", "huge")
RARE = "gaussian 1 in 5"
CLEAN, HEALTHY = "clean", "healthy"
# Two liars of these kinds may say the same: functions of the truth alone, or the answer before,
# which two workers share that were the pair of the query before.
ALIKE = ("sign_flip", "huge", "stuck", "misrouted")
# The same as the policy's tolerance: less than this is no wrong answer.
RTOL, ATOL = 1e-3, 1e-4


@dataclass(frozen=True)
class Size:
    """What is served, how it is asked, and how long.

    Attributes:
        workers: Of each policy's model; one model is registered at a time.
        rate: Requests per second.
        cell_s: Seconds of load per cell.
        clean_s: Seconds of the clean run.
        service_ms: What a forward takes, asleep.
        probe_every_s: The policies'; a liar is found after about two of these.
        policies: Some of `policies`.
        kinds: Some of ``KINDS`` and ``RARE``.
        liars: How many workers lie at once.
    """

    workers: int = 6
    rate: float = 40.0
    cell_s: float = 6.0
    clean_s: float = 300.0
    service_ms: float = 10.0
    probe_every_s: float = 0.5
    policies: tuple[str, ...] = ("none", "probes", "audit", "pair")
    kinds: tuple[str, ...] = (*KINDS, RARE)
    liars: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Cell:
    """What one cell gave.

    Attributes:
        policy: Which.
        kind: Of lie; ``HEALTHY`` and ``CLEAN`` where nobody lied.
        liars: How many lied.
        requests: Sent.
        answered: With status 200.
        wrong: Of these, not the model's own beyond tolerance.
        refused: With another status, or none at all.
        found_s: For each liar, seconds until it was quarantined; None for never.
        convicted: Honest workers with a confirmed wrong answer.
        quarantined: Honest workers in quarantine.
        extra: Jobs beyond one per request, per request.
        jobs: Handed to workers, by kind.
        late_hedges: Jobs sent again because they were late; part of ``extra``.
        late_sending_s: The longest that a request left after it was due: the client's own fault.
    """

    policy: str
    kind: str
    liars: int
    requests: int
    answered: int
    wrong: int
    refused: int
    found_s: tuple[float | None, ...]
    convicted: tuple[str, ...]
    quarantined: tuple[str, ...]
    extra: float
    jobs: dict[str, int]
    late_hedges: int
    late_sending_s: float

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the others."""
        return self.policy, self.kind, self.liars

    @property
    def wrong_share(self) -> float:
        """Fraction of the answers that were wrong."""
        return self.wrong / self.answered if self.answered else 0.0


def policies(size: Size) -> dict[str, dict[str, Any]]:
    """Return the policies by name, as they stand in model-config.yaml."""
    probing = {"probe_every_s": size.probe_every_s}
    found: dict[str, dict[str, Any]] = {
        "none": {},
        "probes": probing,
        "audit": {"verify": "pair", "verify_wait": False},
        "pair": {"verify": "pair", **probing},
    }
    return {name: found[name] for name in size.policies}


def fault(kind: str) -> dict[str, float | str]:
    """Return what a liar of a kind is told."""
    if kind == RARE:
        return {"lie": "gaussian", "lie_probability": 0.2}
    return {"lie": kind}


def accent(number: int) -> dict[str, float | str]:
    """Return what makes a worker's last digits its own, as another make of device would.

    Bytes differ then and numbers agree, so that pairs must really compare. All differ by less than
    half of the policy's tolerance.
    """
    return {"lie": "huge", "lie_size": 1 + 5e-5 * (number + 1)}


def is_wrong(content: bytes, right: Mapping[str, Any]) -> bool:
    """Tell whether an answer's scores are beyond tolerance, or it is no answer at all."""
    try:
        scores, true = json.loads(content)["scores"], right["scores"]
        if len(scores) != len(true):
            return True
        near = all(
            abs(a - b) <= ATOL + RTOL * max(abs(a), abs(b))
            for a, b in zip(scores, true, strict=True)
        )
    except (ValueError, KeyError, TypeError):
        return True
    return not near


def tally(
    policy: str,
    kind: str,
    liars: Mapping[str, float | None],
    answers: Sequence[tuple[int, bool]],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    late_sending_s: float = 0.0,
) -> Cell:
    """Make a cell's figures.

    Args:
        policy: Which.
        kind: Of lie.
        liars: Their ids; seconds until each was quarantined.
        answers: Status and wrongness of each request.
        before: What ``GET /coded/<model>`` said before the cell.
        after: And afterwards.
        late_sending_s: See `Cell`.
    """
    old, new = before["counters"], after["counters"]
    jobs = {name: count - old["jobs"].get(name, 0) for name, count in new["jobs"].items()}
    jobs = {name: count for name, count in jobs.items() if count}
    admitted = new["requests"] - old["requests"]
    honest = {name: one for name, one in after["workers"].items() if name not in liars}

    def confirmed(state: Mapping[str, Any], name: str) -> int:
        return int(state["workers"].get(name, {}).get("confirmed_wrong", 0))

    answered = sum(status == 200 for status, _ in answers)
    return Cell(
        policy,
        kind,
        len(liars),
        len(answers),
        answered,
        sum(status == 200 and wrong for status, wrong in answers),
        len(answers) - answered,
        tuple(liars.values()),
        tuple(name for name in honest if confirmed(after, name) > confirmed(before, name)),
        tuple(name for name, one in honest.items() if in_quarantine(one)),
        (sum(jobs.values()) - admitted) / admitted if admitted else 0.0,
        jobs,
        new["hedges"] - old["hedges"],
        late_sending_s,
    )


def in_quarantine(worker: Mapping[str, Any]) -> bool:
    """Tell whether a worker's entry in the ledger says that clients are kept from it."""
    return worker["state"] in ("quarantined", "kept out")


def plan(size: Size) -> dict[str, list[tuple[str, int, float]]]:
    """Return each policy's cells: kind, how many lie, seconds. Whoever judges most runs clean."""
    cells: dict[str, list[tuple[str, int, float]]] = {}
    for policy in size.policies:
        cells[policy] = [(HEALTHY, 0, size.cell_s)]
        cells[policy] += [(kind, n, size.cell_s) for n in size.liars for kind in size.kinds]
    if size.clean_s > 0:
        cells[size.policies[-1]].append((CLEAN, 0, size.clean_s))
    return cells


class Store:
    """The cells measured so far, one JSON line each, so that a stopped run goes on.

    Args:
        path: The file; one that was written for another size is begun anew.
        size: Of this run.
    """

    def __init__(self, path: Path, size: Size) -> None:
        self.path = path
        self.cells: list[Cell] = []
        head = json.dumps(asdict(size))
        lines = path.read_text().splitlines() if path.exists() else []
        if lines[:1] == [head]:
            self.cells = [_cell(json.loads(line)) for line in lines[1:]]
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(head + "\n")

    def add(self, cell: Cell) -> None:
        """Keep a cell."""
        self.cells.append(cell)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(cell)) + "\n")


def _cell(read: dict[str, Any]) -> Cell:
    lists = ("found_s", "convicted", "quarantined")
    return Cell(**{**read, **{name: tuple(read[name]) for name in lists}})
