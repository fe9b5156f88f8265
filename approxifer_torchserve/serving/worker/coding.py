"""The jobs of a group: encode, parity, coded and decode, on top of the user's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from approxifer_torchserve.artifacts.locator_file import load_locator, with_locator
from approxifer_torchserve.codes import Code, LocatingCode
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.plan import Plan
from approxifer_torchserve.serving.worker import trees, wire
from approxifer_torchserve.serving.worker.checks import (
    ScreenError,
    Verdict,
    screen,
    stack_answers,
)
from approxifer_torchserve.serving.worker.failures import Failure
from approxifer_torchserve.serving.worker.flow import ApartError, StagedFlow
from approxifer_torchserve.serving.worker.payloads import Job
from approxifer_torchserve.serving.worker.request import Mates, Request


class CodingError(Exception):
    """A group job cannot be done; its reply says why and the plugin goes on without it."""


@dataclass
class Encoded:
    """What became of an encode job: coded queries, or none if no member is left to code."""

    coded: list[trees.Tree] = field(default_factory=list)
    errors: dict[int, Failure] = field(default_factory=dict)
    alone: list[int] = field(default_factory=list)


class Coding:
    """Encodes and decodes groups with the code of the plan.

    Args:
        plan: The archive's plan.
        model_dir: The unpacked archive.
        flow: The user's steps.
    """

    def __init__(self, plan: Plan, model_dir: Path, flow: StagedFlow) -> None:
        self.code: Code = archived_code(plan, model_dir)
        self.flow = flow
        self.systematic = plan.systematic
        self.screen_quorum = plan.screen_quorum

    def encode(self, job: Job, members: Sequence[Request]) -> Encoded:
        """Makes the coded queries of a group.

        Members with bad input, or that cannot be coded with the first good one, are named, and
        their positions repeat good members.
        """
        result = Encoded()
        queries = self._queries(members)
        good: dict[int, trees.Tree] = {}
        kind = None
        for member, request in zip(job.members, members, strict=True):
            query = queries[id(request)]
            if request.failure is not None:
                result.errors[member.index] = request.failure
            elif query is None or (kind is not None and trees.signature(query) != kind):
                result.alone.append(member.index)
            else:
                kind = trees.signature(query)
                good[member.index] = query
        if good:
            fill = list(good.values())
            group = [
                good.get(p, good.get(p % job.size, fill[p % len(fill)]))
                for p in range(self.code.queries)
            ]
            coded = self._encode(group)
            result.coded = [trees.row(coded, i) for i in range(self.code.num_workers)]
        return result

    def parity(self, job: Job, members: Sequence[Request]) -> trees.Tree:
        """Returns one coded query of a whole group as a batch of one row.

        Raises:
            CodingError: A member's input is bad, or the members cannot be coded together.
        """
        queries = self._queries(members)
        group: dict[int, trees.Tree] = {}
        for member, request in zip(job.members, members, strict=True):
            query = queries[id(request)]
            if request.failure is not None:
                raise CodingError(f"member {member.index}: {request.failure.message}")
            if query is None:
                raise CodingError(f"member {member.index} is not one query of floating tensors")
            group[member.index] = query
        if len({trees.signature(query) for query in group.values()}) != 1:
            raise CodingError("members differ in structure, shape or dtype")
        coded = self._encode([group[p % job.size] for p in range(self.code.queries)])
        return trees.part(coded, job.coded, job.coded + 1)

    def screen(self, job: Job, blobs: Mapping[int, Any]) -> Verdict:
        """Tells whether the answers of a group fit together.

        Raises:
            CodingError: The plan asks for no screens, or the answers cannot be compared.
        """
        if self.screen_quorum is None or not isinstance(self.code, LocatingCode):
            raise CodingError("this archive's plan asks for no screens")
        try:
            return screen(self.code, self.systematic, self.screen_quorum, job.size, blobs)
        except ScreenError as error:
            raise CodingError(str(error)) from None

    def decode(
        self, job: Job, blobs: Mapping[int, Any], members: Sequence[Request]
    ) -> list[int] | None:
        """Answers members from the predictions that came; each ends with an answer or a failure.

        Returns:
            The coded queries whose answers were found wrong and left out; None where the code
            does not look: ``byzantine`` is 0, or a screen has looked before.

        Raises:
            CodingError: The predictions are broken or do not recover what is asked for.
        """
        decoded, wrong = self._decode(job, blobs)
        places = {
            id(request): member.index for member, request in zip(job.members, members, strict=True)
        }
        # Where a raw output would be: a postprocess may call numpy(), which wants the CPU.
        device = self.flow.output_device

        def output(ready: list[Request]) -> trees.Tree:
            batch = trees.stack([trees.row(decoded, places[id(r)]) for r in ready])
            return batch if device is None else trees.to_device(batch, device)

        live = [request for request in members if request.failure is None]
        for request in live:
            if len(request.rows) != 1:
                request.fail(Failure(503, "a request of several queries cannot be reconstructed"))
        self.flow.finish([request for request in live if request.failure is None], output)
        return wrong

    def _decode(self, job: Job, blobs: Mapping[int, Any]) -> tuple[trees.Tree, list[int] | None]:
        if self.code.byzantine and not self.code.systematic:
            return self._locate_and_decode(job, blobs)
        came: dict[int, trees.Tree] = {}
        for index, blob in blobs.items():
            try:
                came[index] = wire.decode(blob)
            except wire.WireError as error:
                raise CodingError(f"prediction {index}: {error}") from None
        if not came:
            raise CodingError("no predictions came")
        self._repeat(job.size, came)
        # Compared with a batch dimension, so that whole rows are compared.
        rows = {index: trees.stack([tree]) for index, tree in came.items()}
        if len({trees.signature(batch) for batch in rows.values()}) != 1:
            raise CodingError("predictions differ in structure, shape or dtype")
        nothing = trees.tree_map(torch.zeros_like, next(iter(came.values())))
        answers = trees.stack([came.get(i, nothing) for i in range(self.code.num_workers)])
        available = torch.tensor([i in came for i in range(self.code.num_workers)])
        return self._recover(job, answers, available), None

    def _locate_and_decode(
        self, job: Job, blobs: Mapping[int, Any]
    ) -> tuple[trees.Tree, list[int]]:
        try:
            answers, available = stack_answers(self.code.num_workers, blobs)
        except ScreenError as error:
            raise CodingError(str(error)) from None
        with torch.no_grad():
            wrong = self.code.locate(answers, available)
        return self._recover(job, answers, available & ~wrong), wrong.nonzero().flatten().tolist()

    def _recover(self, job: Job, answers: trees.Tree, available: torch.Tensor) -> trees.Tree:
        with torch.no_grad():
            recoverable = self.code.recoverable(available)
            lost = [m.index for m in job.members if not bool(recoverable[m.index])]
            if lost:
                used = available.nonzero().flatten().tolist()
                raise CodingError(f"answers {used} do not recover members {lost}")
            try:
                decoded = self.code.decode(answers, available)
            except ValueError as error:
                raise CodingError(str(error)) from None
        if not all(trees.finite(trees.row(decoded, member.index)) for member in job.members):
            raise CodingError("what is decoded holds NaN or Inf")
        return decoded

    def _repeat(self, size: int, came: dict[int, trees.Tree]) -> None:
        """Adds what a short group's padding would have answered: the same as the member."""
        by_query = {q: i for i, q in enumerate(self.systematic) if q is not None}
        for index, query in enumerate(self.systematic):
            if query is not None and query >= size and index not in came:
                source = by_query.get(query % size)
                if source in came:
                    came[index] = came[source]

    def _encode(self, group: list[trees.Tree]) -> trees.Tree:
        with torch.no_grad():
            return self.code.encode(trees.join(group))

    def _queries(self, members: Sequence[Request]) -> dict[int, trees.Tree | None]:
        """Returns each member's query as a batch of one row, None where it cannot be coded."""
        single = [r for r in members if len(r.rows) == 1 and r.failure is None]
        found: dict[int, trees.Tree | None] = {id(request): None for request in members}
        try:
            ready, value = self.flow.queries(single)
            batches = _split(value, len(ready))
        except ApartError as apart:
            ready, batches = apart.requests, None
        if batches is None:
            # Together they are not one row each; alone each may be.
            for request in ready:
                in_, value = self.flow.queries([request])
                split = _split(value, 1) if in_ else None
                found[id(request)] = split[0] if split else None
        else:
            for request, batch in zip(ready, batches, strict=True):
                found[id(request)] = batch
        return {
            key: query if query is not None and trees.floating(query) else None
            for key, query in found.items()
        }


