"""Wrong numbers: what a worker that lies may answer.

Pure torch. Locators are trained and measured with it, and a worker that is told to lie takes its
lies from here. Everything is drawn from the generator that the caller gives, so a seed repeats it.

Example:
    >>> import torch
    >>> answers = torch.eye(3).expand(2, 3, 3)                 # 2 groups, 3 workers, 3 classes
    >>> liars = torch.tensor([[False, True, False], [False, False, False]])
    >>> corrupt(answers, liars, "sign_flip")[0, 1].tolist()
    [-0.0, -1.0, -0.0]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

EXPONENT = {torch.float32: (torch.int32, 23, 8), torch.float64: (torch.int64, 52, 11)}
"""For each dtype: the integer of its width, its exponent's lowest bit, its exponent's width."""


@dataclass(frozen=True)
class _Case:
    """Which answers of which groups become wrong.

    Attributes:
        answers: ``[groups, N+1, features]``, all true.
        groups: int64 ``[m]``, the group of each answer that becomes wrong.
        workers: int64 ``[m]``, the worker who gives it.
        size: The fault's size, a number or ``[m, 1]``.
        generator: Where chance comes from.
    """

    answers: Tensor
    groups: Tensor
    workers: Tensor
    size: float | Tensor
    generator: torch.Generator | None

    @property
    def truth(self) -> Tensor:
        """What the workers should answer, ``[m, features]``."""
        return self.answers[self.groups, self.workers]

    def integers(self, low: int, high: int) -> Tensor:
        """Draws int64 ``[m]`` from low..high-1."""
        return torch.randint(low, max(high, low + 1), (len(self.groups),), generator=self.generator)

    def normal(self, features: int) -> Tensor:
        """Draws ``[m, features]`` from the standard normal distribution."""
        drawn = torch.randn(len(self.groups), features, generator=self.generator)
        return drawn.to(self.answers.dtype)

    def in_one_element(self, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Changes one random element of each answer; ``change`` maps ``[m]`` to ``[m]``."""
        wrong = self.truth.clone()
        rows = torch.arange(len(wrong))
        column = self.integers(0, wrong.shape[1])
        wrong[rows, column] = change(wrong[rows, column])
        return wrong


def _permuted(case: _Case) -> Tensor:
    truth = case.truth
    order = torch.rand(truth.shape, generator=case.generator).argsort(dim=1)
    return truth.gather(1, order)


def _stuck(case: _Case) -> Tensor:
    total = case.answers.shape[0]
    return case.answers[(case.groups + case.integers(1, total)) % total, case.workers]


def _misrouted(case: _Case) -> Tensor:
    total = case.answers.shape[1]
    return case.answers[case.groups, (case.workers + case.integers(1, total)) % total]


def flip_exponent(values: Tensor, bit: int | Tensor) -> Tensor:
    """Flips one bit of floating point exponents.

    Args:
        values: float32 or float64, any shape.
        bit: 0 (the value is multiplied or divided by 2) up to 7 (float32) or 10 (float64), one for
            all or one for each value; the factor is ``2**(2**bit)``, or its inverse.

    Returns:
        The values with that bit flipped; Inf and NaN may come of it.

    Raises:
        TypeError: Another dtype.
    """
    if values.dtype not in EXPONENT:
        raise TypeError(f"values must be float32 or float64 to flip a bit, got {values.dtype}")
    integer, lowest, _ = EXPONENT[values.dtype]
    mask = torch.ones_like(values, dtype=integer) << (torch.as_tensor(bit).to(integer) + lowest)
    return (values.contiguous().view(integer) ^ mask).view(values.dtype)


def _exponent(case: _Case, bits: int | None = None) -> Tensor:
    """Flips one of the lowest bits, of all where None, in one element."""
    if case.answers.dtype not in EXPONENT:
        raise TypeError(f"kind 'exponent' needs float32 or float64, got {case.answers.dtype}")
    width = EXPONENT[case.answers.dtype][2] if bits is None else bits
    return case.in_one_element(lambda values: flip_exponent(values, case.integers(0, width)))


def _exponent_gross(case: _Case) -> Tensor:
    """Does what flipping a 0 of exponent bit 4, 5 or 6 does: the value grows by 2**16 or more."""

    def grow(values: Tensor) -> Tensor:
        factor = 2.0 ** (2.0 ** case.integers(4, 7).double())
        return torch.copysign(values.abs().double().clamp_min(2.0**-7) * factor, values)

    return case.in_one_element(lambda values: grow(values).to(values.dtype))


def _element(case: _Case) -> Tensor:
    size = torch.as_tensor(case.size, dtype=case.answers.dtype).reshape(-1)
    return case.in_one_element(lambda values: values + size * case.normal(1).squeeze(1))


@dataclass(frozen=True)
class _Kind:
    """One kind of wrong answer: how it is made, its usual size, what it is."""

    make: Callable[[_Case], Tensor]
    size: float
    help: str
    alone: bool = True


