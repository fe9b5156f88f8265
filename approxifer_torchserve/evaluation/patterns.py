"""Which answers are lost and which are wrong: the fault model of an evaluation, seeded.

A pattern is one row of a bool ``[P, N+1]``, true where an answer came. An evaluation decodes every
group with every pattern: the forwards are paid once, and nothing is left to the luck of one draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from approxifer_torchserve.codes import Code

MAX_PATTERNS = 128
"""The most patterns that are decoded for one code and S."""


def own_answers(code: Code) -> tuple[int | None, ...]:
    """Says which answer is a query's own: the first coded query that equals it, or None.

    Args:
        code: The code, whose ``sources`` say which answers are queries' own.

    Returns:
        For each of the K queries a coded query; all None for a fully coded code, also where some
        of its nodes coincide: there no query has an answer that it is settled by.

    Example:
        >>> from approxifer_torchserve.codes import make_code
        >>> own_answers(make_code("replication", queries=2, stragglers=1))
        (0, 1)
    """
    if code.mode == "coded":
        return (None,) * code.queries
    first: dict[int, int] = {}
    for worker, query in enumerate(code.sources):
        if query is not None:
            first.setdefault(query, worker)
    return tuple(first.get(query) for query in range(code.queries))


def lost_queries(code: Code, available: Tensor) -> Tensor:
    """Tells which queries A_d is taken over: those whose own answer was lost.

    Args:
        code: The code, whose ``sources`` say which answers are queries' own.
        available: bool ``[P, N+1]``, true where an answer came.

    Returns:
        bool ``[P, K]``; all true for a fully coded code, where no query has an answer of its own.

    Example:
        >>> from approxifer_torchserve.codes import make_code
        >>> code = make_code("approxifer", queries=2, stragglers=1)
        >>> lost_queries(code, ~torch.eye(3, dtype=torch.bool)).tolist()
        [[True, False], [False, True], [False, False]]
    """
    columns = [
        torch.ones(len(available), dtype=torch.bool) if own is None else ~available[:, own].cpu()
        for own in own_answers(code)
    ]
    return torch.stack(columns, dim=1)


def draw_wrong(available: Tensor, groups: int, wrong: int, generator: torch.Generator) -> Tensor:
    """Draws which of the answers that came are wrong, for each group anew.

    Args:
        available: bool ``[N+1]``, one pattern.
        groups: G, how many groups.
        wrong: E, wrong answers in each group; fewer where fewer came.
        generator: Where chance comes from; on the CPU.

    Returns:
        bool ``[G, N+1]``, true at wrong answers, all of them available.
    """
    order = torch.rand(groups, len(available), generator=generator)
    order[:, ~available] = 2.0
    chosen = order.argsort(dim=1)[:, : min(wrong, int(available.sum()))]
    return torch.zeros(groups, len(available), dtype=torch.bool).scatter_(1, chosen, True)
