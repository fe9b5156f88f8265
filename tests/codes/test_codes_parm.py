from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from code_cases import erasures, mask_without
from hypothesis import given, settings
from hypothesis import strategies as st

from approxifer_torchserve.codes import Code, NotRecoverableError, ParM, make_code


def parm(queries: int, stragglers: int) -> Code:
    return make_code("parm", queries=queries, stragglers=stragglers)


@st.composite
def patterns(draw: st.DrawFn, least_lost: int = 0) -> tuple[Code, torch.Tensor]:
    """A code and a pattern of at most S lost answers."""
    code = parm(draw(st.integers(2, 12)), draw(st.integers(max(1, least_lost), 4)))
    lost = draw(
        st.sets(st.integers(0, code.num_workers - 1), min_size=least_lost, max_size=code.stragglers)
    )
    return code, mask_without(code, tuple(lost))


def solved(code: Code, answers: np.ndarray, available: np.ndarray) -> np.ndarray:
    """What the answers that came say, by numpy's least squares; written down again."""
    k = code.queries
    weights = np.array([[(i + 1.0) ** j for i in range(k)] for j in range(code.stragglers)])
    predictions = np.where(available[:k, None], answers[:k], 0.0)
    lost, rows = np.flatnonzero(~available[:k]), np.flatnonzero(available[k:])
    size = np.sqrt((weights[rows] ** 2).sum(axis=1, keepdims=True))
    rest = (answers[k:][rows] - weights[rows] @ predictions) / size
    predictions[lost] = np.linalg.lstsq(weights[rows][:, lost] / size, rest, rcond=None)[0]
    return predictions


def test_the_papers_code_is_a_sum_and_a_difference():
    code = parm(3, 1)
    queries = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    coded = code.encode(queries)
    assert coded.tolist() == [*queries.tolist(), [111.0, 222.0]]
    answers = torch.tensor([[1.0], [2.0], [float("nan")], [7.5]])
    decoded = code.decode(answers, mask_without(code, (2,)))
    assert decoded.tolist() == [[1.0], [2.0], [4.5]]


def test_two_parities_are_the_papers_example():
    assert parm(2, 2).encode(torch.eye(2))[2:].tolist() == [[1.0, 1.0], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("lost", "answers", "predictions"),
    [
        # f = (5, 7, 11): sums 23, 52, 132; solved with pencil and paper.
        ((0,), (0, 7, 11, 23, 52), (5, 7, 11)),
        ((0, 2), (0, 7, 0, 23, 52), (5, 7, 11)),
        ((2, 3), (5, 7, 0, 0, 52), (5, 7, 11)),
        ((2, 4), (5, 7, 0, 23, 0), (5, 7, 11)),
        # Parities that are off: by 1 in the sum, of which the one lost query gets all; by 3 in the
        # second, of which query 2 gets a third.
        ((2, 4), (5, 7, 0, 24, 0), (5, 7, 12)),
        ((2, 3), (5, 7, 0, 0, 55), (5, 7, 12)),
        ((0, 1), (0, 0, 11, 24, 52), (7, 6, 11)),
    ],
)
def test_fixed_vectors(lost: tuple[int, ...], answers: tuple, predictions: tuple):
    code = parm(3, 2)
    came = torch.tensor(answers, dtype=torch.float64)[:, None]
    decoded = code.decode(came, mask_without(code, lost))
    torch.testing.assert_close(decoded[:, 0].tolist(), [float(p) for p in predictions])


