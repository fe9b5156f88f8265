"""Berrut's rational interpolation as matrices.

Source: J.-P. Berrut, "Rational functions for guaranteed and experimentally well-conditioned global
interpolation", 1988: u(z) = sum_j w_j(z) y_j with w_j(z) = ((-1)^j / (z - x_j)) / sum_l (-1)^l / (z - x_l),
the nodes x_j in order. It has no poles on the real line, whatever the nodes.
"""  # noqa: E501

from __future__ import annotations

import torch
from torch import Tensor


def berrut_weights(nodes: Tensor, points: Tensor) -> Tensor:
    """Weights of the values at the nodes in Berrut's interpolant at some points.

    The sign alternates over the nodes by position, whatever the order they are given in. A point
    that equals a node takes that node's value alone.

    Args:
        nodes: float64 ``[n]``, distinct, n >= 1.
        points: float64 ``[m]``, where the interpolant is read.

    Returns:
        float64 ``[m, n]``; each row sums to 1.

    Raises:
        ValueError: A node appears twice, there is none, or shapes are not ``[n]`` and ``[m]``.
    """
    if nodes.dim() != 1 or points.dim() != 1 or len(nodes) == 0:
        raise ValueError(
            f"nodes and points must be vectors and nodes not empty, got shapes "
            f"{tuple(nodes.shape)} and {tuple(points.shape)}"
        )
    if len(torch.unique(nodes)) != len(nodes):
        raise ValueError(f"nodes must be distinct, got {nodes.tolist()}")
    signs = torch.ones_like(nodes)
    signs[torch.argsort(nodes, descending=True)[1::2]] = -1.0
    distance = points[:, None] - nodes[None, :]
    hit = distance == 0.0
    distance = torch.where(hit, 1.0, distance)
    # Scaled by the row's nearest node, so that no quotient overflows however near that is.
    terms = signs * (distance.abs().amin(dim=1, keepdim=True) / distance)
    weights = terms / terms.sum(dim=1, keepdim=True)
    return torch.where(hit.any(dim=1, keepdim=True), hit.to(weights.dtype), weights)


def berrut_decoder(worker_nodes: Tensor, query_nodes: Tensor, available: Tensor) -> Tensor:
    """Matrix from the answers that came to the interpolant at the query nodes.

    The sign alternates over the *remaining* nodes. Over the original indices two neighbours of a
    lost node would carry the same sign, and the weights' magnitudes would sum to 20-1400.

    Args:
        worker_nodes: float64 ``[N+1]``, one position for each coded query.
        query_nodes: float64 ``[K]``, one position for each query.
        available: bool ``[N+1]``, at least one of them true.

    Returns:
        float64 ``[K, N+1]``; columns of answers that did not come are 0.
    """
    decoder = torch.zeros(len(query_nodes), len(worker_nodes), dtype=torch.float64, device="cpu")
    decoder[:, available] = berrut_weights(worker_nodes[available], query_nodes)
    return decoder
