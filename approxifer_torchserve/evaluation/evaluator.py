"""Groups in, scores of all cases out: what callback, command and examples share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torchmetrics import Metric

from approxifer_torchserve.codes import NotRecoverableError
from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.corruption import corrupt, corruption_kinds
from approxifer_torchserve.evaluation.forwards import Forward, SharedForwards
from approxifer_torchserve.evaluation.functional import Task, check_task, guess_task
from approxifer_torchserve.evaluation.metrics import DegradedScores, LocatorScores, Scores
from approxifer_torchserve.evaluation.patterns import MAX_PATTERNS, draw_wrong
from approxifer_torchserve.evaluation.specs import Case
from approxifer_torchserve.faults import erasure_patterns

Domain = Literal["logits", "probabilities", "log_probabilities"]


class Evaluator:
    """The metrics of several cases, fed with groups of queries.

    Args:
        cases: What to measure, all with the same K.
        weights: What answers for codes with weights of their own, by their ``roles``: models, or
            functions that map a batch as the model does.
        task: What predictions are; None to guess from the first batch.
        max_patterns: The most patterns of losses for each case.
        seed: Of the sampled patterns and of errors.
        domain: What is decoded, for ``multiclass``: predictions as they are, softmax or its log.
        error_kind: What wrong answers are, for cases with ``byzantine``: see ``corruption``.
        error_scale: Their size; None for the kind's own.
        ignore_index: Class index that is not scored.

    Raises:
        ValueError: The cases differ in K, weights that one needs are missing, or the kind of
            errors is unknown.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        weights: Mapping[str, Forward] | None = None,
        task: Task | None = None,
        max_patterns: int = MAX_PATTERNS,
        seed: int = 0,
        domain: Domain = "logits",
        error_kind: str = "gaussian",
        error_scale: float | None = None,
        ignore_index: int = -100,
    ) -> None:
        self.cases = tuple(cases)
        self.task, self.seed, self.domain = task, seed, domain
        if error_kind not in corruption_kinds():
            raise ValueError(
                f"error_kind: expected one of {sorted(corruption_kinds())}, got {error_kind!r}"
            )
        self.error_kind, self.error_scale = error_kind, error_scale
        self.ignore_index = ignore_index
        self.forwards = SharedForwards([case.code for case in cases], weights)
        if self.forwards.weights and domain != "logits":
            raise ValueError(
                f"domain: expected logits with codes that have weights of their own, which learnt "
                f"to combine predictions as they are, got {domain!r}"
            )
        self.patterns = [erasure_patterns(c.workers, c.lost, max_patterns, seed) for c in cases]
        self.heads: dict[str, Task] = {}
        self.metrics: list[list[DegradedScores]] = []
        # For each case: rates with wrong answers among them, and on clean groups.
        self.locators = [(LocatorScores(), LocatorScores()) for _ in cases]
        self.groups = 0

    def prepare(self, predictions: PyTree, targets: PyTree) -> None:
        """Makes the metrics for the outputs of a model, unless that was done.

        Args:
            predictions: Leaves ``[B, *p]``, of as few queries as one.
            targets: Leaves ``[B, *t]``, as many as predictions have, or one for all of them.

        Raises:
            ValueError: They do not fit each other.
        """
        if self.heads:
            return
        for name, (output, target) in _paired(predictions, targets).items():
            task = self.task or guess_task(output, target)
            check_task(output, target, task)
            if self.domain != "logits" and task != "multiclass":
                raise ValueError(f"domain: {self.domain} is for multiclass outputs, not {task}")
            self.heads[name] = task
        device = pytree.tree_leaves(predictions)[0].device
        # MPS has no float64.
        device = torch.device("cpu") if device.type == "mps" else device
        self.metrics = [
            [
                DegradedScores(case.code, patterns, task, self.ignore_index).to(device)
                for task in self.heads.values()
            ]
            for case, patterns in zip(self.cases, self.patterns, strict=True)
        ]
        self.locators = [(one.to(device), two.to(device)) for one, two in self.locators]

    def update(
        self,
        forward: Forward,
        queries: PyTree,
        targets: PyTree,
        guess: PyTree | None = None,
        batch_size: int = 512,
    ) -> PyTree:
        """Measures some groups.

        Args:
            forward: The model on a batch, leaves ``[n, *q]`` to ``[n, *p]``.
            queries: Leaves ``[G, K, *q]``, G groups of K queries.
            targets: Leaves ``[G, K, *t]``, what the predictions should be.
            guess: What ``uncoded`` answers for a lost query, leaves ``[*p]``: the mean prediction
                of calibration data. None for the mean over these very groups.
            batch_size: The most queries in one forward.

        Returns:
            The model's own predictions, leaves ``[G, K, *p]``.
        """
        base, answers = self.forwards(forward, queries, batch_size)
        self.prepare(
            pytree.tree_map(lambda t: t.flatten(0, 1), base),
            pytree.tree_map(lambda t: t.flatten(0, 1), targets),
        )
        if guess is None:
            guess = pytree.tree_map(lambda t: t.mean(dim=(0, 1)), base)
        guesses = pytree.tree_leaves(guess)
        paired = _paired(base, targets)
        bases = [own.to(self._device(own)) for own, _ in paired.values()]
        wanted = [target.to(bases[0].device) for _, target in paired.values()]
        for index, case in enumerate(self.cases):
            heads = [
                self._domain(a.to(bases[0].device)) for a in pytree.tree_leaves(answers[index])
            ]
            everything = torch.ones(case.workers, dtype=torch.bool)
            mask = self._trusted(index, heads, everything, None)
            healthy = [self._decode(case, head, mask, None) for head in heads]
            plans = list(self._damaged(index, heads))
            for place, head in enumerate(heads):
                fill = self._domain(guesses[place].to(head)[None, None])[0, 0]
                decoded = (
                    self._decode(case, corrupted[place] if corrupted else head, mask, fill)
                    for mask, corrupted in plans
                )
                self.metrics[index][place].update(
                    decoded, healthy[place], self._domain(bases[place]), wanted[place]
                )
        self.groups += len(bases[0])
        return base

    def compute(self) -> list[dict[str, Scores]]:
        """Gives, for each case, the scores of each head.

        Synchronises between processes; every process must call it, after ``prepare``.
        """
        return [
            {name: metric.compute() for name, metric in zip(self.heads, metrics, strict=True)}
            for metrics in self.metrics
        ]

    def compute_locators(self) -> list[dict[str, float] | None]:
        """Gives, for each case with wrong answers and a locator, its rates; else None."""
        rates: list[dict[str, float] | None] = []
        for case, (wrong, clean) in zip(self.cases, self.locators, strict=True):
            if case.byzantine == 0 or case.code.byzantine == 0:
                rates.append(None)
                continue
            rates.append(
                {**wrong.compute(), "clean_false_suspicions": clean.compute()["false_suspicions"]}
            )
        return rates

    def reset(self) -> None:
        """Forgets all groups."""
        for metric in self._each():
            metric.reset()
        self.groups = 0

    def sums(self) -> dict[str, Tensor]:
        """Returns every metric's sums by name, on the CPU, to be written down and loaded again."""
        state = nn.ModuleList(self._each()).state_dict()
        return {name: value.cpu() for name, value in state.items()}

    def load_sums(self, sums: dict[str, Tensor], groups: int) -> None:
        """Takes up what ``sums`` returned; ``prepare`` must have been called.

        Args:
            sums: Every metric's sums by name, on any device.
            groups: How many groups they are of.

        Raises:
            RuntimeError: They are of other cases.
        """
        metrics = self._each()
        state = {name: value.to(metrics[0].device) for name, value in sums.items()}
        nn.ModuleList(metrics).load_state_dict(state)
        for metric in metrics:
            metric._update_count = 1
        self.groups = groups

    def _each(self) -> list[Metric]:
        return [metric for many in (*self.metrics, *self.locators) for metric in many]

    def _device(self, tensor: Tensor) -> torch.device:
        return torch.device("cpu") if tensor.device.type == "mps" else tensor.device

    def _domain(self, predictions: Tensor) -> Tensor:
        """Turns ``[G, N+1, C, *dense]`` logits into what is decoded."""
        if self.domain == "logits":
            return predictions
        if self.domain == "probabilities":
            return torch.softmax(predictions.float(), dim=2)
        return torch.log_softmax(predictions.float(), dim=2)

    def _damaged(
        self, index: int, heads: list[Tensor]
    ) -> Iterator[tuple[Tensor, list[Tensor] | None]]:
        """Yields what each pattern leaves to decode: a mask, and answers where some are wrong."""
        case = self.cases[index]
        for number, pattern in enumerate(self.patterns[index]):
            if case.byzantine == 0:
                yield pattern, None
                continue
            seed = (self.seed * 1_000_003 + self.groups) * 1_009 + number
            generator = torch.Generator().manual_seed(seed % 2**63)
            wrong = draw_wrong(pattern, len(heads[0]), case.byzantine, generator)
            told = corrupt(
                [head.cpu() for head in heads],
                wrong,
                self.error_kind,
                size=self.error_scale,
                generator=generator,
            )
            corrupted = [new.to(head) for new, head in zip(told, heads, strict=True)]
            yield self._trusted(index, corrupted, pattern, wrong), corrupted

    def _trusted(
        self, index: int, heads: list[Tensor], pattern: Tensor, wrong: Tensor | None
    ) -> Tensor:
        """Leaves out the answers that the code finds wrong, ``[N+1]`` to ``[G, N+1]``."""
        case = self.cases[index]
        if case.byzantine == 0 or case.code.byzantine == 0:
            return pattern
        available = pattern.expand(len(heads[0]), -1)
        found = case.code.locate(heads, available, batch_dims=1)
        truth = torch.zeros_like(found) if wrong is None else wrong
        self.locators[index][wrong is None].update(found, truth, pattern)
        return available & ~found

    def _decode(self, case: Case, answers: Tensor, mask: Tensor, fill: Tensor | None) -> Tensor:
        if case.code.mode == "uncoded":
            if fill is None:
                return answers
            came = mask.expand(answers.shape[:2]).to(answers.device)
            came = came.reshape(*came.shape, *[1] * (answers.dim() - 2))
            return torch.where(came, answers, fill.to(answers.dtype))
        try:
            decoded: Tensor = case.code.decode(answers, mask, batch_dims=1)
            return decoded
        except NotRecoverableError:
            if case.byzantine == 0:
                raise
        # Too many answers were called wrong in some groups: those count as wrong throughout.
        groups = []
        for group, available in zip(answers, mask.expand(answers.shape[:2]), strict=True):
            try:
                groups.append(case.code.decode(group, available))
            except NotRecoverableError:
                groups.append(torch.full_like(group[: case.code.queries], torch.nan))
        return torch.stack(groups)


def _paired(predictions: PyTree, targets: PyTree) -> dict[str, tuple[Tensor, Tensor]]:
    """Matches outputs with targets: by structure, in order, or one target for all outputs."""
    found, _ = pytree.tree_flatten_with_path(predictions)
    by_path = {
        pytree.keystr(path): leaf for path, leaf in pytree.tree_flatten_with_path(targets)[0]
    }
    names = [pytree.keystr(path) for path, _ in found]
    if len(by_path) == 1:
        (target,) = by_path.values()
        chosen = [target] * len(names)
    elif set(names) <= set(by_path):
        chosen = [by_path[name] for name in names]
    else:
        raise ValueError(
            f"targets: expected one tensor, or the outputs' parts {names}, got {sorted(by_path)}; "
            "choose parts by outputs and targets"
        )
    return {
        name.strip("[]'\"") or "output": (output, target)
        for name, (_, output), target in zip(names, found, chosen, strict=True)
    }
