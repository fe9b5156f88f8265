"""The callback as a user of LightningCLI writes it, in YAML."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.cli import LightningCLI
from lightning_models import Classifier

from approxifer_torchserve.lightning import DegradedAccuracy

YAML = """
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: approxifer_torchserve.lightning.DegradedAccuracy
      init_args:
        codes:
          - approxifer:nodes=authors
          - {name: replication, rtol: 0.01}
        queries: 4
        stragglers: [1, 2]
        max_cost: null
        inputs: 0
        targets: operator.itemgetter
    - class_path: approxifer_torchserve.lightning.DegradedAccuracy
      init_args: {queries: 2, stragglers: 1, prefix: pairs, max_groups: 2, every_n_epochs: 1}
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args: {monitor: "val_pairs/approxifer/s=1/overall", mode: max}
"""


def test_two_instances_from_yaml(tmp_path: Path, monkeypatch):
    config = tmp_path / "config.yaml"
    config.write_text(YAML.replace("        targets: operator.itemgetter\n", ""))
    monkeypatch.chdir(tmp_path)
    cli = LightningCLI(Classifier, args=["fit", "--config", str(config)], save_config_callback=None)
    first, second = (c for c in cli.trainer.callbacks if isinstance(c, DegradedAccuracy))
    assert [case.key for case in first.cases] == [
        "approxifer:nodes=authors/s=1",
        "approxifer:nodes=authors/s=2",
        "replication:rtol=0.01/s=1",
        "replication:rtol=0.01/s=2",
    ]
    assert first.settings.inputs == 0
    assert first.table["val"]["groups"] == 16
    assert second.table["val"]["groups"] == 2


def test_a_selector_may_be_a_function_or_a_key(tmp_path: Path, monkeypatch):
    config = tmp_path / "config.yaml"
    text = YAML.replace("operator.itemgetter", "lightning_models.points")
    config.write_text(text.replace("inputs: 0", "inputs: image"))
    monkeypatch.chdir(tmp_path)
    cli = LightningCLI(Classifier, args=["--config", str(config)], run=False)
    first = next(c for c in cli.trainer.callbacks if isinstance(c, DegradedAccuracy))
    assert first.settings.inputs == "image"
    assert callable(first.settings.targets)
