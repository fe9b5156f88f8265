"""Training the network of the ``pairs`` code on clean answers with lies put in.

Three quarters of the groups in a batch get 1..E liars (the rest none), some groups have answers
missing. The loss is the logarithm of the probability given to all who lie, or to "none".
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor

from approxifer_torchserve.codes.locators.features import FACTOR, MAX_MAGNITUDE, Relations, Traits
from approxifer_torchserve.codes.locators.locating import MixingCode
from approxifer_torchserve.codes.locators.network import NetworkLocator, PairNetwork, Shape
from approxifer_torchserve.corruption import wrong_answers

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

BATCH = 128
PEAK_RATE = 3e-3
WEIGHT_DECAY = 2e-2
CLEAN = 0.25
LIES: tuple[tuple[str, float, tuple[float, float] | None], ...] = (
    ("gaussian", 0.08, (-1.5, 5.0)),
    ("sign_flip", 0.05, None),
    ("permuted", 0.15, None),
    ("stuck", 0.25, None),
    ("misrouted", 0.12, None),
    ("exponent", 0.12, None),
    ("exponent_low", 0.12, None),
    ("huge", 0.05, (-3.0, 6.0)),
    ("element", 0.10, (-1.0, 5.0)),
)
"""Kind of lie, its weight in the draw, and the range of the logarithm of its size.

Sizes of ``gaussian`` and ``element`` are in standard deviations of the answers; ``huge`` multiplies
by 0.05 to 400 here. The subtle kinds get more of the training than those that anyone would see.
"""


def draw_lies(
    answers: Tensor,
    workers: Tensor,
    generator: torch.Generator,
    unseen: Collection[str] = (),
) -> Tensor:
    """Draws one lie for each group, of random kinds.

    Args:
        answers: float32 ``[batch, N+1, features]``, clean.
        workers: int64 ``[batch]``, who lies.
        generator: Where chance comes from.
        unseen: Kinds that are not drawn.

    Returns:
        float32 ``[batch, features]``, finite.
    """
    batch = len(answers)
    lies = torch.empty(batch, answers.shape[2])
    deviation = answers.std()
    shares = torch.tensor([0.0 if kind in unseen else share for kind, share, _ in LIES])
    kinds = torch.multinomial(shares, batch, replacement=True, generator=generator)
    for index, (kind, _, sizes) in enumerate(LIES):
        groups = (kinds == index).nonzero().flatten()
        if not len(groups):
            continue
        size: Tensor | None = None
        if sizes is not None:
            low, high = sizes
            size = (low + (high - low) * torch.rand(len(groups), 1, generator=generator)).exp()
            size = size if kind == "huge" else size * deviation
        lies[groups] = wrong_answers(
            answers, groups, workers[groups], kind, size=size, generator=generator
        )
    # A worker that answers NaN is found without a locator: let this one learn from large numbers.
    return lies.nan_to_num(MAX_MAGNITUDE, MAX_MAGNITUDE, -MAX_MAGNITUDE).clamp(
        -MAX_MAGNITUDE, MAX_MAGNITUDE
    )


def train_network(
    code: MixingCode,
    answers: Tensor,
    *,
    steps: int,
    width: int,
    seed: int,
    unseen: Collection[str] = (),
    progress: Progress | None = None,
) -> NetworkLocator:
    """Trains a locator; its thresholds are infinite until calibrated.

    Args:
        code: The code that the locator is for.
        answers: ``[groups, N+1, features]``, clean.
        steps: How many batches to train on.
        width: Neurons of each hidden layer.
        seed: Of initialisation and batches; equal seeds give equal locators on one machine.
        unseen: Kinds of lies that the training leaves out, to measure what that costs.
        progress: Called with (done, total) steps.

    Returns:
        The locator.

    Raises:
        ValueError: ``unseen`` holds what is no kind of lie here, or all kinds.
    """
    kinds = {kind for kind, _, _ in LIES}
    if not kinds > set(unseen):
        raise ValueError(f"unseen must be some of {sorted(kinds)}, not all, got {sorted(unseen)}")
    answers = answers.float().clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE)
    k, workers = code.queries, code.num_workers
    own, mixed = (Traits.fit(part.flatten(0, 1)) for part in (answers[:, :k], answers[:, k:]))
    whitened = own.whitened(answers[:, :k]), mixed.whitened(answers[:, k:])
    first, second = ([edge[end] for edge in code.edges] for end in (0, 1))
    triples = torch.stack([whitened[0][:, first], whitened[0][:, second], whitened[1]], dim=2)
    relations = Relations.fit(triples.flatten(0, 1), own, mixed)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.inference_mode(False):
        torch.manual_seed(seed)
        network = PairNetwork(own.width, relations.width, k, code.edges, width)
        shape = Shape.of(code)
        locator = NetworkLocator(shape, own, mixed, relations, network)
        own_traits, mixed_traits = own(answers[:, :k]), mixed(answers[:, k:])
        optimizer = torch.optim.AdamW(
            network.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, PEAK_RATE, total_steps=max(steps, 2), pct_start=0.1
        )
        for step in range(steps):
            rows = torch.randint(len(answers), (BATCH,), generator=generator)
            clean = answers[rows]
            told, liars = clean.clone(), torch.zeros(BATCH, workers, dtype=torch.bool)
            traits = own_traits[rows].clone(), mixed_traits[rows].clone()
            count = _how_many(code.byzantine, generator)
            order = torch.rand(BATCH, workers, generator=generator).argsort(dim=1)
            for lie in range(max(code.byzantine, 1)):
                lying = (count > lie).nonzero().flatten()
                who = order[lying, lie]
                drawn = draw_lies(clean, order[:, lie], generator, unseen)
                told[lying, who] = wrong = drawn[lying]
                liars[lying, who] = True
                query = who < k
                traits[0][lying[query], who[query]] = own(wrong[query])
                traits[1][lying[~query], who[~query] - k] = mixed(wrong[~query])
            available = _who_came(code, generator)
            logits = network(
                *traits, locator.related(told), locator.near(told, available), available
            )
            loss = _loss(logits, liars & available)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if progress is not None:
                progress(step + 1, steps)
        network.eval().requires_grad_(False)
    return replace(locator, limit=FACTOR * locator.distances(answers).max().item())


def _how_many(byzantine: int, generator: torch.Generator) -> Tensor:
    """Draws the number of liars of each group, ``[BATCH]``."""
    count = torch.randint(1, max(byzantine, 1) + 1, (BATCH,), generator=generator)
    return count * (torch.rand(BATCH, generator=generator) >= CLEAN)


def _who_came(code: MixingCode, generator: torch.Generator) -> Tensor:
    """Draws which answers came, bool ``[BATCH, N+1]``: in half of the groups some are missing."""
    maximum = code.stragglers + max(code.byzantine, 1) - 1
    order = torch.rand(BATCH, code.num_workers, generator=generator).argsort(dim=1)
    missing = torch.randint(maximum + 1, (BATCH, 1), generator=generator)
    missing = missing * (torch.rand(BATCH, 1, generator=generator) < 0.5)
    return order >= missing


def _loss(logits: Tensor, liars: Tensor) -> Tensor:
    """Computes the mean of -log P(those who lie), or of -log P(none) where nobody does."""
    right = torch.cat([liars, ~liars.any(dim=1, keepdim=True)], dim=1)
    chosen = logits.masked_fill(~right, -torch.inf)
    return (torch.logsumexp(logits, dim=1) - torch.logsumexp(chosen, dim=1)).mean()
