"""Two processes with gloo see half the data each and agree on the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
from lightning_models import Classifier, loader, trainer
from approxifer_torchserve.lightning import DegradedAccuracy

if __name__ == "__main__":
    degraded = DegradedAccuracy(queries=4, max_cost=None, stragglers=[1, 2], summary=False)
    run = trainer(degraded, devices=2, strategy="ddp", use_distributed_sampler=True)
    (logged,) = run.validate(Classifier(), loader(54), verbose=False)
    result = {"logged": logged, "table": degraded.table}
    Path(sys.argv[1], f"{run.global_rank}.json").write_text(json.dumps(result))
"""


ONE_FAILS = """
import json, sys, warnings
from pathlib import Path
from lightning.pytorch.callbacks import EarlyStopping
from lightning_models import Classifier, loader, trainer
from approxifer_torchserve.lightning import DegradedAccuracy

class Odd(Classifier):
    def forward(self, inputs):
        if self.global_rank == 1 and self.current_epoch == 1:
            raise RuntimeError("only here")
        return self.net(inputs)

if __name__ == "__main__":
    degraded = DegradedAccuracy(queries=4, max_cost=None, summary=False)
    stop = EarlyStopping("val_degraded/approxifer/s=1/overall", mode="max", patience=9)
    run = trainer(degraded, stop, devices=2, strategy="ddp", max_epochs=3, num_sanity_val_steps=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.fit(Odd(), loader(32), loader(32, seed=1))
    ours = [str(w.message) for w in caught if str(w.message).startswith("DegradedAccuracy")]
    result = {"said": ours, "epochs": run.current_epoch, "epoch": degraded.table["val"]["epoch"]}
    Path(sys.argv[1], f"{run.global_rank}.json").write_text(json.dumps(result))
"""


def both_ranks(script: str, tmp_path: Path) -> tuple[dict, dict]:
    """Runs a script in two processes; gives what each wrote."""
    (tmp_path / "run.py").write_text(script)
    here = str(Path(__file__).parent)
    paths = [here, str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "run.py", str(tmp_path)],
        cwd=tmp_path, env=environment, timeout=150, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    zero, one = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    return zero, one


def test_an_error_in_one_process_leaves_the_figures_out_in_all(tmp_path: Path):
    zero, one = both_ranks(ONE_FAILS, tmp_path)
    ((said_by_zero,), (said_by_one,)) = zero["said"], one["said"]
    assert "some process got no query of it, or failed" in said_by_zero
    assert "only here" in said_by_one
    for rank in (zero, one):
        assert (rank["epochs"], rank["epoch"]) == (3, 2)


def test_two_processes_add_up(tmp_path: Path):
    zero, one = both_ranks(SCRIPT, tmp_path)
    assert zero == one
    measured = zero["table"]["val"]
    # 27 queries each: six groups and three left on each process.
    assert (measured["seen"], measured["groups"], measured["left"]) == (54, 12, 6)

    # Each process alone, over the rows that Lightning's sampler gave it, adds up to the same.
    import torch
    from lightning_models import Classifier, points, trainer
    from torch.utils.data import DataLoader, TensorDataset

    from approxifer_torchserve.lightning import DegradedAccuracy

    sums: dict[str, float] = {}
    inputs, targets = points(54)
    for rank in (0, 1):
        rows = torch.arange(rank, 54, 2)
        data = DataLoader(TensorDataset(inputs[rows], targets[rows]), batch_size=16)
        alone = DegradedAccuracy(
            queries=4, max_cost=None, stragglers=[1, 2], summary=False, seed=7919 * rank
        )
        (logged,) = trainer(alone).validate(Classifier(), data, verbose=False)
        for key, value in logged.items():
            sums[key] = sums.get(key, 0.0) + value / 2
    exact = [key for key in sums if not key.endswith("/worst")]
    assert {key: zero["logged"][key] for key in exact} == pytest.approx(
        {key: sums[key] for key in exact}, abs=1e-6
    )
