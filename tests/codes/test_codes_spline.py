from __future__ import annotations

import pytest
import torch
from scipy.interpolate import CubicSpline, make_smoothing_spline

from approxifer_torchserve.codes import NotRecoverableError, make_code
from approxifer_torchserve.codes.spline import spline_weights


def knots(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(count)
    x = torch.rand(count, generator=draw, dtype=torch.float64) * 2 - 1
    return x, torch.randn(count, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("count", [5, 8, 13])
@pytest.mark.parametrize("smoothing", [1e-6, 1e-3, 0.1, 10.0])
def test_scipys_smoothing_spline_is_the_same(count: int, smoothing: float):
    x, y = knots(count)
    order = x.argsort()
    # scipy's penalty stands beside a sum, NeRCC's beside a mean.
    oracle = make_smoothing_spline(x[order].numpy(), y[order].numpy(), lam=float(count * smoothing))
    points = torch.linspace(x.min().item(), x.max().item(), 50, dtype=torch.float64)
    found = spline_weights(x, points, smoothing) @ y
    torch.testing.assert_close(found, torch.from_numpy(oracle(points.numpy())))


@pytest.mark.parametrize("count", [3, 4, 9])
def test_without_smoothing_it_is_the_natural_spline_and_a_line_beyond(count: int):
    x, y = knots(count)
    order = x.argsort()
    oracle = CubicSpline(x[order].numpy(), y[order].numpy(), bc_type="natural")
    points = torch.linspace(x.min().item(), x.max().item(), 50, dtype=torch.float64)
    torch.testing.assert_close(
        spline_weights(x, points, 0.0) @ y, torch.from_numpy(oracle(points.numpy()))
    )
    for end, way in ((x.min(), -1.0), (x.max(), 1.0)):
        beyond = end + way * torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
        line = oracle(end.item()) + oracle(end.item(), 1) * (beyond - end).numpy()
        torch.testing.assert_close(
            spline_weights(x, beyond, 0.0) @ y, torch.from_numpy(line), rtol=1e-9, atol=1e-9
        )


def test_one_or_two_knots_are_a_constant_or_a_line():
    points = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    one = spline_weights(torch.zeros(1, dtype=torch.float64), points, 1.0)
    assert one.tolist() == [[1.0]] * 3
    two = spline_weights(torch.tensor([1.0, 0.0], dtype=torch.float64), points, 1.0)
    assert (two @ torch.tensor([3.0, 1.0], dtype=torch.float64)).tolist() == [-1.0, 1.0, 5.0]


@pytest.mark.parametrize("queries", [2, 5, 8])
@pytest.mark.parametrize("smooth", [0.0, 1e-3, 1.0])
def test_equal_queries_are_decoded_exactly_from_any_k_answers(queries: int, smooth: float):
    code = make_code(
        "spline", queries=queries, stragglers=2, smooth_encode=smooth, smooth_decode=smooth
    )
    same = torch.randn(1, 7, dtype=torch.float64).expand(queries, 7)
    coded = code.encode(same)
    for lost in range(code.num_workers - 1):
        available = torch.ones(code.num_workers, dtype=torch.bool)
        available[[lost, lost + 1]] = False
        torch.testing.assert_close(code.decode(coded, available), same)
    available[:3] = False
    with pytest.raises(NotRecoverableError, match=f"any {queries} answers are enough"):
        code.decode(coded, available)


def test_interpolating_both_ways_comes_near_the_identity_when_nothing_is_lost():
    def distance(**options: float) -> float:
        code = make_code("spline", queries=8, stragglers=8, **options)
        everything = torch.ones(16, dtype=torch.bool)
        product = code.decoding_matrix(everything) @ code.encoding_matrix()
        return (product - torch.eye(8)).abs().max().item()

    assert distance(smooth_decode=0.0) < 0.1
    assert distance(smooth_decode=1.0) > 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"stragglers": 0}, ValueError, "stragglers must be at least 1"),
        ({"byzantine": 1}, ValueError, "byzantine must be 0 for code 'spline'"),
        ({"smooth_encode": -1.0}, ValueError, "smooth_encode must be finite and at least 0"),
        ({"smooth_decode": "much"}, TypeError, "smooth_decode must be a number, got 'much'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        make_code("spline", **{"queries": 4, "stragglers": 1, **arguments})
