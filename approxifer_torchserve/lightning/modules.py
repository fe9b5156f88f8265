"""Calls the module under validation without leaving a trace in it, or in what is random."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn
from torch.utils import _pytree as pytree

from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.lightning.batches import Selector, select


class ModuleFailedError(RuntimeError):
    """The user's module raised an error; the message says which arguments choose what it gets."""


class Answer:
    """A model as evaluation calls it: under the trainer's precision, one part of what it returns.

    A model that fails without gradients, such as one that derives forces from an energy, is called
    with them; from then on at once.

    Args:
        trainer: Gives the precision.
        model: The module, one of its methods, or a role's model.
        outputs: What of its output is decoded; None for all.
        name: What errors call it.
    """

    def __init__(
        self, trainer: Trainer, model: Callable[[Any], Any], outputs: Selector, name: str
    ) -> None:
        self.trainer, self.model, self.outputs, self.name = trainer, model, outputs, name
        self.with_gradients = False

    def __call__(self, inputs: PyTree) -> PyTree:
        """Answers a batch.

        Args:
            inputs: Leaves ``[n, *q]``.

        Returns:
            Predictions, leaves ``[n, *p]``.

        Raises:
            ModuleFailedError: The model raised an error.
            ValueError: ``outputs`` is no part of what it returned.
        """
        try:
            with self.trainer.precision_plugin.forward_context():
                returned = self._call(inputs)
        except Exception as error:
            shapes = [tuple(leaf.shape) for leaf in pytree.tree_leaves(inputs)]
            raise ModuleFailedError(
                f"{self.name} failed on inputs of shapes {shapes}: {type(error).__name__}: "
                f"{error}; choose what it is called with by inputs (a function can also convert), "
                "or another method of the module by forward"
            ) from error
        return select("outputs", returned, self.outputs)

    def _call(self, inputs: PyTree) -> Any:
        if self.with_gradients:
            return self._call_with_gradients(inputs)
        try:
            return self.model(inputs)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            try:
                returned = self._call_with_gradients(inputs)
            except Exception:
                raise error from None
            self.with_gradients = True
            return returned

    def _call_with_gradients(self, inputs: PyTree) -> Any:
        # Clones are no inference tensors, which autograd refuses.
        with torch.inference_mode(False), torch.enable_grad():
            returned = self.model(pytree.tree_map(torch.clone, inputs))
        return pytree.tree_map(_detached, returned)


class Modules:
    """The module under validation, and models for a code's own weights.

    Args:
        trainer: What validates it.
        pl_module: The module.
        weights: Models by role.
        forward: The module's method to call; None for itself.
        outputs: What of the output is decoded; None for all.
        seed: Of what forwards draw.

    Attributes:
        answer: The module as evaluation calls it.
        own: The roles' models, likewise.

    Raises:
        ValueError: ``forward`` is no method of the module.
    """

    def __init__(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        weights: Mapping[str, nn.Module],
        forward: str | None,
        outputs: Selector,
        seed: int,
    ) -> None:
        called = pl_module if forward is None else getattr(pl_module, forward, None)
        if not callable(called):
            raise ValueError(
                f"forward: expected a method of {type(pl_module).__name__}, got {forward!r}"
            )
        self.pl_module, self.weights, self.seed = pl_module, dict(weights), seed
        self.device = trainer.strategy.root_device
        self.answer = Answer(trainer, called, outputs, "the module")
        self.own = {
            role: Answer(trainer, model, outputs, f"weights[{role!r}]")
            for role, model in self.weights.items()
        }

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Puts everything into eval mode; modes and all random states are put back after."""
        parts = (self.pl_module, *self.weights.values())
        modes = [(module, module.training) for part in parts for module in part.modules()]
        with isolate_rng(), torch.no_grad(), _silent(self.pl_module), _not_recompiling():
            torch.manual_seed(self.seed)
            with torch.inference_mode(False):  # Or moved parameters would be inference tensors.
                for part in self.weights.values():
                    part.to(self.device)
            for part in parts:
                part.eval()
            try:
                yield
            finally:
                # Not train(mode), which would set all children alike.
                for module, mode in modes:
                    module.training = mode


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, torch.Tensor) else leaf


@contextmanager
def _silent(module: LightningModule) -> Iterator[None]:
    """Drops what ``forward`` logs: coded queries would mix into the run's own figures."""
    before = module.__dict__.get("log")
    module.__dict__["log"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del module.__dict__["log"]
        if before is not None:
            module.__dict__["log"] = before


def _not_recompiling() -> AbstractContextManager[Any]:
    """Lets a compiled module run as it is where our batches have other sizes than training's."""
    set_stance = getattr(torch.compiler, "set_stance", None)
    if set_stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = set_stance("eager_on_recompile")
    return stance
