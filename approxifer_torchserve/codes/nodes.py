"""Where queries and workers sit on the interval [-1, 1].

A node is kept as its angle over pi, a fraction in [0, 1]; its position is cos(pi * angle).
Fractions make it exact whether a worker's node *is* a query's node, which floating point could miss
by a unit in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

NodeSet = Literal["paper", "authors"]


def query_angles(queries: int) -> tuple[Fraction, ...]:
    """Angles over pi of the query nodes, Chebyshev's of the first kind (arXiv 2109.09868).

    Args:
        queries: K, how many queries form a group.

    Returns:
        (2j+1)/2K for j = 0..K-1.
    """
    return tuple(Fraction(2 * j + 1, 2 * queries) for j in range(queries))


def worker_angles(nodes: NodeSet, num_workers: int) -> tuple[Fraction, ...]:
    """Angles over pi of classic ApproxIFER's worker nodes.

    Args:
        nodes: ``paper``: i/N, Chebyshev's of the second kind as printed in arXiv 2109.09868;
            ``authors``: i/(N+1), as in the program that made the published figures.
        num_workers: N+1, at least 2.

    Returns:
        One angle for each worker i = 0..N.

    Raises:
        ValueError: ``nodes`` is neither.
    """
    if nodes not in get_args(NodeSet):
        raise ValueError(f"nodes must be one of {get_args(NodeSet)}, got {nodes!r}")
    steps = num_workers - 1 if nodes == "paper" else num_workers
    return tuple(Fraction(i, steps) for i in range(num_workers))


def parity_angles(queries: int, parities: int) -> tuple[Fraction, ...]:
    """Angles over pi of parities between the query nodes, as far from any other node as can be.

    The query nodes cut [0, 1] into K-1 inner intervals and two outer ones half as wide. Each parity
    in turn goes to the interval where the gaps it leaves are widest, ties to the interval nearest
    the centre (then to the smaller angle); an interval's parities are spread evenly, and one in an
    outer interval may sit on the end point. So the smallest angular gap is as large as it can be.

    Args:
        queries: K, how many queries form a group.
        parities: How many nodes to place.

    Returns:
        The angles, ascending.
    """
    # In units of pi/2K the query nodes are at 1, 3, .., 2K-1; interval i is centred at 2i.
    counts = [0] * (queries + 1)

    def gap(interval: int, count: int) -> Fraction:
        inner = 0 < interval < queries
        return Fraction(2, count + 1) if inner else Fraction(1, count)

    for _ in range(parities):
        best = max(
            range(queries + 1),
            key=lambda i: (gap(i, counts[i] + 1), -abs(2 * i - queries), -i),
        )
        counts[best] += 1

    angles = []
    for interval, count in enumerate(counts):
        for place in range(1, count + 1):
            step = place * gap(interval, count)
            position = 1 - step if interval == 0 else 2 * interval - 1 + step
            angles.append(Fraction(position, 2 * queries))
    return tuple(sorted(angles))


def positions(angles: Sequence[Fraction]) -> Tensor:
    """Positions of nodes on [-1, 1].

    Args:
        angles: Angles over pi, each in [0, 1].

    Returns:
        float64 ``[len(angles)]`` on the CPU; equal angles give equal numbers.
    """
    # cos(pi a) = sin(pi (1/2 - a)) is exactly 0 in the middle and exactly odd around it.
    values = [math.sin(math.pi * float(Fraction(1, 2) - angle)) for angle in angles]
    return torch.tensor(values, dtype=torch.float64, device="cpu")
