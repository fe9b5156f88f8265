"""Answers of all codes to the same groups, with each different coded query computed once.

Systematic codes, replication and no code at all share the model's own predictions; codes that
differ only in how they decode share every forward.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes import Code, LinearCode
from approxifer_torchserve.codes.pytree import PyTree

Forward = Callable[[PyTree], PyTree]
"""The model on a batch: leaves ``[n, *q]`` to leaves ``[n, *p]``."""


class SharedForwards:
    """Works out which coded queries several codes have in common.

    Args:
        codes: Codes with the same K.

    Raises:
        ValueError: Their K differ, or one needs other weights than the model's own.

    Example:
        >>> from approxifer_torchserve.codes import make_code
        >>> codes = [
        ...     make_code(name, queries=4, stragglers=1) for name in ("approxifer", "replication")
        ... ]
        >>> SharedForwards(codes).forwards_per_group
        5
    """

    def __init__(self, codes: Sequence[Code]) -> None:
        self.codes = tuple(codes)
        sizes = {code.queries for code in codes}
        if len(sizes) != 1:
            raise ValueError(f"codes: expected one value of queries, got {sorted(sizes)}")
        (self.queries,) = sizes
        # For each code, where each coded query's answer is found: 0..K-1 are the queries' own.
        self._places: list[list[int]] = []
        # For each code, its coded queries that no code before it has.
        self._new: list[list[int]] = []
        known: dict[Hashable, int] = {}
        for code in codes:
            if set(code.models) != {"base"}:
                raise ValueError(
                    f"codes: {code!r} needs the weights {sorted(set(code.models))}; only codes "
                    "that use the model's own can be measured here"
                )
            places, new = [], []
            for worker, key in enumerate(_keys(code)):
                if isinstance(key, int):
                    places.append(key)
                    continue
                if key not in known:
                    known[key] = self.queries + len(known)
                    new.append(worker)
                places.append(known[key])
            self._places.append(places)
            self._new.append(new)
        self.forwards_per_group = self.queries + len(known)

    def __call__(
        self, forward: Forward, queries: PyTree, batch_size: int = 512
    ) -> tuple[PyTree, list[PyTree]]:
        """Compute the answers of all codes.

        Args:
            forward: The model.
            queries: Leaves ``[G, K, *q]``.
            batch_size: The most queries in one forward.

        Returns:
            Predictions ``[G, K, *p]``, and for each code its answers ``[G, N+1, *p]``. Floating
            point of less than 32 bits is widened, so that decoding does not round again.

        Raises:
            TypeError: A code combines linearly and an input is not floating point.
        """
        parts = [queries]
        for code, new in zip(self.codes, self._new, strict=True):
            if new:
                parts.append(_pick(code.encode(queries, batch_dims=1), new))
        joined = parts[0]
        if len(parts) > 1:
            joined = pytree.tree_map(lambda *leaves: torch.cat(leaves, dim=1), *parts)
        answers = _in_batches(forward, joined, batch_size)
        picked = [_pick(answers, places) for places in self._places]
        return pytree.tree_map(lambda t: t[:, : self.queries], answers), picked


def _pick(tree: PyTree, columns: list[int]) -> PyTree:
    def pick(leaf: Tensor) -> Tensor:
        return leaf.index_select(1, torch.tensor(columns, device=leaf.device))

    return pytree.tree_map(pick, tree)


def _keys(code: Code) -> list[Hashable]:
    """Name each coded query: by its query's index, by its row of G, or as this code's own."""
    rows = code.encoding_matrix() if isinstance(code, LinearCode) else None
    keys: list[Hashable] = []
    for worker, source in enumerate(code.sources):
        if source is not None:
            keys.append(source)
        elif rows is not None:
            keys.append(tuple(round(weight, 12) for weight in rows[worker].tolist()))
        else:
            keys.append((code, worker))
    return keys


def _in_batches(forward: Forward, queries: PyTree, batch_size: int) -> PyTree:
    leaves, spec = pytree.tree_flatten(queries)
    groups, rows = leaves[0].shape[:2]
    flat = [leaf.flatten(0, 1) for leaf in leaves]
    results = []
    for start in range(0, groups * rows, batch_size):
        chunk = [leaf[start : start + batch_size] for leaf in flat]
        results.append(forward(pytree.tree_unflatten(chunk, spec)))

    def join(*parts: Tensor) -> Tensor:
        if not isinstance(parts[0], Tensor):
            raise TypeError(f"the model: expected tensors out, got {type(parts[0]).__name__}")
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        if len(whole) != groups * rows:
            raise ValueError(
                f"the model: expected one prediction for each of {groups * rows} queries on axis "
                f"0, got shape {tuple(whole.shape)}; choose the right part by outputs"
            )
        whole = whole.detach()
        if whole.is_floating_point() and whole.element_size() < 4:
            whole = whole.float()
        return whole.reshape(groups, rows, *whole.shape[1:])

    return pytree.tree_map(join, *results)
