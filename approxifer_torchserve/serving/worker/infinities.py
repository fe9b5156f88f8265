"""Tells a model whose answers hold −inf from a worker that has begun to compute nonsense.

A handler that masks classes gives −inf in every answer, and so does a logarithm of zero. A faulty
worker gives NaN or an overflow's infinities, mostly all over. So −inf beside finite numbers is the
model's own way where it is common among all that this process has answered; before it is, and for
anything else that is not finite, another worker is asked.
"""

from __future__ import annotations

import torch

from approxifer_torchserve.serving.worker import trees

# At most so many answers of a healthy worker are asked for twice, and at most one in ten.
MIN_SEEN = 8
MIN_SHARE = 0.1


class Infinities:
    """What this process's predictions held so far."""

    def __init__(self) -> None:
        self._all = 0
        self._masked = 0

    def finite(self) -> None:
        """Counts a prediction of finite numbers."""
        self._all += 1

    def usual(self, prediction: trees.Tree) -> bool:
        """Counts a prediction that is not finite; tells whether this model's are like that."""
        self._all += 1
        if not masked(prediction):
            return False
        self._masked += 1
        return self.known()

    def known(self) -> bool:
        """Tells whether −inf beside finite numbers is usual."""
        return self._masked > MIN_SEEN and self._masked >= MIN_SHARE * self._all


def masked(prediction: trees.Tree) -> bool:
    """Tells whether −inf is all that is not finite, and not all that there is."""
    tensors = trees.leaves(prediction) or []
    numbers = torch.cat([t.detach().flatten().double() for t in tensors])
    finite = numbers.isfinite()
    return bool(finite.any()) and bool((finite | (numbers == -torch.inf)).all())
