"""Which queries form a group, and in which order they sit on the nodes of a code.

Neighbours on the curve of an interpolating code help each other, so alike neighbours cost less.
Both functions look at inputs only, and take a few distances.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes.pytree import PyTree

Order = Literal["arrival", "similarity", "grouped"]
"""As they came; each group put in order; or groups of alike queries picked from all, in order."""


def order_by_similarity(queries: PyTree) -> Tensor:
    """Orders the queries of each group along a short path from one to the next alike.

    From each query in turn the nearest unvisited one follows; the shortest of these K paths wins.

    Args:
        queries: Leaves ``[G, K, *q]``, groups as they are.

    Returns:
        int64 ``[G, K]``: which query of the group goes where.

    Example:
        >>> order_by_similarity(torch.tensor([[[0.0], [9.0], [1.0], [8.0]]])).tolist()
        [[0, 2, 3, 1]]
    """
    features = _features(queries, lead=2)
    groups, size = features.shape[:2]
    distance = torch.cdist(features, features)
    rows = torch.arange(groups)
    best = torch.full((groups,), torch.inf)
    paths = torch.zeros(groups, size, dtype=torch.int64)
    for start in range(size):
        here = torch.full((groups,), start)
        visited = torch.zeros(groups, size, dtype=torch.bool)
        path, length = [here], torch.zeros(groups)
        visited[:, start] = True
        for _ in range(size - 1):
            steps = distance[rows, here].masked_fill(visited, torch.inf)
            step, here = steps.min(dim=1)
            visited[rows, here] = True
            length = length + step
            path.append(here)
        shorter = length < best
        best = torch.where(shorter, length, best)
        paths = torch.where(shorter[:, None], torch.stack(path, dim=1), paths)
    return paths


def group_alike(queries: PyTree, size: int) -> Tensor:
    """Picks groups of alike queries from a larger batch.

    The query farthest from the mean opens a group, its nearest ones join it; and again.

    Args:
        queries: Leaves ``[B, *q]``, B at least K to make a group.
        size: K, how many queries form a group.

    Returns:
        int64 ``[B // K, K]``: which queries form which group, each at most once.

    Example:
        >>> group_alike(torch.tensor([[0.0], [9.0], [1.0], [8.0]]), 2).tolist()
        [[0, 2], [1, 3]]
    """
    features = _features(queries, lead=1)
    distance = torch.cdist(features, features)
    odd = (features - features.mean(dim=0)).norm(dim=1)
    free = torch.ones(len(features), dtype=torch.bool)
    groups = []
    for _ in range(len(features) // size):
        opener = int(odd.masked_fill(~free, -1.0).argmax())
        near = distance[opener].masked_fill(~free, torch.inf)
        near[opener] = -1.0
        chosen = near.argsort(stable=True)[:size]
        free[chosen] = False
        groups.append(chosen)
    return torch.stack(groups) if groups else torch.zeros(0, size, dtype=torch.int64)


def take(tree: PyTree, index: Tensor) -> PyTree:
    """Picks queries out of a batch.

    Args:
        tree: Leaves ``[B, *q]``, queries or targets.
        index: int64 ``[G, K]``, which of the B go into which group.

    Returns:
        Leaves ``[G, K, *q]``.
    """
    return pytree.tree_map(lambda leaf: leaf[index.to(leaf.device)], tree)


def _features(tree: PyTree, lead: int) -> Tensor:
    leaves = [leaf.detach().cpu().float().flatten(lead) for leaf in pytree.tree_leaves(tree)]
    return torch.cat(leaves, dim=lead)