def _split(value: Any, rows: int) -> list[trees.Tree] | None:
    if trees.rows_of(value) != rows:
        return None
    return [trees.part(value, i, i + 1) for i in range(rows)]


def archived_code(plan: Plan, model_dir: Path) -> Code:
    """Makes the code of a plan, with the archive's locator if it has one.

    Args:
        plan: The archive's plan.
        model_dir: The unpacked archive.

    Raises:
        ConfigError: The locator is missing, broken, or not the one that was archived.
    """
    code = plan.code.make()
    if plan.worker.locator is None:
        return code
    path = model_dir / plan.worker.locator
    try:
        locator = load_locator(path)
        located = with_locator(code, locator)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path.name} of the archive cannot be used ({error}); archive the model again"
        ) from error
    if locator.fingerprint != plan.worker.locator_fingerprint:
        raise ConfigError(
            f"{path.name} is not the one that was archived: its numbers differ; archive the "
            "model again"
        )
    return located


def coded_query(blob: Any, flow: StagedFlow) -> trees.Tree:
    """Reads a coded query off the wire as a batch of one row, on the handler's device.

    Raises:
        CodingError: It is broken.
    """
    try:
        batch = trees.stack([wire.decode(blob)])
    except wire.WireError as error:
        raise CodingError(f"coded query: {error}") from None
    device = getattr(flow.handler, "device", None)
    return batch if device is None else trees.to_device(batch, device)


def prediction_of(mates: Mates, place: int) -> trees.Tree:
    """Returns a coded query's prediction, without batch dimension.

    Raises:
        CodingError: Its inference failed, or gave nothing that can be decoded.
    """
    output = mates.outputs[place]
    if isinstance(output, Exception) or output is None:
        raise CodingError(f"inference failed: {type(output).__name__}")
    if not trees.floating(output):
        raise CodingError("inference did not return floating tensors")
    return trees.row(output, 0)
