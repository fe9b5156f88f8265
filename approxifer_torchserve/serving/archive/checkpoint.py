"""Takes a Lightning checkpoint apart: the weights, the code that was measured, and its report.

Lightning itself is not needed: the callback ``DegradedAccuracy`` leaves plain values behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from approxifer_torchserve.artifacts.modules import (
    ModelError,
    fitting_weights,
    make_module,
)
from approxifer_torchserve.artifacts.saved import load_saved
from approxifer_torchserve.serving.archive.packing import ArchiveError

CALLBACK = "DegradedAccuracy"
STATE_VERSION = 1


class CheckpointParts(BaseModel):
    """What an archive is made from.

    Args:
        weights: The model's state dict, a file of its own.
        report: What ``min_degraded_accuracy`` is held against.
        code: Settings for ``handler.approxifer.code``.
    """

    weights: Path
    report: Path
    code: dict[str, Any]


def unpack_checkpoint(
    path: Path, folder: Path, model_file: Path, wanted: Mapping[str, Any] | None = None
) -> CheckpointParts:
    """Takes a checkpoint apart.

    Args:
        path: What ``ModelCheckpoint`` saved; read with ``weights_only``.
        folder: Receives the weights and the report.
        model_file: The model's class, as TorchServe takes it; says which of the checkpoint's
            weights are the model's (``net.`` and the like is cut off).
        wanted: ``name``, ``queries``, ``stragglers`` and options that the code must have; of the
            measured codes that have them, the first is taken.

    Raises:
        ArchiveError: The checkpoint holds no measurement, no such code, or other weights.
    """
    try:
        saved = load_saved("checkpoint", path)
    except ModelError as error:
        raise ArchiveError(
            f"{str(error).splitlines()[0]}; give the weights by --serialized-file (a file of "
            "torch.save(module.state_dict(), …)) and the report by --report"
        ) from error
    try:
        model = make_module("model_file", model_file)
    except ModelError as error:
        raise ArchiveError(str(error)) from error
    if not isinstance(saved, Mapping) or "state_dict" not in saved:
        raise ArchiveError(f"checkpoint {path}: expected one of Lightning's, with a state_dict")
    state = _measurement(saved.get("callbacks") or {}, path)
    code, stage = _choose(state, wanted or {}, path)
    report = folder / "measured-report.json"
    report.write_text(json.dumps({**state["reports"][stage], "measured_on": stage}), "utf-8")
    weights = folder / f"{path.stem}.pt"
    torch.save(_own(saved["state_dict"], model, path, model_file), weights)
    return CheckpointParts(weights=weights, report=report, code=code)


def _measurement(callbacks: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    found = [state for key, state in callbacks.items() if key.startswith(CALLBACK)]
    usable = [s for s in found if s.get("version") == STATE_VERSION and s.get("reports")]
    if not usable:
        raise ArchiveError(
            f"checkpoint {path}: expected a result of the callback {CALLBACK} (of a classification,"
            f" of more queries than one group's), got callbacks {sorted(callbacks)}; train with it,"
            " or give the report by --report and the weights by --serialized-file"
        )
    return dict(usable[0])


def _choose(
    state: Mapping[str, Any], wanted: Mapping[str, Any], path: Path
) -> tuple[dict[str, Any], str]:
    stage = sorted(state["reports"], key=lambda name: (not name.startswith("val"), name))[0]
    measured = [
        {"name": entry["name"], **entry["settings"]}
        for entry in state["codes"]
        if entry["name"] != "uncoded"
    ]
    for code in measured:
        if all(code.get(key) == value for key, value in wanted.items()):
            return code, stage
    raise ArchiveError(
        f"checkpoint {path}: no code with {dict(wanted)} was measured, only {measured}"
    )


def _own(
    state: Mapping[str, torch.Tensor], model: nn.Module, path: Path, model_file: Path
) -> dict[str, torch.Tensor]:
    """Picks the model's weights out of the LightningModule's."""
    fitting = fitting_weights(state, model)
    if fitting is None:
        raise ArchiveError(
            f"checkpoint {path}: its weights {sorted(state)[:3]}… do not fit {model_file}, which "
            f"has {sorted(model.state_dict())[:3]}…; give the file with the class that was trained"
        )
    return fitting
