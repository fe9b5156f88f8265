"""Training of the weights that a code has of its own, such as ParM's parity models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from approxifer_torchserve.artifacts import weights as own_weights
from approxifer_torchserve.codes import Code, LinearCode
from approxifer_torchserve.codes.pytree import PyTree
from approxifer_torchserve.lightning.batches import select

Start = Literal["base", "fresh"]


class ParityTraining(LightningModule):
    """Trains one model for each of a code's roles to answer for coded queries of its own.

    Queries of a batch are shuffled and grouped by K, and encoded. A parity model is to answer a
    coded query by the same combination of the base model's predictions that made it out of the
    queries; the loss is the mean squared error. Labels are not needed. What is left of a batch
    beyond whole groups is not used. Logged: ``train_loss`` and ``val_loss``, and with several roles
    ``train_loss/parity0`` and so on; the former are their sums.

    The module itself answers as the base model does, so that ``DegradedAccuracy`` with
    ``weights=training.parities`` tells A_d after each epoch, and ``ModelCheckpoint`` can keep the
    best one.

    Source: Kosaian, Rashmi, Venkataraman, SOSP 2019, section 3. The authors' program trains from
    random weights, with Adam at a learning rate of 0.001 and a weight decay of 0.00001, for
    hundreds of epochs; to start from the base weights, one cycle of the learning rate and
    ``rounds`` are this project's.

    Args:
        base: The model that is served; copied, and used in eval mode as it is.
        code: A linear code with roles, such as ``parm``.
        models: A model for each role, to be trained in place; None for copies of ``base``.
        start: ``base`` starts from the base model's weights, ``fresh`` from random ones (every
            submodule's ``reset_parameters``); only without ``models``.
        lr: The learning rate's peak.
        weight_decay: L2 penalty of Adam.
        rounds: How often each batch is grouped anew. The base model answers a batch once, whatever
            this is; a parity model gets ``rounds`` / K of its size.
        inputs: What of a batch the model is called with: index, key, attribute or function; None
            for a batch that is the inputs itself, or a tuple or list whose first part they are.
        outputs: What of the model's output is coded, likewise; None for all.
        seed: Seeds the grouping and random weights. For equal results also seed what the data
            loader draws and the models' dropout (``seed_everything``).

    Raises:
        TypeError: ``code`` is not linear.
        ValueError: It has no roles, an argument is out of range, or ``models`` are of other roles.

    Example:
        >>> import torch
        >>> from lightning.pytorch import Trainer
        >>> from torch.utils.data import DataLoader
        >>> from approxifer_torchserve.codes import make_code
        >>> base = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        >>> training = ParityTraining(base, make_code("parm", queries=4, stragglers=1))
        >>> loader = DataLoader(torch.randn(256, 6), batch_size=64, shuffle=True)
        >>> trainer = Trainer(max_epochs=5, accelerator="cpu", logger=False)
        >>> trainer.fit(training, loader)  # doctest: +SKIP
        >>> training.save("build/weights")  # doctest: +SKIP
        {'parity': PosixPath('build/weights/parity.safetensors')}
    """  # noqa: E501

    def __init__(
        self,
        base: nn.Module,
        code: Code,
        *,
        models: Mapping[str, nn.Module] | None = None,
        start: Start = "base",
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        rounds: int = 1,
        inputs: int | Callable[[Any], Any] | str | None = None,
        outputs: int | Callable[[Any], Any] | str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(code, LinearCode):
            raise TypeError(f"code: expected a linear one, got {code!r}")
        if not code.roles:
            raise ValueError(f"code: expected one with weights of its own ('parm'), got {code!r}")
        if start not in get_args(Start):
            raise ValueError(f"start: expected one of {get_args(Start)}, got {start!r}")
        if rounds < 1:
            raise ValueError(f"rounds: expected at least 1, got {rounds}")
        if not lr > 0:
            raise ValueError(f"lr: expected above 0, got {lr}")
        if models is not None and (set(models) != set(code.roles) or start != "base"):
            raise ValueError(
                f"models: expected one for each of {list(code.roles)} and start='base', got "
                f"{sorted(models)} and start={start!r}"
            )
        self.code, self.lr, self.weight_decay, self.rounds = code, lr, weight_decay, rounds
        self.inputs, self.outputs, self.seed = inputs, outputs, seed
        self.base = _copy(base)
        for parameter in self.base.parameters():
            parameter.requires_grad_(False)
        self.base.eval()
        self.parities = nn.ModuleDict(
            {role: _copy(base) for role in code.roles} if models is None else dict(models)
        )
        for parameter in self.parities.parameters():
            parameter.requires_grad_(True)
        if start == "fresh":
            with isolate_rng():
                torch.manual_seed(seed)
                _reset(self.parities)
        self._draw = torch.Generator().manual_seed(seed)

    def forward(self, inputs: PyTree) -> PyTree:
        """Answers as the base model does.

        Args:
            inputs: Leaves ``[B, *q]``.

        Returns:
            Predictions, leaves ``[B, *p]``.
        """
        with torch.no_grad():
            return self.base(inputs)

    def train(self, mode: bool = True) -> ParityTraining:
        """Sets the mode of the parity models; the base model stays in eval mode.

        Args:
            mode: Training mode, else eval mode.

        Returns:
            This module.
        """
        super().train(mode)
        self.base.eval()
        return self

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Computes and logs the loss of one batch, newly grouped.

        Args:
            batch: Inputs with leaves ``[B, *q]``, see ``inputs``.
            batch_idx: Is not used.

        Returns:
            A scalar, the sum of the roles' losses.

        Raises:
            ValueError: It has fewer than K queries.
        """
        return self._log_losses("train_loss", self.losses(batch, self._draw, self.rounds))

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Logs the loss of one batch, grouped alike in every epoch.

        Args:
            batch: Inputs with leaves ``[B, *q]``, see ``inputs``.
            batch_idx: Seeds the grouping.
            dataloader_idx: Is not used.

        Raises:
            ValueError: The batch has fewer than K queries.
        """
        draw = torch.Generator().manual_seed(self.seed + batch_idx)
        self._log_losses("val_loss", self.losses(batch, draw, 1))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Makes Adam, under one cycle of the learning rate, stepped with every batch."""
        parameters = self.parities.parameters()
        optimizer = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    def losses(self, batch: Any, draw: torch.Generator, rounds: int) -> dict[str, Tensor]:
        """Computes the mean squared error of each role's model.

        Args:
            batch: As the data loader gives it; its inputs have leaves ``[B, *q]``.
            draw: Draws the grouping, on the CPU.
            rounds: How often to group the batch.

        Returns:
            A scalar for each role, summed over the outputs.

        Raises:
            ValueError: The batch has fewer than K queries.
        """
        queries = self._queries(batch)
        count, size = len(pytree.tree_leaves(queries)[0]), self.code.queries
        if count < size:
            raise ValueError(
                f"batch: expected at least queries={size} to make a group, got {count}; raise the "
                "data loader's batch_size (and set drop_last)"
            )
        predictions = select("outputs", self(queries), self.outputs)
        whole = count // size * size
        drawn = [torch.randperm(count, generator=draw)[:whole] for _ in range(rounds)]
        index = torch.cat(drawn).reshape(-1, size)

        def coded(leaf: Tensor) -> Tensor:
            encoded: Tensor = self.code.encode(leaf[index.to(leaf.device)], batch_dims=1)
            return encoded

        queries = pytree.tree_map(coded, queries)
        targets = pytree.tree_map(coded, predictions)
        found = {}
        for role, model in self.parities.items():
            workers = [i for i, name in enumerate(self.code.models) if name == role]

            def chosen(leaf: Tensor, workers: list[int] = workers) -> Tensor:
                return leaf[:, workers].flatten(0, 1)

            answers = select("outputs", model(pytree.tree_map(chosen, queries)), self.outputs)
            pairs = zip(
                pytree.tree_leaves(answers),
                pytree.tree_leaves(pytree.tree_map(chosen, targets)),
                strict=True,
            )
            found[role] = torch.stack([F.mse_loss(a, t.to(a.dtype)) for a, t in pairs]).sum()
        return found

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Writes the trained weights.

        Args:
            folder: Gets ``<role>.safetensors`` for each role, which ``approxifer evaluate
                --weights`` takes and which say what code they are for.

        Returns:
            The files by role.
        """
        files = {role: Path(folder) / f"{role}.safetensors" for role in self.parities}
        for role, path in files.items():
            about = own_weights.describe(self.code, role)
            own_weights.save(self.parities[role], path, about)
        return files

    def _queries(self, batch: Any) -> PyTree:
        if self.inputs is None:
            return batch[0] if isinstance(batch, list | tuple) else batch
        return select("inputs", batch, self.inputs)

    def _log_losses(self, name: str, losses: Mapping[str, Tensor]) -> Tensor:
        total = torch.stack(list(losses.values())).sum()
        self.log(name, total, prog_bar=True)
        if len(losses) > 1:
            self.log_dict({f"{name}/{role}": loss for role, loss in losses.items()})
        return total


def _copy(model: nn.Module) -> nn.Module:
    # Without gradients: copies of TorchScript's parameters would be no leaves else.
    with torch.no_grad():
        return copy.deepcopy(model)


def _reset(models: nn.Module) -> None:
    resets: list[Any] = [getattr(m, "reset_parameters", None) for m in models.modules()]
    if not any(resets):
        raise ValueError(
            "start: expected 'base', since the model has no submodule with reset_parameters; or "
            "give new models by models"
        )
    for reset in resets:
        if callable(reset):
            reset()
