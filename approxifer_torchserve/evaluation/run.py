"""An evaluation from start to end: draws groups, measures, and can be taken up again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from approxifer_torchserve import __version__
from approxifer_torchserve.codes.locators.calibrate import random_groups
from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.evaluation.data import Data
from approxifer_torchserve.evaluation.evaluator import Domain, Evaluator
from approxifer_torchserve.evaluation.forwards import Forward
from approxifer_torchserve.evaluation.functional import Task
from approxifer_torchserve.evaluation.grouping import Order, group_alike, order_by_similarity, take
from approxifer_torchserve.evaluation.patterns import MAX_PATTERNS
from approxifer_torchserve.evaluation.showing import Measured, as_measured
from approxifer_torchserve.evaluation.specs import Case

STATE_FILE = "progress.safetensors"
_SAVE_EVERY_S = 2.0


@dataclass(frozen=True)
class Settings:
    """What to measure and how.

    Attributes:
        cases: Codes for each S, all with the same K.
        groups: How many groups to draw; queries come again in other groups where data are short.
        seed: Of all that is drawn; the same one gives the same figures.
        task: What outputs are; None to guess.
        domain: What is decoded: logits, probabilities or their logarithm.
        order: How queries are grouped and placed.
        max_patterns: The most patterns of losses for each case.
        error_kind: What wrong answers are, see ``corruption``.
        error_scale: Their size; None for the kind's own.
        calibration: Queries, left out of the groups, whose mean prediction ``uncoded`` guesses.
        chunk: Groups measured at once; ``order='grouped'`` picks alike queries among these.
        batch_size: The most queries in one forward.

    Raises:
        ValueError: A number is below 1.
    """

    cases: tuple[Case, ...]
    groups: int = 1000
    seed: int = 0
    task: Task | None = None
    domain: Domain = "logits"
    order: Order = "arrival"
    max_patterns: int = MAX_PATTERNS
    error_kind: str = "gaussian"
    error_scale: float | None = None
    calibration: int = 512
    chunk: int = 32
    batch_size: int = 256

    def __post_init__(self) -> None:
        for name in ("groups", "calibration", "chunk", "batch_size", "max_patterns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


def run(
    model: Forward,
    data: Data,
    settings: Settings,
    *,
    weights: Mapping[str, Forward] | None = None,
    identity: str = "",
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Measured:
    """Measures.

    Args:
        model: The model, in eval mode, on the CPU or wherever it takes the data itself.
        data: Labelled queries, of which some are put aside for ``uncoded``.
        settings: What to measure, and how.
        weights: Models of the codes' own, by their ``roles``; like ``model``.
        identity: Differs where the model, or another one, does.
        folder: Where to keep what was measured, so that an interrupted run goes on; None to not.
        progress: Told groups done and groups in all.

    Returns:
        The result; what was kept in the folder is deleted.

    Raises:
        ValueError: Data are too few, or model, data and settings do not fit.
    """
    evaluator = Evaluator(
        settings.cases,
        weights=weights,
        task=settings.task,
        max_patterns=settings.max_patterns,
        seed=settings.seed,
        domain=settings.domain,
        error_kind=settings.error_kind,
        error_scale=settings.error_scale,
    )
    kept = min(settings.calibration, data.count // 5)
    shuffled = torch.randperm(data.count, generator=torch.Generator().manual_seed(settings.seed))
    spare, used = shuffled[:kept], shuffled[kept:]
    size = evaluator.forwards.queries
    if len(used) < size:
        raise ValueError(
            f"data: expected at least queries={size} beside calibration, got {len(used)}"
        )
    draw = torch.Generator().manual_seed(settings.seed + 1)
    groups = used[random_groups(len(used), size, settings.groups, draw)]
    state = None if folder is None else folder / STATE_FILE
    mark = _mark(settings, data.identity, identity)
    with torch.inference_mode():
        guess = _mean(model, data, spare.tolist() or used[:size].tolist(), settings.batch_size)
        inputs, targets = data.fetch(groups[0].tolist())
        evaluator.prepare(model(inputs), targets)
        done = 0 if state is None else _resume(evaluator, state, mark)
        saved = time.monotonic()
        progress(done, len(groups))
        while done < len(groups):
            rows = groups[done : done + settings.chunk]
            inputs, targets = data.fetch(rows.flatten().tolist())
            index = _placed(inputs, size, settings.order)
            evaluator.update(
                model, take(inputs, index), take(targets, index), guess, settings.batch_size
            )
            done += len(rows)
            progress(done, len(groups))
            if state is not None and time.monotonic() - saved > _SAVE_EVERY_S:
                _save(evaluator, state, mark, done)
                saved = time.monotonic()
        measured = as_measured(evaluator, "evaluate", seen=len(used), left=0, groups=done)
    if state is not None:
        state.unlink(missing_ok=True)
    return measured


def _placed(inputs: PyTree, size: int, order: Order) -> Tensor:
    count = len(pytree.tree_leaves(inputs)[0])
    grouped = order == "grouped"
    index = group_alike(inputs, size) if grouped else torch.arange(count).reshape(-1, size)
    if order != "arrival":
        index = index.gather(1, order_by_similarity(take(inputs, index)))
    return index


def _mean(model: Forward, data: Data, indices: Sequence[int], batch_size: int) -> PyTree:
    """Averages the model's predictions over calibration data, leaves ``[*p]``."""
    total: PyTree = None
    for start in range(0, len(indices), batch_size):
        inputs, _ = data.fetch(indices[start : start + batch_size])
        part = pytree.tree_map(lambda leaf: leaf.double().sum(dim=0), model(inputs))
        total = part if total is None else pytree.tree_map(torch.add, total, part)
    return pytree.tree_map(lambda leaf: (leaf / len(indices)).float(), total)


def _mark(settings: Settings, *identities: str) -> str:
    words = (__version__, torch.__version__, repr(settings), *identities)
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def _save(evaluator: Evaluator, path: Path, mark: str, done: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place, so that an interrupted save leaves the one before.
    part = path.with_suffix(".part")
    said = {"mark": mark, "done": json.dumps([done, evaluator.groups])}
    save_file({k: v.contiguous() for k, v in evaluator.sums().items()}, part, metadata=said)
    part.replace(path)


def _resume(evaluator: Evaluator, path: Path, mark: str) -> int:
    """Takes up what an interrupted run of the very same settings kept, else nothing."""
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        said = file.metadata() or {}
        if said.get("mark") != mark:
            return 0
        sums = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    done, groups = json.loads(said["done"])
    evaluator.load_sums(sums, groups)
    return int(done)