_KINDS: dict[str, _Kind] = {
    "gaussian": _Kind(
        lambda case: case.truth + case.size * case.normal(case.answers.shape[2]),
        10.0,
        "normal noise of standard deviation `size` is added",
    ),
    "sign_flip": _Kind(lambda case: -case.truth, 1.0, "every element changes its sign"),
    "permuted": _Kind(_permuted, 1.0, "the elements in random order"),
    "stuck": _Kind(_stuck, 1.0, "the answer that this worker gave to another group", False),
    "misrouted": _Kind(_misrouted, 1.0, "another worker's answer of this group", False),
    "exponent": _Kind(_exponent, 1.0, "one random exponent bit of one random element flipped"),
    "exponent_low": _Kind(
        lambda case: _exponent(case, 4), 1.0, "one element times or by 2, 4, 16 or 256"
    ),
    "exponent_gross": _Kind(_exponent_gross, 1.0, "one element grows by 2^16, 2^32 or 2^64"),
    "nan": _Kind(
        lambda case: case.in_one_element(lambda values: torch.full_like(values, torch.nan)),
        1.0,
        "one element is NaN",
    ),
    "huge": _Kind(lambda case: case.truth * case.size, 1e6, "every element times `size`"),
    "element": _Kind(_element, 10.0, "one element is off by normal noise of scale `size`"),
}


def corruption_kinds() -> dict[str, str]:
    """Lists the kinds of wrong answers.

    Returns:
        Name to explanation.
    """
    return {name: kind.help for name, kind in _KINDS.items()}


def _kind(name: str) -> _Kind:
    if name not in _KINDS:
        raise ValueError(f"kind must be one of {sorted(_KINDS)}, got {name!r}")
    return _KINDS[name]


def wrong_answers(
    answers: Tensor,
    groups: Tensor,
    workers: Tensor,
    kind: str,
    *,
    size: float | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Makes wrong answers for chosen workers of chosen groups.

    Args:
        answers: ``[groups, N+1, features]`` on the CPU, all true; two groups or more for ``stuck``.
        groups: int64 ``[m]``, the group of each answer that becomes wrong.
        workers: int64 ``[m]``, the worker who gives it.
        kind: See ``corruption_kinds``.
        size: The fault's size, a number or ``[m, 1]``; None for the kind's own.
        generator: Where chance comes from; torch's default if None.

    Returns:
        ``[m, features]``.

    Raises:
        TypeError: The dtype has no exponent to flip.
        ValueError: The kind is unknown.
    """
    made = _kind(kind)
    case = _Case(answers, groups, workers, made.size if size is None else size, generator)
    return made.make(case)


def corrupt(
    answers: pytree.PyTree,
    liars: Tensor,
    kind: str,
    *,
    size: float | None = None,
    generator: torch.Generator | None = None,
) -> pytree.PyTree:
    """Replaces the answers of liars by wrong ones.

    Args:
        answers: Leaves ``[groups, N+1, *p]`` on the CPU; each leaf is corrupted by itself.
        liars: bool ``[groups, N+1]``, true at answers that become wrong.
        kind: See ``corruption_kinds``.
        size: The fault's size; None for the kind's own.
        generator: Where chance comes from; torch's default if None.

    Returns:
        New tensors; the answers of honest workers are copied bit by bit.

    Raises:
        TypeError: The dtype has no exponent to flip.
        ValueError: The kind is unknown.
    """
    _kind(kind)
    groups, workers = liars.nonzero(as_tuple=True)

    def leaf(values: Tensor) -> Tensor:
        flat = values.flatten(2) if values.dim() > 2 else values.unsqueeze(2)
        wrong = wrong_answers(flat, groups, workers, kind, size=size, generator=generator)
        result = flat.clone()
        result[groups, workers] = wrong
        return result.reshape(values.shape)

    return pytree.tree_map(leaf, answers)


def corrupt_alone(
    answer: Tensor,
    kind: str,
    *,
    previous: Tensor | None = None,
    size: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Replaces one worker's answer by a wrong one, as the worker itself can do.

    Args:
        answer: The true answer, of any shape, on the CPU.
        kind: See ``corruption_kinds``.
        previous: For ``stuck`` and ``misrouted``: another answer of the same shape.
        size: The fault's size; None for the kind's own.
        generator: Where chance comes from; torch's default if None.

    Returns:
        The wrong answer, of the same shape and dtype.

    Raises:
        TypeError: The dtype has no exponent to flip.
        ValueError: The kind is unknown, or needs ``previous``.
    """
    if not _kind(kind).alone:
        if previous is None or previous.shape != answer.shape:
            raise ValueError(
                f"previous must be an answer of shape {tuple(answer.shape)} for kind {kind!r}, "
                f"got {None if previous is None else tuple(previous.shape)}"
            )
        return previous.clone()
    zero = torch.zeros(1, dtype=torch.int64)
    flat = answer.reshape(1, 1, -1)
    wrong = wrong_answers(flat, zero, zero, kind, size=size, generator=generator)
    return wrong.reshape(answer.shape)
