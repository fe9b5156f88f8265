"""The ways to serve that the bench of lies compares, and on how many workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

POLICIES = (
    "none", "probes", "audit", "pair", "parity-audit", "parity", "vote", "pairs", "pairs-decode",
    "coded",
)  # fmt: skip
EXACT = ("pair", "vote")
"""Each answer was compared with another computation of its query before the client had it."""
WHAT = {
    "none": "nothing",
    "probes": "a known query to each worker now and then",
    "audit": "two workers compute each query, checked behind the answer; no probes",
    "pair": "two workers compute each query, checked before the answer",
    "parity-audit": "one parity per group, checked behind the answers; no probes",
    "parity": "one parity per group, checked before the answers",
    "vote": "2E+1 workers compute each query, E+1 must agree",
    "pairs": "code 'pairs' locates with E; suspected members are computed again",
    "pairs-decode": "the same; suspected members are decoded from the others",
    "coded": "fully coded ApproxIFER; the decode job leaves out whom it locates",
}


@dataclass(frozen=True)
class Layout:
    """How many workers, and how many of them lie.

    Attributes:
        workers: How many each policy's model has.
        queries: K of the codes that locate.
        byzantine: E of these, and of the vote.
        liars: How many workers lie at once.
    """

    workers: int
    queries: int
    byzantine: int
    liars: int

    @property
    def name(self) -> str:
        """What reports call it."""
        lie = "1 liar" if self.liars == 1 else f"{self.liars} liars"
        return f"{self.workers} workers, {lie}"


SMALL = (Layout(6, 2, 1, 1),)
LAYOUTS = {"small": SMALL, "full": (Layout(18, 8, 1, 1), Layout(20, 8, 2, 2))}


@dataclass(frozen=True)
class Policy:
    """One way to serve.

    Attributes:
        code: The section ``handler.approxifer.code``.
        policy: The section ``handler.approxifer.policy``.
        located: Whether a locator belongs into the archive.
    """

    code: dict[str, Any]
    policy: dict[str, Any]
    located: bool = False

    @property
    def probed(self) -> bool:
        """Whether the archive needs a known query."""
        return "probe_every_s" in self.policy


def policies(layout: Layout, rate: float, probe_every_s: float) -> dict[str, Policy]:
    """Returns all policies by name, as they stand in model-config.yaml.

    Args:
        layout: How many workers, and the code's K and E.
        rate: Requests per second; a group stays open for as long as K of them take to come.
        probe_every_s: Seconds between a worker's probes, of all but ``none`` and the audits.
    """
    probing = {"probe_every_s": probe_every_s}
    most = min(8, layout.workers - 2)
    systematic = {"name": "approxifer", "queries": most, "stragglers": 1, "systematic": True}
    size = {"queries": layout.queries, "stragglers": 0, "byzantine": layout.byzantine}
    pairs = {"name": "pairs", **size}
    classic = {"name": "approxifer", "systematic": False, "nodes": "authors", **size}
    votes = {"name": "replication", **size, "queries": 1}
    pair, parity, audit = {"verify": "pair"}, {"verify": "parity"}, {"verify_wait": False}
    # No report goes into these archives: the bench itself counts what decoding gets wrong.
    decode = {"on_wrong": "reconstruct", "min_degraded_accuracy": 0}

    def waits(queries: int) -> dict[str, Any]:
        return {"group_delay_ms": round(1e3 * (queries - 1) / rate)}

    found = {
        "none": Policy(systematic, {}),
        "probes": Policy(systematic, probing),
        "audit": Policy(systematic, {**pair, **audit}),
        "pair": Policy(systematic, {**pair, **probing}),
        "parity-audit": Policy(systematic, {**parity, **audit, **waits(most)}, located=True),
        "parity": Policy(systematic, {**parity, **probing, **waits(most)}, located=True),
        "vote": Policy(votes, probing),
        "pairs": Policy(pairs, {**probing, **waits(layout.queries)}, located=True),
        "pairs-decode": Policy(pairs, {**decode, **probing, **waits(layout.queries)}, located=True),
        "coded": Policy(classic, {**probing, **waits(layout.queries)}, located=True),
    }
    return {name: found[name] for name in POLICIES}
