"""The interface of every code: public methods check, private ones compute."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from approxifer_torchserve.codes.plan import Mode, Plan
from approxifer_torchserve.codes.pytree import Flat, PyTree, by_pattern, check_mask, flatten

#: The role of the weights that serve the queries themselves.
BASE = "base"


class NotRecoverableError(ValueError):
    """The answers that came do not determine every query's prediction.

    Attributes:
        queries: The queries that cannot be recovered, ascending.
    """

    def __init__(self, message: str, queries: Iterable[int]) -> None:
        super().__init__(message)
        self.queries = tuple(sorted(queries))


def check_count(argument: str, value: int, minimum: int) -> None:
    """Checks an integer argument.

    Args:
        argument: Its name, for errors.
        value: What the caller gave.
        minimum: The smallest value that is allowed.

    Raises:
        TypeError: Not an integer (a bool is none).
        ValueError: Below ``minimum``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an integer, got {value!r}")
    if value < minimum:
        raise ValueError(f"{argument} must be at least {minimum}, got {value}")


def check_number(argument: str, value: float, minimum: float, below: float = math.inf) -> None:
    """Checks a real argument.

    Args:
        argument: Its name, for errors.
        value: What the caller gave.
        minimum: The smallest value that is allowed.
        below: All that is allowed is smaller.

    Raises:
        TypeError: Not a number (a bool is none).
        ValueError: Out of range, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{argument} must be a number, got {value!r}")
    if not minimum <= value < below:
        limit = f" and below {below}" if math.isfinite(below) else ""
        finite = "" if limit else "finite and "
        raise ValueError(f"{argument} must be {finite}at least {minimum}{limit}, got {value}")


@dataclass(frozen=True)
class Code(ABC):
    """K queries in, N+1 coded queries out; K predictions back from those answers that came.

    Codes are values: frozen, hashable, equal when of one class with equal arguments. They work on
    tensors or on pytrees (tuples, lists, dicts) of tensors, each leaf by itself; dtype and device
    are kept.

    Attributes:
        queries: K, the number of queries coded together.
        stragglers: S, how many answers may be missing.
        byzantine: E, how many answers may be wrong.

    Raises:
        TypeError: An argument is of another type.
        ValueError: One is out of range, for this code or beside the others.
    """

    queries: int
    stragglers: int
    byzantine: int = 0

    name: ClassVar[str]
    """The name by which ``make_code`` knows the code."""
    mode: ClassVar[Mode]
    """How the code's queries are sent, see ``Plan``."""
    locates: ClassVar[bool] = False
    """Whether the code finds wrong answers, so that ``byzantine`` may be above 0."""

    def __post_init__(self) -> None:
        check_count("queries", self.queries, 1)
        check_count("stragglers", self.stragglers, 0)
        check_count("byzantine", self.byzantine, 0)
        if self.byzantine and not self.locates:
            raise ValueError(
                f"byzantine must be 0 for code {self.name!r}, got {self.byzantine}: set it to 0 or "
                "use name='pairs' or name='replication'"
            )

    @property
    @abstractmethod
    def num_workers(self) -> int:
        """N+1, the number of coded queries of a group."""

    @property
    @abstractmethod
    def sources(self) -> tuple[int | None, ...]:
        """For each coded query, the query that it equals, or None."""

    @property
    def systematic(self) -> bool:
        """Whether coded queries 0..K-1 are the queries themselves."""
        return self.sources[: self.queries] == tuple(range(self.queries))

    @property
    def models(self) -> tuple[str, ...]:
        """Which weights answer each coded query: ``base``, the user's model, or another name.

        Every coded query that equals a query is the base model's. Other names stand for weights
        that were made for this code, such as a trained parity; whoever computes answers must be
        given them by these names.
        """
        return (BASE,) * self.num_workers

    @property
    def roles(self) -> tuple[str, ...]:
        """The names in ``models`` beside ``base``, each once, in order."""
        return tuple(dict.fromkeys(name for name in self.models if name != BASE))

    def encode(self, queries: PyTree, *, batch_dims: int = 0) -> PyTree:
        """Turns the queries of a group into its coded queries.

        Args:
            queries: Leaves ``[*batch, K, *q]``.
            batch_dims: Number of axes before the K axis.

        Returns:
            Coded queries, leaves ``[*batch, N+1, *q]``.

        Raises:
            TypeError: A leaf is not a tensor, or of a dtype that the code cannot combine.
            ValueError: A leaf's shape does not fit.
        """
        return flatten("queries", queries, self.queries, batch_dims).map(self._encode)

    def recoverable(self, available: Tensor) -> Tensor:
        """Tells which queries' predictions the answers determine.

        Args:
            available: bool ``[..., N+1]``, the answers that came and are not known to be wrong.

        Returns:
            bool ``[..., K]`` on the device of ``available``.

        Raises:
            TypeError: ``available`` is not a bool tensor.
            ValueError: Its last axis is not N+1 long.
        """
        mask = check_mask("available", available, self.num_workers)
        return self._recoverable(mask).to(available.device)

    def decode(self, predictions: PyTree, available: Tensor, *, batch_dims: int = 0) -> PyTree:
        """Turns the answers that came into the queries' predictions.

        What stands at unavailable positions is never read, be it NaN.

        Args:
            predictions: Leaves ``[*batch, N+1, *p]``.
            available: bool ``[*batch, N+1]``, or ``[N+1]`` for all groups of the batch; leave out
                answers that ``locate`` found wrong.
            batch_dims: Number of axes before the N+1 axis.

        Returns:
            Predictions, leaves ``[*batch, K, *p]``.

        Raises:
            NotRecoverableError: Some query cannot be recovered; it says which.
            TypeError: A leaf or ``available`` is not a tensor of a fitting dtype.
            ValueError: A shape does not fit.
        """
        flat, mask = self._check(predictions, available, batch_dims)
        patterns = by_pattern(self._usable(flat, mask))
        for came, rows in patterns:
            self._require(came, rows[0] if batch_dims else None)
        if len(patterns) == 1:
            return flat.map(lambda leaf: self._decode(leaf, tuple(patterns[0][0])))

        def decode(leaf: Tensor) -> Tensor:
            result = leaf.new_empty(leaf.shape[0], self.queries, leaf.shape[2])
            for came, rows in patterns:
                chosen = torch.tensor(rows, device=leaf.device)
                part = self._decode(leaf.index_select(0, chosen), tuple(came))
                result = result.index_copy(0, chosen, part)
            return result

        return flat.map(decode)

    def locate(self, predictions: PyTree, available: Tensor, *, batch_dims: int = 0) -> Tensor:
        """Tells which of the answers that came are wrong.

        Args:
            predictions: Leaves ``[*batch, N+1, *p]``.
            available: bool ``[*batch, N+1]`` or ``[N+1]``.
            batch_dims: Number of axes before the N+1 axis.

        Returns:
            bool ``[*batch, N+1]`` on the device of ``available``; all false for a code with
            ``byzantine=0``, which takes every answer to be right.

        Raises:
            TypeError: A leaf or ``available`` is not a tensor of a fitting dtype.
            ValueError: A shape does not fit.
        """
        flat, mask = self._check(predictions, available, batch_dims)
        wrong = self._locate(flat, mask) if self.byzantine else torch.zeros_like(mask)
        return wrong.reshape(*flat.batch_shape, self.num_workers).to(available.device)

    def plan(self) -> Plan:
        """Returns all that a scheduler, such as the frontend plugin, needs to know."""
        return Plan(
            queries=self.queries,
            num_workers=self.num_workers,
            mode=self.mode,
            systematic=self.sources,
            quorum=self.num_workers - self.stragglers,
        )

    def _usable(self, predictions: Flat, available: Tensor) -> Tensor:
        """Returns which answers ``decode`` uses, of a mask bool ``[batch, N+1]``."""
        return available

    @abstractmethod
    def _encode(self, queries: Tensor) -> Tensor:
        """Encodes one leaf, ``[batch, K, features]`` to ``[batch, N+1, features]``."""

    @abstractmethod
    def _recoverable(self, available: Tensor) -> Tensor:
        """Computes ``recoverable`` for a checked mask on the CPU."""

    @abstractmethod
    def _decode(self, predictions: Tensor, pattern: tuple[int, ...]) -> Tensor:
        """Decodes one leaf, ``[batch, N+1, features]``; ``pattern`` is recoverable."""

    def _locate(self, predictions: Flat, available: Tensor) -> Tensor:
        """Computes ``locate`` for ``byzantine > 0``; the mask is bool ``[batch, N+1]``."""
        raise NotImplementedError

    def _require_stragglers(self) -> None:
        """Raises ``ValueError`` where no answer may be missing."""
        if self.stragglers == 0:
            raise ValueError(
                "stragglers must be at least 1, got 0: use name='uncoded' to tolerate nothing"
            )

    def _check(
        self, predictions: PyTree, available: Tensor, batch_dims: int
    ) -> tuple[Flat, Tensor]:
        """Checks predictions and mask; brings the mask to bool ``[batch, N+1]`` on the CPU."""
        flat = flatten("predictions", predictions, self.num_workers, batch_dims)
        mask = check_mask("available", available, self.num_workers)
        if mask.dim() > 1 and tuple(mask.shape[:-1]) != flat.batch_shape:
            raise ValueError(
                f"available must have shape {(*flat.batch_shape, self.num_workers)} like the "
                f"predictions with batch_dims={batch_dims}, or {(self.num_workers,)} for all of "
                f"them, got {tuple(mask.shape)}"
            )
        batch = flat.leaves[0].shape[0]
        return flat, mask.expand(*flat.batch_shape, -1).reshape(batch, self.num_workers)

    def _require(self, came: list[int], group: int | None) -> None:
        """Raises ``NotRecoverableError`` unless the answers that came recover every query."""
        mask = torch.zeros(self.num_workers, dtype=torch.bool, device="cpu")
        mask[came] = True
        lost = [j for j, fine in enumerate(self._recoverable(mask).tolist()) if not fine]
        if lost:
            where = "" if group is None else f" of group {group} in the batch"
            plan = self.plan()
            enough = plan.note if plan.quorum is None else f"any {plan.quorum} answers are enough"
            raise NotRecoverableError(
                f"queries {lost}{where} cannot be recovered by code {self.name!r} from the answers "
                f"{came} of {self.num_workers} ({enough}): wait for more, send these "
                f"queries again, or raise stragglers",
                lost,
            )
