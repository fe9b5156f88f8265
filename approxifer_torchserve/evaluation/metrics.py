"""The scores of one code as torchmetrics classes: they add up over batches and processes.

Each mirrors the pure functions of ``functional``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from approxifer_torchserve.codes import Code
from approxifer_torchserve.evaluation.functional import Task, decisions, ratio, score
from approxifer_torchserve.evaluation.patterns import lost_queries, own_answers

_BLOCK = 1 << 20
"""Numbers scored at once."""


# Not frozen, because torchmetrics walks over what compute() returns and would refuse it.
@dataclass
class Scores:
    """What one code costs; fractions, or relative errors for regression (lower is better).

    Attributes:
        base: The model without any code.
        healthy: The code with every answer in.
        healthy_agreement: How often the healthy code decides as the base model does.
        overall: A_o, over all queries with S answers lost.
        lost_only: A_d, over queries whose own answer was lost; NaN where there are none.
        lost_are_all: Whether A_d is over all queries, as no query has an answer of its own.
        worst: A_o of the pattern that costs the most.
        worst_pattern: The answers that it lacks.
        positions: A_d for each coded query, over the patterns that lack it; NaN where its loss
            loses no query.
        agreement: How often decoded predictions decide as the base model does.
        agreement_lost: The same over the lost queries.
        groups: How many groups were decoded.
    """

    base: float
    healthy: float
    healthy_agreement: float
    overall: float
    lost_only: float
    lost_are_all: bool
    worst: float
    worst_pattern: tuple[int, ...]
    positions: tuple[float, ...]
    agreement: float
    agreement_lost: float
    groups: int

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values that JSON takes, None for NaN."""
        return {key: _plain(value) for key, value in asdict(self).items()}


