from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from code_cases import QUERIES

from approxifer_torchserve.codes.nodes import (
    parity_angles,
    positions,
    query_angles,
    worker_angles,
)


def smallest_gap(angles: tuple[Fraction, ...]) -> Fraction:
    ordered = sorted(angles)
    return min(b - a for a, b in itertools.pairwise(ordered))


def test_query_nodes_are_chebyshevs_first_kind():
    for queries in QUERIES:
        expected = [math.cos((2 * j + 1) * math.pi / (2 * queries)) for j in range(queries)]
        assert positions(query_angles(queries)).tolist() == pytest.approx(expected, abs=1e-15)


def test_worker_nodes_of_paper_and_authors():
    for workers in range(3, 21):
        last = workers - 1
        paper = [math.cos(i * math.pi / last) for i in range(workers)]
        authors = [math.cos(i * math.pi / (last + 1)) for i in range(workers)]
        assert positions(worker_angles("paper", workers)).tolist() == pytest.approx(
            paper, abs=1e-15
        )
        assert positions(worker_angles("authors", workers)).tolist() == pytest.approx(
            authors, abs=1e-15
        )


def test_positions_are_odd_around_an_exact_zero():
    for count in range(1, 40):
        x = positions([Fraction(i, 2 * count) for i in range(2 * count + 1)])
        assert x[count] == 0
        assert (x == -x.flip(0)).all()


@pytest.mark.parametrize(
    ("queries", "parities", "expected"),
    [
        (8, 1, [Fraction(1, 2)]),
        (8, 3, [Fraction(3, 8), Fraction(1, 2), Fraction(5, 8)]),
        (7, 1, [Fraction(3, 7)]),
        (7, 2, [Fraction(3, 7), Fraction(4, 7)]),
        (2, 3, [Fraction(0), Fraction(1, 2), Fraction(1)]),
        (2, 4, [Fraction(0), Fraction(5, 12), Fraction(7, 12), Fraction(1)]),
    ],
)
def test_parities_start_at_the_centre(queries: int, parities: int, expected: list[Fraction]):
    assert list(parity_angles(queries, parities)) == expected


def test_no_other_parities_have_a_wider_smallest_gap():
    # The optimum by search over a grid that holds it: halves, thirds and quarters of the gaps.
    for queries, parities in [(2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (3, 2), (3, 4), (3, 5)]:
        fixed = query_angles(queries)
        ours = parity_angles(queries, parities)
        assert len(set(ours) | set(fixed)) == queries + parities
        steps = 2 * queries * 6
        free = sorted({Fraction(i, steps) for i in range(steps + 1)} - set(fixed))
        wide = smallest_gap((*fixed, *ours))

        # Packing greedily from the left takes as many points as any choice could.
        chosen: list[Fraction] = []
        for angle in free:
            if all(abs(angle - other) > wide for other in (*fixed, *chosen)):
                chosen.append(angle)
        assert len(chosen) < parities, (queries, parities, chosen)


def test_unknown_node_set_is_named():
    with pytest.raises(ValueError, match="nodes must be one of"):
        worker_angles("chebyshev", 9)
