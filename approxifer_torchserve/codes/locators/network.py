"""The learnt locator of the ``pairs`` code: a small network that has seen liars of every kind.

Each query's answer is a node, each mixture's an edge of the code's graph. A network that passes
messages along it (the same weights at every node and edge) says how likely each worker is the one
that lies, and how likely none is. It is trained on the answers of clean groups with lies put in.

    answers ─▶ Traits (of each: scaled, whitened, each element given the others, nearest copy) and
               Relations (of each mixture and its queries: the error of one given two)
            ─▶ edge(first, second, mixture) ─▶ node(own, sum of edges) ─▶ one logit per worker, one for none
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from approxifer_torchserve.codes.base import check_count, check_number
from approxifer_torchserve.codes.linear import LinearCode
from approxifer_torchserve.codes.locators.base import (
    Locator,
    check_names,
    check_numbers,
    check_tensor,
)
from approxifer_torchserve.codes.locators.features import (
    MAX_MAGNITUDE,
    Relations,
    Traits,
    distance,
    gross,
    with_gross,
)
from approxifer_torchserve.codes.locators.locating import MixingCode

BATCH = 512
DESCRIBED = ("own", "mixed", "relations")
"""The locator's parts that describe answers, as the names of its tensors begin."""


class PairNetwork(nn.Module):
    """Message passing over the graph of a ``pairs`` code.

    Args:
        traits: Numbers that describe an answer.
        relations: Numbers that describe two answers and their mixture's.
        queries: K, how many queries form a group.
        edges: The two queries of each mixture, see ``MixingCode``.
        width: Neurons of each hidden layer.
    """

    def __init__(
        self,
        traits: int,
        relations: int,
        queries: int,
        edges: tuple[tuple[int, int], ...],
        width: int,
    ) -> None:
        super().__init__()
        self.queries, self.width = queries, width
        self.first = [edge[0] for edge in edges]
        self.second = [edge[1] for edge in edges]

        def layers(before: int, after: int, last: bool = False) -> nn.Sequential:
            inner = width if last else 2 * width
            return nn.Sequential(
                nn.Linear(before, inner),
                nn.ReLU(),
                nn.Linear(inner, after),
                nn.Identity() if last else nn.ReLU(),
            )

        self.edge = layers(3 * traits + relations + 3, width)
        self.to_first, self.to_second = nn.Linear(width, width), nn.Linear(width, width)
        self.node = layers(traits + 2 * width + 2, width)
        self.edge_logit = layers(3 * width + traits, 1, last=True)
        self.node_logit = layers(3 * width, 1, last=True)
        self.none_logit = layers(2 * width, 1, last=True)

    def forward(
        self, own: Tensor, mixed: Tensor, related: Tensor, near: Tensor, available: Tensor
    ) -> Tensor:
        """Computes logits of "this worker lies" and, last, "none does".

        Args:
            own: ``[batch, K, traits]``, of the answers to queries.
            mixed: ``[batch, edges, traits]``.
            related: ``[batch, edges, relations]``.
            near: ``[batch, N+1]``, log distance to the nearest other answer.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            ``[batch, N+2]``; -inf where not available.
        """
        k, came = self.queries, available.to(own.dtype)
        own, mixed, near = own * came[:, :k, None], mixed * came[:, k:, None], near * came
        here = came[:, k:, None]
        ends = came[:, self.first, None], came[:, self.second, None]
        related = related * here * ends[0] * ends[1]
        pair = [own[:, self.first], own[:, self.second], mixed, related, *ends, near[:, k:, None]]
        edge = self.edge(torch.cat(pair, dim=-1)) * here
        sent = self._gather(self.to_first(edge) * here, self.to_second(edge) * here)
        touched = self._gather(edge, edge)
        known = [own, sent, touched, came[:, :k, None], near[:, :k, None]]
        node = self.node(torch.cat(known, dim=-1))
        ends = node[:, self.first], node[:, self.second]
        neighbours = self._gather(ends[1], ends[0])
        mixed_logit = self.edge_logit(torch.cat([edge, *ends, mixed], dim=-1)).squeeze(-1)
        own_logit = self.node_logit(torch.cat([node, touched, neighbours], dim=-1)).squeeze(-1)
        none = self.none_logit(torch.cat([edge.sum(dim=1), node.sum(dim=1)], dim=-1))
        workers = torch.cat([own_logit, mixed_logit], dim=1)
        return torch.cat([workers.masked_fill(~available, -torch.inf), none], dim=1)

    def _gather(self, first: Tensor, second: Tensor) -> Tensor:
        """Sums at each node what its edges send, ``[batch, edges, d]`` to ``[batch, K, d]``."""
        total = first.new_zeros(first.shape[0], self.queries, first.shape[2])
        at = torch.tensor(self.first), torch.tensor(self.second)
        return total.index_add(1, at[0], first).index_add(1, at[1], second)


class Shape(NamedTuple):
    """What a network depends on of a code, see ``MixingCode``."""

    queries: int
    byzantine: int
    stragglers: int
    share: float
    edges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, code: MixingCode) -> Shape:
        """Describes a code."""
        return cls(code.queries, code.byzantine, code.stragglers, code.share, code.edges)

    def check(self) -> None:
        """Checks the shape of a code that is not at hand.

        Raises:
            TypeError: A part is of another type.
            ValueError: One is out of range.
        """
        check_count("queries", self.queries, 2)
        check_count("byzantine", self.byzantine, 0)
        check_count("stragglers", self.stragglers, 0)
        check_number("share", self.share, 0.5, below=1)
        for query in (query for edge in self.edges for query in edge):
            check_count("edges", query, 0)
            if query >= self.queries:
                raise ValueError(f"edges must be of queries below {self.queries}, got {query}")


