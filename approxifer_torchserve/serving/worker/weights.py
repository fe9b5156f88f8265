"""Weights of their own that some coded queries need, in the worker that is asked for them.

A parity model, say, is the user's own handler with another module in place of ``handler.model``. It
is loaded with the first job that needs it: the plugin asks as few workers as it can.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from approxifer_torchserve.artifacts.weights import load
from approxifer_torchserve.serving.worker.flow import StagedFlow
from approxifer_torchserve.serving.worker.request import Mates

RETRY_S = 30.0
# Where the plugin no longer asks this worker, the memory is given back.
KEEP_S = 600.0
logger = logging.getLogger(__name__)


class WeightsError(Exception):
    """The weights of a role cannot be used here; the plugin asks another worker."""


@dataclass
class _Held:
    module: nn.Module
    used: float
    seen: bool = False


class OwnWeights:
    """The modules of a plan's roles, loaded when they are first asked for.

    Args:
        models: The role of each coded query, ``base`` for the handler's own.
        files: Their files, by role.
        handler: The user's handler, whose ``model`` is swapped while a role's module computes.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        models: Sequence[str],
        files: Mapping[str, Path],
        handler: Any,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.models = models
        self.files = files
        self.handler = handler
        self.clock = clock
        self._held: dict[str, _Held] = {}
        self._failed: dict[str, tuple[float, str]] = {}

    def role(self, coded: int) -> str:
        """Returns whose weights serve a coded query."""
        return self.models[coded]

    def infer(self, role: str, mates: Mates, flow: StagedFlow) -> None:
        """Runs the user's inference on coded queries with a role's module.

        Afterwards each mate has an output; it is a ``WeightsError`` where the module is not there.
        """
        try:
            held = self._get(role)
            with self._in_place(held) as called:
                flow.infer_mates(mates)
            held.used = self.clock()
            held.seen = held.seen or bool(called)
            if not held.seen and not all(isinstance(o, Exception) for o in mates.outputs):
                # The model's own answers would be taken for the role's.
                raise self._refused(role, "the handler's inference does not call handler.model")
        except WeightsError as error:
            mates.outputs[:] = [error] * len(mates.outputs)

    def let_go(self) -> None:
        """Gives up modules that nobody has asked for in a long time."""
        if not self._held:
            return
        oldest = self.clock() - KEEP_S
        for role in [role for role, held in self._held.items() if held.used < oldest]:
            del self._held[role]
            logger.info("weights of %s: not needed for %.0f s, given up", role, KEEP_S)

    @contextmanager
    def _in_place(self, held: _Held) -> Iterator[list[int]]:
        """Puts a module into the handler; yields which of its parts are called, if not known."""
        called: list[int] = []
        own = {id(module) for module in held.module.modules()}

        def note(module: nn.Module, _: Any, __: Any) -> None:
            if id(module) in own:
                called.append(id(module))

        # Not on the module itself: TorchScript's take no hooks.
        hook = None if held.seen else register_module_forward_hook(note)
        base = self.handler.model
        self.handler.model = held.module
        try:
            yield called
        finally:
            self.handler.model = base
            if hook is not None:
                hook.remove()

    def _get(self, role: str) -> _Held:
        held = self._held.get(role)
        if held is not None:
            return held
        when, why = self._failed.get(role, (-RETRY_S, ""))
        if self.clock() - when < RETRY_S:
            raise WeightsError(why)
        held = self._held[role] = _Held(self._load(role), self.clock())
        self._failed.pop(role, None)
        return held

    def _load(self, role: str) -> nn.Module:
        model = getattr(self.handler, "model", None)
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise self._refused(
                role, f"the handler's attribute model is no torch.nn.Module (it is {kind})"
            )
        if role not in self.files:
            raise self._refused(role, "the archive holds none; archive the model again")
        path = self.files[role]
        start = time.monotonic()
        try:
            # What torch.compile wraps; its own names have a prefix.
            like = getattr(model, "_orig_mod", model)
            module = load(path, like, _device(self.handler, model))
        except Exception as error:  # torch raises what it likes when memory or a file is short
            raise self._refused(role, str(error)) from error
        logger.info(
            "weights of %s: loaded %s, %.1f MB on %s in %.2f s, process %d",
            role,
            path.name,
            _bytes(module) / 1e6,
            _device(self.handler, module),
            time.monotonic() - start,
            os.getpid(),
        )
        return module

    def _refused(self, role: str, why: str) -> WeightsError:
        text = f"weights of {role}: {why}"
        logger.error("%s; tried again in %.0f s, process %d", text, RETRY_S, os.getpid())
        self._held.pop(role, None)
        self._failed[role] = (self.clock(), text)
        return WeightsError(text)


def _device(handler: Any, model: nn.Module) -> torch.device:
    device = getattr(handler, "device", None)
    if device is not None:
        return torch.device(device)
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _bytes(module: nn.Module) -> int:
    tensors = {id(t): t for t in (*module.parameters(), *module.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())
