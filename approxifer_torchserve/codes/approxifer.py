"""ApproxIFER: predictions as points of a curve that answers interpolate.

Source: M. Soleymani, R. E. Ali, H. Mahdavifar, A. S. Avestimehr, "ApproxIFER: A Model-Agnostic
Approach to Resilient and Robust Prediction Serving Systems", AAAI 2022, arXiv 2109.09868.
The systematic variant is this project's; the paper has no such code.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar, Literal

from torch import Tensor

from approxifer_torchserve.codes.base import Code
from approxifer_torchserve.codes.berrut import berrut_decoder, berrut_weights
from approxifer_torchserve.codes.locators.base import Locator
from approxifer_torchserve.codes.locators.locating import LocatingCode
from approxifer_torchserve.codes.locators.rational import RationalLocator
from approxifer_torchserve.codes.locators.residual import ResidualLocator
from approxifer_torchserve.codes.nodes import (
    NodeSet,
    parity_angles,
    positions,
    query_angles,
    worker_angles,
)
from approxifer_torchserve.codes.plan import Mode
from approxifer_torchserve.codes.registry import Option, register_code


@dataclass(frozen=True)
class BerrutCode(LocatingCode):
    """Berrut's interpolant through the queries, read at the workers' nodes, and back.

    ``num_workers`` is K+S without Byzantine workers, else 2(K+E)+S. Any K answers (2K+E when
    ``byzantine`` > 0, wrong ones left out) recover every query, approximately; an answer to a coded
    query that *is* a query recovers that one exactly.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.byzantine == 0:
            self._require_stragglers()

    @property
    def num_workers(self) -> int:
        """N+1: K+S, or 2(K+E)+S for E > 0."""
        if self.byzantine == 0:
            return self.queries + self.stragglers
        return 2 * (self.queries + self.byzantine) + self.stragglers

    @property
    @abstractmethod
    def worker_angles(self) -> tuple[Fraction, ...]:
        """Angle over pi of each coded query's node."""

    @property
    def sources(self) -> tuple[int | None, ...]:
        """For each coded query, the query on the same node, or None."""
        return _sources(self)

    def default_locator(self) -> Locator:
        """Returns a ``ResidualLocator`` with a spline over the workers' nodes."""
        return _residual_locator(self.worker_angles)

    def rational_locator(self) -> RationalLocator:
        """Returns the paper's locator, which always names ``byzantine`` workers."""
        nodes = tuple(positions(self.worker_angles).tolist())
        return RationalLocator(nodes, self.queries, self.byzantine)

    def _encoding_matrix(self) -> Tensor:
        return berrut_weights(positions(query_angles(self.queries)), positions(self.worker_angles))

    def _decoding_matrix(self, available: Tensor) -> Tensor:
        return berrut_decoder(
            positions(self.worker_angles), positions(query_angles(self.queries)), available
        )

    def _recoverable(self, available: Tensor) -> Tensor:
        minimum = self.num_workers - self.stragglers - self.byzantine
        enough = available.sum(dim=-1, keepdim=True) >= minimum
        recoverable = enough.expand(*enough.shape[:-1], self.queries).clone()
        for worker, query in enumerate(self.sources):
            if query is not None:
                recoverable[..., query] |= available[..., worker]
        return recoverable


@lru_cache(maxsize=64)
def _residual_locator(angles: tuple[Fraction, ...]) -> Locator:
    rows = tuple((node,) for node in positions(angles).tolist())
    return ResidualLocator("spline", rows)


@lru_cache(maxsize=64)
def _sources(code: BerrutCode) -> tuple[int | None, ...]:
    # Cached because every decode asks, and hashing fractions is slow.
    at = {angle: query for query, angle in enumerate(query_angles(code.queries))}
    return tuple(at.get(angle) for angle in code.worker_angles)


@dataclass(frozen=True)
class ApproxIFER(BerrutCode):
    """The code of the paper: no coded query is a query, except where nodes happen to coincide.

    The identity model is not decoded to the identity even with every answer in, and reordering the
    queries of a group changes what is decoded.

    Attributes:
        nodes: ``authors`` (cos(i pi/(N+1)), as in the published figures) or ``paper``
            (cos(i pi/N), as printed).
    """

    nodes: NodeSet = "authors"

    name: ClassVar[str] = "approxifer"
    mode: ClassVar[Mode] = "coded"

    def __post_init__(self) -> None:
        super().__post_init__()
        # Computed for its check of `nodes`, which should fail here and not at the first encode.
        _ = self.worker_angles

    @property
    def worker_angles(self) -> tuple[Fraction, ...]:
        """Angle over pi of each coded query's node."""
        return worker_angles(self.nodes, self.num_workers)


@dataclass(frozen=True)
class SystematicApproxIFER(BerrutCode):
    """Coded queries 0..K-1 are the queries; parities sit in the widest gaps between them.

    Decoding a query whose own answer came copies that answer, bit by bit. A parity computed by
    the base weights says little about a lost query: measure before serving with it.
    """

    name: ClassVar[str] = "approxifer"
    mode: ClassVar[Mode] = "systematic"

    @property
    def worker_angles(self) -> tuple[Fraction, ...]:
        """Angle over pi of each coded query's node: the queries', then the parities'."""
        parities = parity_angles(self.queries, self.num_workers - self.queries)
        return query_angles(self.queries) + parities


def _settle(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"systematic": "nodes" not in options, **options}


@register_code(
    "approxifer",
    summary="Berrut interpolation over K+S workers, approximate; systematic: exact unless late.",
    paper="Soleymani et al., AAAI 2022, arXiv 2109.09868",
    options=(
        Option(
            "systematic",
            "true or false",
            None,
            "Coded queries 0..K-1 are the queries themselves; default true unless nodes is given.",
        ),
        Option(
            "nodes",
            "authors or paper",
            None,
            "Worker nodes when not systematic, cos(i pi/(N+1)) or cos(i pi/N); default authors.",
        ),
        Option(
            "locator",
            "a Locator, or rational",
            None,
            "Finds wrong answers; rational: the paper's; default: spline residuals.",
        ),
    ),
    settle=_settle,
)
def approxifer(
    *,
    queries: int,
    stragglers: int,
    byzantine: int = 0,
    systematic: bool,
    nodes: NodeSet | None = None,
    locator: Locator | Literal["rational"] | None = None,
) -> Code:
    """Makes an ApproxIFER code, see ``make_code``.

    Args:
        queries: K, how many queries form a group.
        stragglers: S, how many answers may be missing.
        byzantine: E, how many answers may be wrong.
        systematic: Whether coded queries 0..K-1 are the queries.
        nodes: Worker nodes of the classic code; None: ``authors``.
        locator: Finds wrong answers; ``rational``: the paper's; None: ``ResidualLocator``.

    Returns:
        A ``SystematicApproxIFER`` or an ``ApproxIFER``.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument is out of range, or ``nodes`` is given for a systematic code.
    """
    if not isinstance(systematic, bool):
        raise TypeError(f"systematic must be true or false, got {systematic!r}")
    if systematic and nodes is not None:
        raise ValueError(
            f"nodes must be left out when systematic is true, which has its own; got {nodes!r}: "
            f"remove nodes or set systematic to false"
        )
    code: BerrutCode
    if systematic:
        code = SystematicApproxIFER(queries, stragglers, byzantine)
    else:
        code = ApproxIFER(queries, stragglers, byzantine, "authors" if nodes is None else nodes)
    if locator is None:
        return code
    return code.with_locator(code.rational_locator() if locator == "rational" else locator)
