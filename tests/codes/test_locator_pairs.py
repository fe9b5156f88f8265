from __future__ import annotations

import itertools

import pytest
import torch

from approxifer_torchserve.codes import NotRecoverableError, Pairs, make_code


def pairs(queries: int, byzantine: int, stragglers: int = 0, **options: object) -> Pairs:
    code = make_code(
        "pairs", queries=queries, stragglers=stragglers, byzantine=byzantine, **options
    )
    assert isinstance(code, Pairs)
    return code


def mask_without(code: Pairs, lost: tuple[int, ...]) -> torch.Tensor:
    mask = torch.ones(code.num_workers, dtype=torch.bool)
    mask[list(lost)] = False
    return mask


@pytest.mark.parametrize("byzantine", [0, 1, 2, 3])
@pytest.mark.parametrize("queries", [2, 3, 4, 8, 12, 16])
def test_the_graph_is_nearly_regular(queries: int, byzantine: int):
    code = pairs(queries, byzantine, stragglers=1)
    assert code.num_workers == 2 * (queries + byzantine) + 1
    assert len(code.edges) == code.num_workers - queries
    degree = [sum(j in edge for edge in code.edges) for j in range(queries)]
    assert min(degree) >= 2
    assert max(degree) - min(degree) <= 1
    assert all(a != b for a, b in code.edges)
    # No pair twice while another is unused.
    if len(code.edges) <= queries * (queries - 1) // 2:
        assert len({frozenset(edge) for edge in code.edges}) == len(code.edges)
    matrix = code.encoding_matrix()
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(code.num_workers).double())
    assert torch.equal(matrix[:queries], torch.eye(queries).double())


def test_its_shape_is_pinned():
    assert pairs(8, 1).edges == (
        *((j, (j + 1) % 8) for j in range(8)),
        (0, 4),
        (2, 6),
    )


@pytest.mark.parametrize(("queries", "byzantine", "stragglers"), [(4, 1, 1), (5, 2, 0), (8, 1, 1)])
def test_a_linear_model_is_decoded_exactly_whatever_is_lost(
    queries: int, byzantine: int, stragglers: int
):
    code = pairs(queries, byzantine, stragglers)
    assert code.plan().quorum == code.num_workers - stragglers
    truth = torch.randn(queries, 3, generator=torch.manual_seed(0), dtype=torch.float64)
    coded = code.encode(truth)
    for lost in itertools.combinations(range(code.num_workers), byzantine + stragglers):
        decoded = code.decode(coded, mask_without(code, lost))
        torch.testing.assert_close(decoded, truth, rtol=0, atol=1e-9)


def test_an_answer_that_came_is_the_prediction():
    code = pairs(8, 1)
    answers = torch.randn(18, 4, generator=torch.manual_seed(1))
    decoded = code.decode(answers, mask_without(code, (3,)))
    kept = [j for j in range(8) if j != 3]
    assert torch.equal(decoded[kept], answers[kept])


def test_a_query_and_all_its_mixtures_lost_cannot_be_recovered():
    code = pairs(8, 1)
    around = tuple(8 + row for row, edge in enumerate(code.edges) if 1 in edge)
    available = mask_without(code, (1, *around))
    assert code.recoverable(available).tolist() == [j != 1 for j in range(8)]
    with pytest.raises(NotRecoverableError) as caught:
        code.decode(torch.zeros(18, 2), available)
    assert caught.value.queries == (1,)
    # Two losses may hit a query of degree 2 and one mixture; three its other mixture as well.
    assert pairs(8, 1, 2).plan().quorum == 18
    assert pairs(16, 3).plan().quorum is None


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="queries must be at least 2"):
        pairs(1, 1)
    for share in (0.4, 1.0):
        with pytest.raises(ValueError, match=r"share must be at least 0\.5 and below 1"):
            pairs(4, 1, share=share)
    with pytest.raises(TypeError, match="share must be a number"):
        pairs(4, 1, share="much")
    with pytest.raises(TypeError, match="locator must be a Locator"):
        pairs(4, 1, locator="network")
