from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import FloaterHormannInterpolator

from approxifer_torchserve.codes.berrut import berrut_decoder, berrut_weights

# Distinct by construction: integers on a fine grid.
grid = st.integers(-1000, 1000)
node_lists = st.lists(grid, min_size=2, max_size=20, unique=True)


def on_grid(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64) / 1000


@settings(deadline=None)
@given(node_lists, st.lists(grid, min_size=1, max_size=20))
def test_weights_are_scipys_floater_hormann_of_degree_0(nodes: list[int], points: list[int]):
    ordered = np.sort(on_grid(nodes).numpy())
    oracle = FloaterHormannInterpolator(ordered, np.eye(len(nodes)), d=0)(on_grid(points).numpy())
    ours = berrut_weights(torch.from_numpy(ordered), on_grid(points))
    np.testing.assert_allclose(ours.numpy(), oracle, rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(node_lists, st.lists(grid, min_size=1, max_size=20))
def test_rows_sum_to_one(nodes: list[int], points: list[int]):
    weights = berrut_weights(on_grid(nodes), on_grid(points))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(points), dtype=torch.float64))


@settings(deadline=None)
@given(node_lists)
def test_a_point_on_a_node_takes_its_value_alone(nodes: list[int]):
    x = on_grid(nodes)
    assert torch.equal(berrut_weights(x, x), torch.eye(len(x), dtype=torch.float64))


@settings(deadline=None)
@given(st.data(), node_lists, st.lists(grid, min_size=1, max_size=9))
def test_permuting_the_workers_permutes_the_columns(
    data: st.DataObject, nodes: list[int], points: list[int]
):
    order = data.draw(st.permutations(range(len(nodes))))
    mask = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=len(nodes), max_size=len(nodes)))
    )
    mask[data.draw(st.integers(0, len(nodes) - 1))] = True
    x, z = on_grid(nodes), on_grid(points)
    permuted = berrut_decoder(x[order], z, mask[order])
    torch.testing.assert_close(permuted, berrut_decoder(x, z, mask)[:, order], rtol=1e-9, atol=0)


def test_points_next_to_a_node_neither_overflow_nor_divide_by_zero():
    nodes = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    weights = berrut_weights(nodes, torch.tensor([5e-324, 1e-300, -1e-17], dtype=torch.float64))
    expected = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64).expand(3, 3)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("nodes", "points", "word"),
    [([0.0, 1.0, 0.0], [0.5], "distinct"), ([], [0.5], "nodes"), ([[0.0]], [0.5], "nodes")],
)
def test_bad_nodes_are_named(nodes: list[float], points: list[float], word: str):
    with pytest.raises(ValueError, match=word):
        berrut_weights(
            torch.tensor(nodes, dtype=torch.float64), torch.tensor(points, dtype=torch.float64)
        )
