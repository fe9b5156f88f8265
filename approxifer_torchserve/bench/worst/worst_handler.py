"""The benches' model with the faults that lie within a handler, in either server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from approxifer_torchserve.bench.harness.bench_handler import BenchHandler
from approxifer_torchserve.faults import WorkerFaults


class WorstHandler(BenchHandler):
    """Fails, hangs and starts slowly as the fault file says; a negative first number hangs.

    ``handler.bench.held`` in model-config.yaml is a folder: a process that begins to hang leaves a
    file there, named by its process id.
    """

    def initialize(self, context: Any) -> None:
        """Makes the weights, and reads the name of the folder."""
        super().initialize(context)
        self.faults = WorkerFaults()
        self.held = Path(context.model_yaml_config["handler"]["bench"]["held"])

    def inference(self, data: torch.Tensor) -> torch.Tensor:
        """Returns scores ``[B, 10]``, if at all."""
        hangs = bool((data[:, 0] < 0).any())
        if hangs:
            (self.held / str(os.getpid())).touch()
        self.faults.forward(hangs)
        return super().inference(data)