@dataclass(frozen=True, eq=False, repr=False)
class NetworkLocator(Locator):
    """Suspects whom a trained ``PairNetwork`` names.

    Attributes:
        code: What the code it is for looks like.
        own: Traits of the queries' answers.
        mixed: Traits of the mixtures' answers.
        relations: Of a mixture's answer and its two queries'.
        network: The network, in eval mode.
        limit: Answers farther from the mean than this are gross.
    """

    code: Shape
    own: Traits
    mixed: Traits
    relations: Relations
    network: PairNetwork
    limit: float = math.inf

    kind: ClassVar[str] = "network"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers("limit", (self.limit,))

    def near(self, answers: Tensor, available: Tensor) -> Tensor:
        """Computes the log distance to the nearest other answer: a copy is suspicious.

        Args:
            answers: ``[batch, N+1, features]``.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            ``[batch, N+1]``.
        """
        distance: Tensor = torch.cdist(
            answers, answers, compute_mode="donot_use_mm_for_euclid_dist"
        )
        distance = distance / (self.own.scale * answers.shape[2] ** 0.5)
        itself = torch.eye(answers.shape[1], dtype=torch.bool)
        distance = distance.masked_fill(itself | ~available[:, None, :], 1e9)
        return ((distance.amin(dim=-1) + 1e-4).log() / 4).clamp(-3, 1)

    def related(self, answers: Tensor) -> Tensor:
        """Describes each mixture's answer beside its two queries' answers.

        Args:
            answers: ``[batch, N+1, features]``.

        Returns:
            ``[batch, edges, relations]``.
        """
        k = self.code.queries
        own, mixed = self.own.whitened(answers[:, :k]), self.mixed.whitened(answers[:, k:])
        first, second = self.network.first, self.network.second
        whitened = torch.stack([own[:, first], own[:, second], mixed], dim=2)
        return self.relations(whitened)

    def distances(self, answers: Tensor) -> Tensor:
        """Computes how far answers are from the mean of their kind.

        Args:
            answers: ``[batch, N+1, features]``.

        Returns:
            ``[batch, N+1]``.
        """
        k = self.code.queries
        own, mixed = answers[:, :k] - self.own.mean, answers[:, k:] - self.mixed.mean
        return torch.cat([distance(own), distance(mixed)], dim=1)

    def scores(self, answers: Tensor, available: Tensor) -> Tensor:
        """Computes log odds of "this worker lies" against "none does".

        Args:
            answers: float ``[batch, N+1, features]``.
            available: bool ``[batch, N+1]``, true where an answer came.

        Returns:
            float32 ``[batch, N+1]``. Gross answers are above all others, and those are scored
            without them.
        """
        scores = []
        for values, came in zip(
            torch.split(answers, BATCH), torch.split(available, BATCH), strict=True
        ):
            values = values.float().clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE)
            k, distances = self.code.queries, self.distances(values)
            wild = gross(distances, came, self.limit)
            came = came & ~wild
            traits = self.own(values[:, :k]), self.mixed(values[:, k:])
            near = self.near(values, came)
            logits = self.network(*traits, self.related(values), near, came)
            scores.append(with_gross(logits[:, :-1] - logits[:, -1:], distances, wild))
        return torch.cat(scores)

    def settings(self) -> dict[str, object]:
        """Returns the code's shape, the network's width, the thresholds and the limit."""
        return {
            "thresholds": self.thresholds,
            "code": self.code._asdict(),
            "width": self.network.width,
            "limit": self.limit,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Returns the network's weights and what describes answers, by part and name."""
        return {
            f"{part}.{name}": value
            for part, values in (
                ("network", self.network.state_dict()),
                *((part, vars(getattr(self, part))) for part in DESCRIBED),
            )
            for name, value in values.items()
        }

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> NetworkLocator:
        """Rebuilds a locator, see ``Locator.restore``."""
        check_names({"thresholds", "code", "width", "limit"}, set(settings))
        check_count("width", settings["width"], 1)
        edges = tuple((first, second) for first, second in settings["code"]["edges"])
        code = Shape(**{**settings["code"], "edges": edges})
        code.check()
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in ("network", *DESCRIBED)}
        for key, value in tensors.items():
            check_tensor(key, value, (None,) * value.dim())
            part, _, name = key.partition(".")
            parts[part][name] = value
        own, mixed = Traits(**parts["own"]), Traits(**parts["mixed"])
        relations = Relations(**parts["relations"])
        network = PairNetwork(own.width, relations.width, code.queries, edges, settings["width"])
        network.load_state_dict(parts["network"])
        network = network.eval().requires_grad_(False)
        thresholds = tuple(settings["thresholds"])
        return cls(code, own, mixed, relations, network, settings["limit"], thresholds=thresholds)

    def fits(self, code: LinearCode) -> str | None:
        """Tells whether the locator is for this ``pairs`` code.

        Args:
            code: The code that is to have the locator.

        Returns:
            None, or what does not fit.
        """
        if not isinstance(code, MixingCode):
            return f"it is for code 'pairs', not {type(code).__name__}"
        own, theirs = self.code, Shape.of(code)
        if own == theirs:
            return None
        return f"(K, E, S, share) is {own[:4]}, the code's {theirs[:4]}"