class DegradedScores(Metric):
    """Healthy accuracy, A_o, A_d, worst pattern and agreement of one code.

    Args:
        code: The code that decodes.
        patterns: bool ``[P, N+1]``, true where an answer came.
        task: ``multiclass``, ``binary`` or ``regression``.
        ignore_index: Class index that is not scored.
        **kwargs: For ``torchmetrics.Metric``.

    Example:
        >>> from approxifer_torchserve.codes import make_code
        >>> from approxifer_torchserve.faults import erasure_patterns
        >>> code = make_code("approxifer", queries=2, stragglers=1)
        >>> metric = DegradedScores(code, erasure_patterns(3, 1, limit=9), "multiclass")
        >>> base = torch.eye(2)[None]
        >>> metric.update(base.expand(3, 1, 2, 2), base, base, torch.tensor([[0, 0]]))
        >>> scores = metric.compute()
        >>> scores.overall, scores.lost_only, scores.positions
        (0.5, 0.5, (1.0, 0.0, nan))
    """

    full_state_update = False
    base: Tensor
    healthy: Tensor
    healthy_agreement: Tensor
    queries: Tensor
    agreement: Tensor
    groups: Tensor

    def __init__(
        self, code: Code, patterns: Tensor, task: Task, ignore_index: int = -100, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if patterns.dim() != 2 or patterns.shape[1] != code.num_workers or not len(patterns):
            raise ValueError(
                f"patterns: expected bool [P, {code.num_workers}], got {tuple(patterns.shape)}"
            )
        self.code, self.task, self.ignore_index = code, task, ignore_index
        self.patterns = patterns.cpu()
        self.lost = lost_queries(code, self.patterns)
        whole, each = torch.zeros(2).double(), torch.zeros(len(patterns), code.queries, 2).double()
        for name in ("base", "healthy", "healthy_agreement"):
            self.add_state(name, whole.clone(), dist_reduce_fx="sum", persistent=True)
        for name in ("queries", "agreement"):
            self.add_state(name, each.clone(), dist_reduce_fx="sum", persistent=True)
        self.add_state("groups", torch.tensor(0), dist_reduce_fx="sum", persistent=True)

    def update(
        self,
        decoded: Tensor | Iterable[Tensor],
        healthy: Tensor,
        base: Tensor,
        targets: Tensor,
    ) -> None:
        """Adds some groups.

        Args:
            decoded: ``[P, G, K, *p]``, or P tensors ``[G, K, *p]``: one decode for each pattern.
            healthy: ``[G, K, *p]``, decoded with every answer in.
            base: ``[G, K, *p]``, the model's own predictions.
            targets: ``[G, K, *t]``, what the predictions should be.

        Raises:
            ValueError: There are not P patterns of K queries.
        """
        like_base = decisions(base, self.task, lead=2)
        self.base += self._score(base, targets).sum(dim=(0, 1))
        self.healthy += self._score(healthy, targets).sum(dim=(0, 1))
        self.healthy_agreement += self._score(healthy, like_base).sum(dim=(0, 1))
        count = 0
        for part in _blocks(decoded, base.numel()):
            patterns = slice(count, count + len(part))
            count += len(part)
            if count > len(self.patterns) or part.shape[1:] != base.shape:
                raise ValueError(
                    f"decoded: expected {len(self.patterns)} patterns of {tuple(base.shape)}, got "
                    f"{tuple(part.shape[1:])} up to pattern {count}"
                )
            for sums, reference in ((self.queries, targets), (self.agreement, like_base)):
                every = reference.expand(len(part), *reference.shape)
                sums[patterns] += self._score(part, every, lead=3).sum(dim=1)
        if count != len(self.patterns):
            raise ValueError(f"decoded: expected {len(self.patterns)} patterns, got {count}")
        self.groups += base.shape[0]

    def compute(self) -> Scores:
        """Works out the scores of all groups so far."""
        queries, agreement = self.queries.cpu(), self.agreement.cpu()
        each = [ratio(part, self.task) for part in queries]
        fair = [value for value in each if not math.isnan(value)]
        worst = max if self.task == "regression" else min
        value = worst(fair) if fair else math.nan
        pattern = self.patterns[each.index(value)] if fair else torch.ones(0, dtype=torch.bool)
        return Scores(
            base=ratio(self.base.cpu(), self.task),
            healthy=ratio(self.healthy.cpu(), self.task),
            healthy_agreement=ratio(self.healthy_agreement.cpu(), self.task),
            overall=ratio(queries, self.task),
            lost_only=ratio(queries[self.lost], self.task),
            lost_are_all=all(own is None for own in own_answers(self.code)),
            worst=value,
            worst_pattern=tuple((~pattern).nonzero().flatten().tolist()),
            positions=tuple(self._position(queries, i) for i in range(self.code.num_workers)),
            agreement=ratio(agreement, self.task),
            agreement_lost=ratio(agreement[self.lost], self.task),
            groups=int(self.groups),
        )

    def _score(self, predictions: Tensor, reference: Tensor, lead: int = 2) -> Tensor:
        return score(predictions, reference, self.task, lead, self.ignore_index)

    def _position(self, queries: Tensor, worker: int) -> float:
        lacking = ~self.patterns[:, worker]
        own = own_answers(self.code)
        mine = torch.tensor([answer in (None, worker) for answer in own])
        return ratio(queries[lacking][:, mine], self.task)


class LocatorScores(Metric):
    """How often wrong answers are found, and right ones suspected.

    Args:
        **kwargs: For ``torchmetrics.Metric``.

    Example:
        >>> metric = LocatorScores()
        >>> metric.update(torch.tensor([[True, True]]), torch.tensor([[True, False]]))
        >>> metric.compute()
        {'hits': 1.0, 'false_suspicions': 1.0, 'exact': 0.0}
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("sums", torch.zeros(6).long(), dist_reduce_fx="sum", persistent=True)

    def update(self, found: Tensor, wrong: Tensor, available: Tensor | None = None) -> None:
        """Adds some groups.

        Args:
            found: bool ``[G, N+1]``, answers that were called wrong.
            wrong: bool ``[G, N+1]``, answers that were.
            available: bool ``[N+1]``, answers that came; the others do not count as right.
        """
        came = torch.ones_like(wrong) if available is None else available.expand_as(wrong)
        honest = came & ~wrong
        counts = [
            (found & wrong).sum(),
            wrong.sum(),
            (found & honest).sum(),
            honest.sum(),
            (found == wrong).all(dim=1).sum(),
            torch.tensor(len(wrong)),
        ]
        self.sums += torch.stack([count.to(self.sums.device) for count in counts])

    def compute(self) -> dict[str, float]:
        """Returns ``hits``, ``false_suspicions`` and ``exact`` (groups with no mistake)."""
        hits, wrong, suspected, honest, exact, groups = self.sums.tolist()
        return {
            "hits": hits / wrong if wrong else math.nan,
            "false_suspicions": suspected / honest if honest else math.nan,
            "exact": exact / groups if groups else math.nan,
        }


def _blocks(decoded: Tensor | Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Stacks patterns, as many at once as fit: a dense output times all would fill the memory."""
    waiting: list[Tensor] = []
    for part in decoded:
        waiting.append(part)
        if len(waiting) * size >= _BLOCK:
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
