"""Strangers' modules: forwards that need gradients, precisions, compiled, diverged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning_models import Classifier, loader, points, trainer
from strangers import KEY, SANE, grouped, silently
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*litlogger", "ignore:.*isinstance.treespec"
)


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("sanity", [0, 2])
def test_a_forward_that_needs_gradients_gets_them(inference_mode: bool, sanity: int):
    class Forces(Classifier):
        """Derives its prediction, as models of molecules do."""

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            inputs = inputs.requires_grad_(True)
            energy = self.net(inputs).square().sum()
            return torch.autograd.grad(energy, inputs)[0]

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return F.mse_loss(self.net(batch[0])[:, 0], batch[1].float())

    inputs, _ = points(32)
    data = DataLoader(TensorDataset(inputs, inputs.clone()), batch_size=8)
    degraded = grouped()
    run = trainer(degraded, inference_mode=inference_mode, num_sanity_val_steps=sanity)
    model = Forces()
    said = silently(lambda: run.fit(model, loader(32), data))
    assert said == []
    assert degraded.table["val"]["groups"] == 8
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_precisions(precision: Any):
    degraded = grouped()
    trainer(degraded, precision=precision, **SANE).fit(Classifier())
    for case in degraded.table["val"]["cases"]:
        assert 0 <= case["scores"]["output"]["overall"] <= 1


def test_what_forward_logs_of_coded_queries_is_dropped(tmp_path: Path):
    class Logs(Classifier):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            logits = self.net(inputs)
            self.log("size", logits.norm(), on_step=True)
            return logits

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self(batch[0])

    (alone,) = trainer().validate(Logs(), verbose=False)
    (both,) = trainer(grouped()).validate(Logs(), verbose=False)
    assert both["size_epoch"] == alone["size_epoch"]
    assert both["val_degraded/base"] > 0


def test_a_compiled_module_is_not_compiled_again():
    def compiles(*callbacks: L.Callback) -> int:
        torch._dynamo.reset()
        graphs = []

        def backend(graph: Any, example: Any) -> Any:
            graphs.append(graph)
            return graph.forward

        class Compiled(Classifier):
            def __init__(self) -> None:
                super().__init__()
                self.net = torch.compile(self.net, backend=backend)  # type: ignore[assignment]
                self.modes = set()

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                return self.net(inputs)

            def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
                self(batch[0])

        trainer(*callbacks, max_epochs=2, **SANE).fit(Compiled(), loader(64), loader(90, batch=30))
        return len(graphs)

    degraded = grouped()
    assert 0 < compiles() == compiles(degraded)
    assert degraded.table["val"]["groups"] == 22


@pytest.mark.parametrize("kind", ["class", "quantity"])
def test_a_diverged_model_is_no_error(kind: str):
    class Diverges(Classifier):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            out = self.net(inputs) if kind == "class" else inputs
            return out * math.nan if self.current_epoch else out

    inputs, classes = points(32, 1)
    targets = classes if kind == "class" else inputs.clone()
    data = DataLoader(TensorDataset(inputs, targets), batch_size=8)
    stop = EarlyStopping(KEY, mode="max" if kind == "class" else "min", patience=9)
    run = trainer(grouped(), stop, max_epochs=3, **SANE)
    said = silently(lambda: run.fit(Diverges(), loader(32), data))
    assert said == []
    assert run.current_epoch == 3
