"""NeRCC: natural cubic smoothing splines encode and decode.

Source: P. Moradi, M. A. Maddah-Ali, "NeRCC: Nested-Regression Coded Computing", arXiv 2402.04377. The spline
u through points (x_j, y_j) minimises (1/n) sum_j (u(x_j) - y_j)^2 + smoothing * integral of u''^2; it
is linear in y (Reinsch 1967; Green and Silverman 1994, section 2.3), so the code is two matrices.
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.base import check_number
from approxifer_torchserve.codes.linear import LinearCode
from approxifer_torchserve.codes.nodes import positions, query_angles, worker_angles
from approxifer_torchserve.codes.plan import Mode
from approxifer_torchserve.codes.registry import Option, register_code

SMOOTH_ENCODE = 0.0
SMOOTH_DECODE = 1e-5


def spline_weights(nodes: Tensor, points: Tensor, smoothing: float) -> Tensor:
    """Returns the weights of the values at the nodes in their smoothing spline at some points.

    Args:
        nodes: float64 ``[n]``, distinct, in any order, n >= 1.
        points: float64 ``[m]``; beyond the outermost nodes the spline is a straight line.
        smoothing: At least 0; 0 interpolates, more comes closer to one straight line.

    Returns:
        float64 ``[m, n]``; each row sums to 1.
    """
    order = torch.argsort(nodes)
    x = nodes[order]
    values, curvatures = _smoother(x, smoothing)
    weights = torch.zeros(len(points), len(nodes), dtype=torch.float64, device="cpu")
    weights[:, order] = _evaluate(x, values, curvatures, points)
    return weights


def _smoother(x: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Returns values and second derivatives at the knots, both ``[n, n]`` matrices on y."""
    n = len(x)
    values = torch.eye(n, dtype=torch.float64, device="cpu")
    curvatures = torch.zeros(n, n, dtype=torch.float64, device="cpu")
    if n < 3:
        return values, curvatures
    h = x.diff()
    # Q maps values to differences of slopes, R inner curvatures to the same.
    q = torch.zeros(n, n - 2, dtype=torch.float64, device="cpu")
    inner = torch.arange(n - 2)
    q[inner, inner] = 1 / h[:-1]
    q[inner + 1, inner] = -1 / h[:-1] - 1 / h[1:]
    q[inner + 2, inner] = 1 / h[1:]
    r = torch.diag((h[:-1] + h[1:]) / 3)
    r += torch.diag(h[1:-1] / 6, 1) + torch.diag(h[1:-1] / 6, -1)
    # (R + n smoothing Q^T Q) gamma = Q^T y, values = y - n smoothing Q gamma.
    penalty = n * smoothing
    gamma = torch.linalg.solve(r + penalty * q.T @ q, q.T)
    curvatures[1:-1] = gamma
    return values - penalty * q @ gamma, curvatures


def _evaluate(x: Tensor, values: Tensor, curvatures: Tensor, points: Tensor) -> Tensor:
    n = len(x)
    if n == 1:
        return values.expand(len(points), 1).clone()
    right = torch.searchsorted(x, points).clamp(1, n - 1)
    left = right - 1
    h = (x[right] - x[left])[:, None]
    # Beyond the ends: the line with the spline's slope there, which has no curvature.
    before, after = (points - x[left])[:, None], (x[right] - points)[:, None]
    line = (before * values[right] + after * values[left]) / h
    bend = (1 + before / h) * curvatures[right] + (1 + after / h) * curvatures[left]
    inside = line - before * after * bend / 6
    slope = (values[right] - values[left]) / h
    low = values[left] + before * (slope - h * curvatures[right] / 6)
    high = values[right] - after * (slope + h * curvatures[left] / 6)
    outside = torch.where(before < 0, low, high)
    return torch.where((before < 0) | (after < 0), outside, inside)


@register_code(
    "spline",
    summary="Smoothing splines over K+S workers, approximate; every query is encoded.",
    paper="Moradi and Maddah-Ali, NeRCC, arXiv 2402.04377",
    options=(
        Option(
            "smooth_encode", "a number >= 0", SMOOTH_ENCODE, "Smoothing of the encoder's spline."
        ),
        Option(
            "smooth_decode", "a number >= 0", SMOOTH_DECODE, "Smoothing of the decoder's spline."
        ),
    ),
)
@dataclass(frozen=True)
class Spline(LinearCode):
    """The queries are points of one smooth curve, the answers of another.

    Query nodes are Chebyshev's of the first kind, worker nodes of the second (cos(i pi/N)). Any K
    of the K+S answers recover every query, approximately. Unlike ApproxIFER's, a wrong or bumpy
    answer is not interpolated but smoothed over.

    Attributes:
        smooth_encode: Smoothing of the encoder's spline; 0 interpolates the queries.
        smooth_decode: Smoothing of the decoder's spline; best found by measurement.
    """

    smooth_encode: float = SMOOTH_ENCODE
    smooth_decode: float = SMOOTH_DECODE

    name: ClassVar[str] = "spline"
    mode: ClassVar[Mode] = "coded"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_stragglers()
        for argument in ("smooth_encode", "smooth_decode"):
            check_number(argument, getattr(self, argument), 0)

    @property
    def num_workers(self) -> int:
        """N+1 = K+S."""
        return self.queries + self.stragglers

    @property
    def sources(self) -> tuple[int | None, ...]:
        """No coded query is a query; where nodes coincide, smoothing still mixes in others."""
        return (None,) * self.num_workers

    def _encoding_matrix(self) -> Tensor:
        return spline_weights(self._query_nodes(), self._worker_nodes(), self.smooth_encode)

    def _decoding_matrix(self, available: Tensor) -> Tensor:
        decoder = torch.zeros(self.queries, self.num_workers, dtype=torch.float64, device="cpu")
        nodes = self._worker_nodes()[available]
        decoder[:, available] = spline_weights(nodes, self._query_nodes(), self.smooth_decode)
        return decoder

    def _recoverable(self, available: Tensor) -> Tensor:
        enough = available.sum(dim=-1, keepdim=True) >= self.queries
        return enough.expand(*enough.shape[:-1], self.queries).clone()

    def _query_nodes(self) -> Tensor:
        return positions(query_angles(self.queries))

    def _worker_nodes(self) -> Tensor:
        return positions(worker_angles("paper", self.num_workers))
