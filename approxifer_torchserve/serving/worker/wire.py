"""Coded queries and predictions as bytes: safetensors, with the tree's structure in its metadata.

No pickle: these bytes come through a process boundary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save

from approxifer_torchserve.serving.worker.trees import Tree, leaves

MAX_BYTES = 1 << 28
MAX_LEAVES = 64
MAX_DIMS = 16
MAX_DEPTH = 8
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class WireError(ValueError):
    """Bytes are not what the other side should have sent, or a tree cannot be sent."""


def encode(tree: Tree) -> bytes:
    """Writes a tensor, or a tuple or dict of tensors, as one safetensors blob.

    Args:
        tree: Floating tensors on any device; no batch dimension is added or expected.

    Raises:
        WireError: It is no such tree, or a limit of this module is passed.
    """
    tensors = leaves(tree)
    if tensors is None:
        raise WireError(f"expected a tensor or a tuple or dict of tensors, got {type(tree)}")
    _check(tensors)
    count = iter(range(len(tensors)))
    structure = json.dumps(_describe(tree, count, 0), separators=(",", ":"))
    named = {str(i): t.detach().cpu().contiguous().clone() for i, t in enumerate(tensors)}
    return save(named, metadata={"tree": structure})


def decode(blob: bytes | bytearray | memoryview) -> Tree:
    """Reads what :func:`encode` wrote; tensors are on the CPU.

    Raises:
        WireError: The bytes are truncated, garbage, or past a limit.
    """
    if not isinstance(blob, (bytes, bytearray, memoryview)):
        raise WireError(f"expected bytes of a safetensors blob, got {type(blob).__name__}")
    if len(blob) > MAX_BYTES:
        raise WireError(f"expected at most {MAX_BYTES} bytes, got {len(blob)}")
    data = bytes(blob)
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        structure = json.loads(header["__metadata__"]["tree"])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"not a safetensors blob of this package: {error}") from None
    _check(list(tensors.values()))
    used: set[str] = set()
    tree = _build(structure, tensors, used, 0)
    if used != set(tensors):
        raise WireError(f"structure names tensors {sorted(used)}, blob has {sorted(tensors)}")
    return tree


def _check(tensors: list[torch.Tensor]) -> None:
    if len(tensors) > MAX_LEAVES:
        raise WireError(f"expected at most {MAX_LEAVES} tensors, got {len(tensors)}")
    for t in tensors:
        if t.dtype not in _DTYPES:
            raise WireError(f"expected floating tensors, got {t.dtype}")
        if t.ndim > MAX_DIMS:
            raise WireError(f"expected at most {MAX_DIMS} dimensions, got {t.ndim}")
    total = sum(t.numel() * t.element_size() for t in tensors)
    if total > MAX_BYTES:
        raise WireError(f"expected at most {MAX_BYTES} bytes of tensors, got {total}")


def _describe(tree: Tree, count: Iterator[int], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WireError(f"expected a structure at most {MAX_DEPTH} deep")
    if isinstance(tree, torch.Tensor):
        return next(count)
    if isinstance(tree, tuple):
        return [_describe(item, count, depth + 1) for item in tree]
    return {k: _describe(v, count, depth + 1) for k, v in tree.items()}


def _build(structure: Any, tensors: dict[str, torch.Tensor], used: set[str], depth: int) -> Tree:
    if depth > MAX_DEPTH:
        raise WireError(f"expected a structure at most {MAX_DEPTH} deep")
    if isinstance(structure, list):
        return tuple(_build(item, tensors, used, depth + 1) for item in structure)
    if isinstance(structure, dict):
        return {k: _build(v, tensors, used, depth + 1) for k, v in structure.items()}
    name = str(structure)
    if isinstance(structure, bool) or not isinstance(structure, int) or name not in tensors:
        raise WireError(f"structure names tensor {structure!r}, blob has {sorted(tensors)}")
    if name in used:
        raise WireError(f"structure names tensor {name} twice")
    used.add(name)
    return tensors[name]
