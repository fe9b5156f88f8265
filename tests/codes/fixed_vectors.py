"""Record max|DG-I| per erasure pattern, from scipy's interpolant and not from this package.

Check:    python tests/codes/fixed_vectors.py
Refresh:  python tests/codes/fixed_vectors.py --write
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from scipy.interpolate import FloaterHormannInterpolator

PATH = Path(__file__).with_suffix(".json")
CASES = [
    (queries, stragglers, nodes)
    for queries, stragglers in ((2, 1), (4, 1), (4, 2), (5, 3), (8, 1), (8, 2), (16, 1))
    for nodes in ("paper", "authors", "systematic")
]


def positions(queries: int, stragglers: int, nodes: str) -> tuple[np.ndarray, np.ndarray]:
    """Query nodes and worker nodes, written down again from the paper and docs/codes.md."""
    alpha = np.cos((2 * np.arange(queries) + 1) * np.pi / (2 * queries))
    workers = np.arange(queries + stragglers)
    if nodes == "paper":
        return alpha, np.cos(workers * np.pi / (queries + stragglers - 1))
    if nodes == "authors":
        return alpha, np.cos(workers * np.pi / (queries + stragglers))
    between = sorted(range(queries + 1), key=lambda i: (abs(2 * i - queries), i))[:stragglers]
    return alpha, np.concatenate([alpha, np.cos(np.sort(between) * np.pi / queries)])


def interpolate(nodes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Matrix of Berrut's interpolant, [points, nodes], by scipy; it wants the nodes in order."""
    order = np.argsort(nodes)
    weights = np.empty((len(points), len(nodes)))
    weights[:, order] = FloaterHormannInterpolator(nodes[order], np.eye(len(nodes)), d=0)(points)
    return weights


def figures() -> dict[str, dict[str, float]]:
    """max|DG-I| for each case and pattern; a pattern lists the lost workers."""
    record: dict[str, dict[str, float]] = {}
    for queries, stragglers, nodes in CASES:
        alpha, beta = positions(queries, stragglers, nodes)
        encoder = interpolate(alpha, beta)
        case = record.setdefault(f"K={queries} S={stragglers} {nodes}", {})
        for lost in itertools.chain.from_iterable(
            itertools.combinations(range(len(beta)), n) for n in range(stragglers + 1)
        ):
            left = [i for i in range(len(beta)) if i not in lost]
            error = interpolate(beta[left], alpha) @ encoder[left] - np.eye(queries)
            # Seven digits: what is left below is rounding, which differs between machines.
            case[",".join(map(str, lost))] = round(float(np.abs(error).max()), 7)
    return record


def main() -> int:
    """Compare or write; 1 if the record differs."""
    now = figures()
    if "--write" in sys.argv[1:]:
        PATH.write_text(json.dumps(now, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    before = json.loads(PATH.read_text(encoding="utf-8"))
    differing = [
        f"{case} lost [{lost}]: recorded {before.get(case, {}).get(lost)}, now {value}"
        for case, patterns in now.items()
        for lost, value in patterns.items()
        if abs(before.get(case, {}).get(lost, np.inf) - value) > 2e-7
    ]
    print("\n".join(differing) or f"{PATH.name} is as recorded")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
