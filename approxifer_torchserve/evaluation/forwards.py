"""Answers of all codes to the same groups, with each different coded query computed once.

Systematic codes, replication and no code at all share the model's own predictions; codes that
differ only in how they decode share every forward.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes import Code, LinearCode
from approxifer_torchserve.codes.base import BASE
from approxifer_torchserve.codes.pytree import PyTree

Forward = Callable[[PyTree], PyTree]
"""The model on a batch: leaves ``[n, *q]`` to leaves ``[n, *p]``."""
"""The user's model, among the names in a code's ``models``."""


class SharedForwards:
    """Works out which coded queries several codes have in common.

    Args:
        codes: Codes with the same K.
        weights: For each name in the codes' ``roles`` what answers its coded queries: a model, or
            any function that maps a batch as the base model does.

    Raises:
        ValueError: Their K differ, or ``weights`` lack a name or have one that no code uses.

    Example:
        >>> from approxifer_torchserve.codes import make_code
        >>> codes = [
        ...     make_code(name, queries=4, stragglers=1) for name in ("approxifer", "replication")
        ... ]
        >>> SharedForwards(codes).forwards_per_group
        5
    """

    def __init__(self, codes: Sequence[Code], weights: Mapping[str, Forward] | None = None) -> None:
        self.codes = tuple(codes)
        self.weights = dict(weights or {})
        sizes = {code.queries for code in codes}
        if len(sizes) != 1:
            raise ValueError(f"codes: expected one value of queries, got {sorted(sizes)}")
        (self.queries,) = sizes
        check_roles(self.codes, self.weights)
        # For each role, what its weights answer: the number of each coded query's answer among
        # them, and for each code which of its coded queries no code before it has. The base
        # model's first K are the queries' own.
        known: dict[str, dict[Hashable, int]] = {BASE: {}}
        self._new: dict[str, dict[int, list[int]]] = {BASE: {}}
        found: list[list[tuple[str, int]]] = []
        for index, code in enumerate(codes):
            found.append([])
            for worker, (role, key) in enumerate(zip(code.models, _keys(code), strict=True)):
                numbers = known.setdefault(role, {})
                if isinstance(key, int):
                    found[-1].append((role, key))
                    continue
                if key not in numbers:
                    numbers[key] = len(numbers) + (self.queries if role == BASE else 0)
                    self._new.setdefault(role, {}).setdefault(index, []).append(worker)
                found[-1].append((role, numbers[key]))
        before, starts = 0, {}
        for role, numbers in known.items():
            starts[role] = before
            before += len(numbers) + (self.queries if role == BASE else 0)
        self.forwards_per_group = before
        # For each code, where each coded query's answer is found: 0..K-1 are the queries' own.
        self._places = [[starts[role] + number for role, number in one] for one in found]

    def __call__(
        self, forward: Forward, queries: PyTree, batch_size: int = 512
    ) -> tuple[PyTree, list[PyTree]]:
        """Computes the answers of all codes.

        Args:
            forward: The model on a batch, leaves ``[n, *q]`` to ``[n, *p]``.
            queries: Leaves ``[G, K, *q]``, G groups of K queries.
            batch_size: The most queries in one forward.

        Returns:
            Predictions ``[G, K, *p]``, and for each code its answers ``[G, N+1, *p]``. Floating
            point of less than 32 bits is widened, so that decoding does not round again.

        Raises:
            TypeError: A code combines linearly and an input is not floating point.
            ValueError: Weights of a code's own answer in another form than the model.
        """
        needed = {index for new in self._new.values() for index in new}
        coded = {index: self.codes[index].encode(queries, batch_dims=1) for index in needed}
        answers: list[PyTree] = []
        for role, new in self._new.items():
            parts = [queries] if role == BASE else []
            parts += [_pick(coded[index], workers) for index, workers in new.items()]
            model = forward if role == BASE else self.weights[role]
            answers.append(_in_batches(model, _joined(parts), batch_size))
            _check_alike(role, answers[0], answers[-1])
        base = pytree.tree_map(lambda t: t[:, : self.queries], answers[0])
        every = _joined(answers)
        return base, [_pick(every, places) for places in self._places]


def on_device(module: nn.Module, device: str) -> Forward:
    """Returns a model as a function of inputs that are, and answers that shall be, on the CPU.

    Args:
        module: The model; it is moved.
        device: Where it runs, such as ``cpu`` or ``cuda``.
    """
    module = module.to(device)

    def forward(inputs: PyTree) -> PyTree:
        answers = module(pytree.tree_map(lambda leaf: leaf.to(device), inputs))
        return pytree.tree_map(lambda leaf: leaf.cpu(), answers)

    return forward


def check_roles(codes: Sequence[Code], weights: Mapping[str, object]) -> None:
    """Checks that codes have the weights of their own that they need.

    Args:
        codes: Codes, some with ``roles``.
        weights: What was given, by name.

    Raises:
        ValueError: A name is missing, or no code uses one; the message says how to give them.
    """
    for code in codes:
        missing = [role for role in code.roles if role not in weights]
        if missing:
            raise ValueError(
                f"weights: expected those that {code!r} needs beside the model's own, "
                f"{list(code.roles)}, got {sorted(weights)}; train them "
                f"(lightning.ParityTraining) and give --weights {missing[0]}=FILE, in Python "
                f"weights={{{missing[0]!r}: model}}"
            )
    used = {role for code in codes for role in code.roles}
    unused = sorted(set(weights) - used)
    if unused:
        raise ValueError(
            f"weights: expected names that the codes use, {sorted(used)}, got {unused} too; a "
            "code's names depend on stragglers (see its roles)"
        )


def _joined(parts: list[PyTree]) -> PyTree:
    if len(parts) == 1:
        return parts[0]
    return pytree.tree_map(lambda *leaves: torch.cat(leaves, dim=1), *parts)


def _check_alike(role: str, base: PyTree, own: PyTree) -> None:
    forms = [
        (str(spec), [(tuple(leaf.shape[2:]), leaf.device) for leaf in leaves])
        for leaves, spec in (pytree.tree_flatten(tree) for tree in (base, own))
    ]
    if forms[0] != forms[1]:
        raise ValueError(
            f"weights: expected {role!r} to answer in the form of the model's predictions, "
            f"{forms[0][1]}, got {forms[1][1]}"
        )


def _pick(tree: PyTree, columns: list[int]) -> PyTree:
    def pick(leaf: Tensor) -> Tensor:
        return leaf.index_select(1, torch.tensor(columns, device=leaf.device))

    return pytree.tree_map(pick, tree)


def _keys(code: Code) -> list[Hashable]:
    """Names each coded query: by its query's index, by its row of G, or as this code's own."""
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
