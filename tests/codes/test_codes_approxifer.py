from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from code_cases import KINDS, QUERIES, STRAGGLERS, berrut_code, coded_patterns, erasures
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import FloaterHormannInterpolator

from approxifer_torchserve.codes import BerrutCode, NotRecoverableError
from approxifer_torchserve.codes.berrut import berrut_decoder
from approxifer_torchserve.codes.nodes import positions, query_angles

RECORDED = json.loads(Path(__file__).with_name("fixed_vectors.json").read_text(encoding="utf-8"))
every_family = pytest.mark.parametrize(
    ("kind", "stragglers"), [(kind, s) for kind in KINDS for s in STRAGGLERS]
)


def oracle(nodes: np.ndarray, points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Scipy's interpolant; it wants nodes in order."""
    order = np.argsort(nodes)
    return FloaterHormannInterpolator(nodes[order], values[order], d=0)(points)


@every_family
def test_encode_and_decode_are_scipys_interpolants(kind: str, stragglers: int):
    for queries in QUERIES:
        code = berrut_code(kind, queries, stragglers)
        alpha = positions(query_angles(queries)).numpy()
        beta = positions(code.worker_angles).numpy()
        values = torch.randn(queries, 3, dtype=torch.float64, generator=torch.manual_seed(queries))
        coded = code.encode(values)
        np.testing.assert_allclose(
            coded, oracle(alpha, beta, values.numpy()), rtol=1e-9, atol=1e-11
        )
        # Any nonlinear model will do: decode sees only its outputs.
        answers = torch.tanh(coded)
        for available in erasures(code):
            left = available.numpy()
            expected = oracle(beta[left], alpha, answers.numpy()[left])
            decoded = code.decode(answers, available)
            np.testing.assert_allclose(decoded, expected, rtol=1e-9, atol=1e-11)


@every_family
def test_rows_sum_to_one_constants_stay_and_weights_stay_small(kind: str, stragglers: int):
    # Worst cases: few answers left, all on one side. 2 queries and 4 lost of 6 reach 24.5; a
    # decoder that alternates over original indices passes 100 (see the next test).
    bound = {1: 6.0, 2: 11.0, 3: 17.0, 4: 25.0}[stragglers]
    for queries in QUERIES:
        code = berrut_code(kind, queries, stragglers)
        encoder = code.encoding_matrix()
        torch.testing.assert_close(encoder.sum(1), torch.ones(len(encoder), dtype=torch.float64))
        assert encoder.abs().sum(1).max() < 3
        constant = torch.full((queries, 2), 0.7, dtype=torch.float64)
        answers = torch.exp(code.encode(constant))
        for available in erasures(code):
            decoder = code.decoding_matrix(available)
            torch.testing.assert_close(decoder.sum(1), torch.ones(queries, dtype=torch.float64))
            assert (decoder[:, ~available] == 0).all()
            assert decoder.abs().sum(1).max() < bound
            torch.testing.assert_close(
                code.decode(answers, available), torch.exp(constant), rtol=1e-12, atol=0
            )


def test_alternating_over_original_indices_would_be_far_worse():
    code = berrut_code("authors", 8, 1)
    alpha, beta = positions(query_angles(8)), positions(code.worker_angles)
    signs = torch.tensor([(-1.0) ** i for i in range(9)], dtype=torch.float64)
    ours, theirs = [], []
    for lost in range(9):
        available = torch.ones(9, dtype=torch.bool)
        available[lost] = False
        ours.append(code.decoding_matrix(available).abs().sum(1).max().item())
        naive = (signs / (alpha[:, None] - beta))[:, available]
        naive = naive / naive.sum(1, keepdim=True)
        theirs.append(naive.abs().sum(1).max().item())
    # docs/codes.md quotes both.
    assert max(ours) == pytest.approx(4.47, abs=0.01)
    assert max(theirs) == pytest.approx(69.7, abs=0.1)


@every_family
def test_exact_hits_are_copied(kind: str, stragglers: int):
    hits = 0
    for queries in QUERIES:
        code = berrut_code(kind, queries, stragglers)
        values = torch.randn(queries, 5)
        coded = code.encode(values)
        answers = torch.sin(coded)
        for worker, query in enumerate(code.sources):
            if query is None:
                continue
            hits += 1
            assert torch.equal(coded[worker], values[query])
            for available in erasures(code):
                if available[worker]:
                    assert torch.equal(code.decode(answers, available)[query], answers[worker])
    if kind == "systematic":
        assert hits == sum(QUERIES)


def test_nodes_that_coincide_are_hits_and_not_divisions_by_zero():
    # K=2: alpha = 1/4, 3/4 of pi; paper, N+1=5: beta = 0, 1/4, 1/2, 3/4, 1.
    code = berrut_code("paper", 2, 3)
    assert code.sources == (None, 0, None, 1, None)
    assert code.plan().systematic == code.sources
    assert torch.isfinite(code.encoding_matrix()).all()


@given(coded_patterns())
@settings(max_examples=200, deadline=None)
def test_any_k_answers_recover_every_query(case: tuple[BerrutCode, torch.Tensor]):
    code, available = case
    assert code.recoverable(available).all()
    decoded = code.decode(torch.randn(code.num_workers, 2), available)
    assert decoded.shape == (code.queries, 2)
    assert torch.isfinite(decoded).all()


@given(coded_patterns(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_of_workers_does_not_matter(case, random):
    code, available = case
    order = list(range(code.num_workers))
    random.shuffle(order)
    answers = torch.randn(code.num_workers, 3, dtype=torch.float64)
    beta, alpha = positions(code.worker_angles), positions(query_angles(code.queries))
    shuffled = berrut_decoder(beta[order], alpha, available[order]) @ answers[order]
    torch.testing.assert_close(shuffled, code.decode(answers, available), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", sorted(RECORDED))
def test_distance_from_the_identity_is_as_recorded(case: str):
    queries, stragglers, kind = case.split()
    code = berrut_code(kind, int(queries[2:]), int(stragglers[2:]))
    identity = torch.eye(code.queries, dtype=torch.float64)
    for lost, recorded in RECORDED[case].items():
        available = torch.ones(code.num_workers, dtype=torch.bool)
        available[[int(i) for i in lost.split(",") if i]] = False
        error = code.decoding_matrix(available) @ code.encoding_matrix() - identity
        assert error.abs().max().item() == pytest.approx(recorded, abs=2e-7), lost


def test_classic_is_not_the_identity_with_every_answer_in_and_systematic_is():
    assert RECORDED["K=8 S=1 paper"][""] == pytest.approx(0.2751, abs=1e-4)
    assert RECORDED["K=8 S=1 authors"][""] == pytest.approx(0.2909, abs=1e-4)
    values = torch.randn(8, 4)
    code = berrut_code("systematic", 8, 1)
    everything = torch.ones(9, dtype=torch.bool)
    assert torch.equal(code.decode(code.encode(values), everything), values)


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_answers_name_the_queries(kind: str):
    code = berrut_code(kind, 8, 1)
    available = torch.ones(9, dtype=torch.bool)
    available[[2, 5]] = False
    lost = (2, 5) if kind == "systematic" else tuple(range(8))
    expected = torch.tensor([j not in lost for j in range(8)])
    assert torch.equal(code.recoverable(available), expected)
    with pytest.raises(NotRecoverableError, match=r"queries \[") as caught:
        code.decode(torch.zeros(9, 2), available)
    assert caught.value.queries == lost
    with pytest.raises(NotRecoverableError):
        code.decoding_matrix(available)


@pytest.mark.parametrize("kind", KINDS)
def test_byzantine_codes_have_their_workers(kind: str):
    code = berrut_code(kind, 8, 1, byzantine=2)
    assert code.num_workers == 2 * (8 + 2) + 1
    assert code.plan().quorum == 20
    everything = torch.ones(21, dtype=torch.bool)
    # Wrong answers that someone else found can be left out: 21 - S - E are enough, not fewer.
    answers = code.encode(torch.ones(8, 3))
    everything[:3] = False
    torch.testing.assert_close(code.decode(answers, everything), torch.ones(8, 3))
    everything[-1] = False
    assert not code.recoverable(everything).all() or kind == "systematic"


def test_without_byzantine_workers_nothing_is_located():
    code = berrut_code("authors", 4, 2)
    answers = torch.zeros(2, 6, 3)
    located = code.locate(answers, torch.ones(6, dtype=torch.bool), batch_dims=1)
    assert torch.equal(located, torch.zeros(2, 6, dtype=torch.bool))