@given(patterns(), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_numpy_solves_for_the_same_predictions(case: tuple[Code, torch.Tensor], seed: int):
    code, available = case
    draw = np.random.default_rng(seed)
    answers = draw.normal(size=(code.num_workers, 3))
    expected = solved(code, answers, available.numpy())
    decoded = code.decode(torch.from_numpy(answers), available).numpy()
    np.testing.assert_allclose(decoded, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())


@given(patterns(), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_perfect_parities_give_the_predictions_back(case: tuple[Code, torch.Tensor], seed: int):
    code, available = case
    generator = torch.Generator().manual_seed(seed)
    predictions = torch.randn(code.queries, 4, dtype=torch.float64, generator=generator)
    # A linear model is its own perfect parity.
    decoded = code.decode(code.encode(predictions), available)
    torch.testing.assert_close(decoded, predictions, rtol=1e-8, atol=1e-8)
    own = available[: code.queries]
    assert torch.equal(decoded[own], predictions[own])


@given(patterns(least_lost=1))
@settings(max_examples=100, deadline=None)
def test_recoverable_is_what_the_equations_determine(case: tuple[Code, torch.Tensor]):
    code, _ = case
    # Any mask, beyond S losses too.
    for count in range(code.num_workers + 1):
        available = torch.zeros(code.num_workers, dtype=torch.bool)
        available[torch.randperm(code.num_workers)[:count]] = True
        rows = code.encoding_matrix()[available].numpy()
        rank = np.linalg.matrix_rank(rows) if count else 0
        determined = [
            (np.linalg.matrix_rank(np.vstack([rows, unit])) if count else 1) == rank
            for unit in np.eye(code.queries)
        ]
        assert code.recoverable(available).tolist() == determined


def determinant(rows: list[list[Fraction]]) -> Fraction:
    if not rows:
        return Fraction(1)
    total = Fraction(0)
    for column, value in enumerate(rows[0]):
        rest = [row[:column] + row[column + 1 :] for row in rows[1:]]
        total += (-1) ** column * value * determinant(rest)
    return total


def test_no_minor_of_the_parities_is_zero():
    for queries, stragglers in ((2, 2), (6, 3), (8, 4)):
        matrix = [[Fraction(i + 1) ** j for i in range(queries)] for j in range(stragglers)]
        found = parm(queries, stragglers).encoding_matrix()[queries:]
        assert found.tolist() == [[float(value) for value in row] for row in matrix]
        for size in range(1, min(stragglers, queries) + 1):
            for rows in itertools.combinations(matrix, size):
                for columns in itertools.combinations(range(queries), size):
                    # Positive, even: columns ascend, and so do the exponents.
                    assert determinant([[row[c] for c in columns] for row in rows]) > 0


def test_parities_have_weights_of_their_own():
    assert parm(2, 1).models == ("base", "base", "parity")
    assert parm(2, 1).roles == ("parity",)
    assert parm(3, 2).models == ("base", "base", "base", "parity0", "parity1")
    assert parm(3, 2).roles == ("parity0", "parity1")
    plan = parm(8, 2).plan()
    assert (plan.mode, plan.num_workers, plan.quorum) == ("systematic", 10, 8)
    assert plan.systematic == (*range(8), None, None)


def test_a_lost_query_without_enough_parities_is_named():
    code = parm(4, 2)
    available = mask_without(code, (1, 3, 5))
    assert code.recoverable(available).tolist() == [True, False, True, False]
    with pytest.raises(NotRecoverableError, match=r"queries \[1, 3\].*any 4 answers are enough"):
        code.decode(torch.zeros(6, 2), available)


def test_every_pattern_of_a_small_code_weighs_no_more_than_it_must():
    # With one parity a lost query's row is +-1 throughout: nothing is amplified.
    code = parm(8, 1)
    for available in erasures(code):
        decoder = code.decoding_matrix(available)
        assert decoder.abs().max() == 1
        assert (decoder[:, ~available] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"queries": 1}, ValueError, "queries must be at least 2 to be added up, got 1"),
        ({"stragglers": 0}, ValueError, "stragglers must be at least 1"),
        ({"byzantine": 1}, ValueError, "byzantine must be 0 for code 'parm', got 1"),
        ({"stragglers": 1.0}, TypeError, "stragglers must be an integer"),
        ({"nodes": "paper"}, ValueError, "no option 'nodes': it has none"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        make_code("parm", **{"queries": 4, "stragglers": 1, **arguments})


def test_it_is_exported():
    assert isinstance(parm(4, 1), ParM)
