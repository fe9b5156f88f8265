"""The weights of a code's roles in an archive: how they get in, and out again."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from approxifer_torchserve.artifacts.weights import OwnWeightsError, check_purpose, describe, load
from approxifer_torchserve.serving.archive.inspection import swaps_model
from approxifer_torchserve.serving.archive.packing import ArchiveError, Unpacked
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.plan import FOLDER, Plan

PREFIX = f"{FOLDER}/weights-"


class RolesError(ConfigError):
    """The files that are given are not those that the code needs."""


def put_weights(archive: Unpacked, given: Mapping[str, Path], plan: Plan) -> Plan:
    """Checks the files of a code's own weights and puts them into an unpacked archive.

    Args:
        archive: The user's files.
        given: A file for each role.
        plan: The archive's plan. If it is not enabled, files are neither needed nor put in.

    Returns:
        The plan with the files in it; the same where the code needs none.

    Raises:
        RolesError: A role has no file, or a file no role.
        ConfigError: A file holds no weights, or those of another architecture, or for another code.
        ArchiveError: This handler cannot use them.
    """
    roles = plan.roles
    code = f"code {plan.code.name}"
    if unknown := sorted(set(given) - set(roles)):
        needs = f"it has {', '.join(roles)}" if roles else "it needs no weights but the model's"
        raise RolesError(f"weights: {code} has no role {', '.join(unknown)}; {needs}")
    if not plan.enabled or not roles:
        return plan
    if missing := [role for role in roles if role not in given]:
        raise RolesError(
            f"weights: {code} needs a file with the weights of {', '.join(missing)}: give it by "
            + " ".join(f"--weights {role}=FILE" for role in missing)
        )
    folder, serialized = archive.folder, archive.model.get("serializedFile")
    if (why := swaps_model(folder, archive.model["handler"], serialized)) != "":
        raise ArchiveError(f"{code} needs a handler whose attribute model can be swapped: {why}")
    base = _base_weights(folder, serialized)
    names = {}
    for role in roles:
        path = given[role]
        try:
            _check(path, base, describe(plan.code.make(), role))
        except (OSError, OwnWeightsError) as error:
            raise ConfigError(f"weights of {role}: {error}") from error
        names[role] = f"{PREFIX}{role}{path.suffix}"
        (folder / names[role]).write_bytes(path.read_bytes())
    return plan.with_worker(weights=names)


def _check(path: Path, base: Mapping[str, torch.Tensor] | None, about: Mapping[str, str]) -> None:
    """Sees that a file can be loaded, as far as that is possible without the user's handler."""
    if not path.is_file() or zipfile.is_zipfile(path):
        load(path, None, "cpu")
        return
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            shapes = {name: list(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise OwnWeightsError(
            f"{path}: expected TorchScript or safetensors, got neither ({error}); save the state "
            "dict with safetensors.torch.save_model"
        ) from error
    check_purpose(path, about)
    if base is None:
        return
    # Of tensors that share their memory the file holds one.
    there = {base[name].data_ptr() for name in shapes if name in base}
    wrong = [n for n, shape in shapes.items() if n not in base or list(base[n].shape) != shape]
    wrong += [n for n, t in base.items() if n not in shapes and t.data_ptr() not in there]
    if wrong:
        raise OwnWeightsError(
            f"{path}: expected the tensors of the model's own weights, these differ: "
            f"{', '.join(wrong[:4])}; for another architecture save it with torch.jit.save"
        )


def _base_weights(folder: Path, serialized: str | None) -> dict[str, torch.Tensor] | None:
    """Returns the model's own state dict if its file holds one that can be read safely."""
    try:
        found = torch.load(folder / str(serialized), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    tensors = isinstance(found, Mapping) and all(
        isinstance(value, torch.Tensor) for value in found.values()
    )
    return dict(found) if tensors else None
