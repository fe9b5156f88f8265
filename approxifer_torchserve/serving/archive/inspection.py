"""What of a handler can be coded, found by reading its source when it is archived.

Reading, not importing: the handler's own dependencies may be on the servers only. What reading
cannot tell (a base class from a package that is not here) a self-test with a sample does.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from approxifer_torchserve.serving.archive import sources

_STREAMING = ("send_intermediate_predict_response", "ts_stream_next")
_REFUSED_KEYS = {
    "sequenceBatching": "requests of a sequence must stay on one worker, in order",
    "continuousBatching": "answers of a stream cannot be sent twice",
    "useJobTicket": "job tickets bypass the queue this package replaces",
    "asyncCommunication": "asynchronous workers do not poll the queue this package replaces",
}
_PARALLEL_TYPES = ("pp", "tp", "pptp", "custom")
REMEDY = "leave the key out, or serve the archive unwrapped, as plain TorchServe does"
STILL_WORKS = "late requests are still hedged, and replication works"
_BASE = "BaseHandler"


class Capability(BaseModel):
    """What can be done with a handler.

    Args:
        staged: It has preprocess, inference and postprocess that TorchServe's own ``handle``
            calls, so that queries and predictions can be seen.
        codable: Queries may be coded: it is staged and its inputs can be interpolated.
        checked: All of this was seen in source or on a sample; otherwise it is assumed.
        reasons: Why it is not codable, and what still works.
        refused: Why it cannot be served by this package at all; empty if it can.
    """

    staged: bool
    codable: bool
    checked: bool = True
    reasons: list[str] = []
    refused: list[str] = []

    def without_interpolation(self, why: str) -> Capability:
        """Returns the same handler after a sample showed that its inputs cannot be coded."""
        return self.model_copy(
            update={"codable": False, "reasons": [*self.reasons, f"{why}; {STILL_WORKS}"]}
        )


def inspect_handler(
    model_dir: Path, handler: str, model_yaml: Mapping[str, Any], runtime: str = "python"
) -> Capability:
    """Reads a handler's source and the model's settings.

    Args:
        model_dir: The unpacked archive.
        handler: As the manifest names it: ``file.py``, ``file.py:function`` or one of TorchServe's
            own, such as ``image_classifier``.
        model_yaml: The parsed ``model-config.yaml``.
        runtime: The manifest's runtime.
    """
    refused = [
        f"model-config.yaml sets {key}: {why}; {REMEDY}"
        for key, why in _REFUSED_KEYS.items()
        if model_yaml.get(key) is True  # TorchServe ignores other values
    ]
    if _parallel(model_yaml):
        refused.append(
            "model-config.yaml sets parallelType, with torchrun or parallelLevel: each worker is "
            f"several processes or devices that compute together, and each would be asked; {REMEDY}"
        )
    if runtime.lower() not in ("python", "python3"):
        refused.append(f"runtime {runtime}: only Python handlers can be wrapped")
    for path, tree in sources.imported(model_dir, model_dir / handler_file(handler)).items():
        for word in sorted(sources.mentions(tree, _STREAMING)):
            refused.append(f"{path.name} streams its answers ({word}), which cannot be sent twice")
    staged, certain, why = _staged(model_dir, handler)
    if staged is None:
        refused.append(why)
    return Capability(
        staged=bool(staged),
        codable=bool(staged),
        checked=certain,
        reasons=[] if staged else [f"{why}; {STILL_WORKS}"],
        refused=refused,
    )


def _parallel(model_yaml: Mapping[str, Any]) -> bool:
    """Tells whether TorchServe would have several processes or devices compute together."""
    kind, level = model_yaml.get("parallelType"), model_yaml.get("parallelLevel")
    several = isinstance(model_yaml.get("torchrun"), Mapping) or (type(level) is int and level > 0)
    return several and isinstance(kind, str) and kind.lower() in _PARALLEL_TYPES


def swaps_model(model_dir: Path, handler: str, serialized: str | None) -> str:
    """Tells why another module cannot stand in for a handler's ``model``; empty if it may.

    Args:
        model_dir: The unpacked archive.
        handler: As for ``inspect_handler``; its steps can be called one by one.
        serialized: The manifest's file of weights.
    """
    if serialized is not None and Path(serialized).suffix == ".onnx":
        return f"{serialized} is loaded by ONNX's runtime and is no torch.nn.Module"
    path = model_dir / handler_file(handler)
    if not path.is_file():
        return ""  # TorchServe's own, which call self.model
    try:
        classes = sources.classes(sources.parse(path))
    except sources.SourceError as error:
        return str(error)
    nodes = [node for found in classes.values() for node in ast.walk(found)]
    own = any(isinstance(n, ast.FunctionDef) and n.name == "inference" for n in nodes)
    reads = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    if own and not reads & {"model", "inference"}:
        return f"inference() of {path.name} does not call self.model"
    return ""


def handler_file(handler: str) -> str:
    """Returns the Python file of a handler's name: ``a/b.py:function`` gives ``b.py``."""
    name = handler.split(":", 1)[0].split("/")[-1]
    return name if name.endswith(".py") else f"{name}.py"


def _staged(model_dir: Path, handler: str) -> tuple[bool | None, bool, str]:
    """Returns staged (None: no such handler), whether that is certain, and why not."""
    name = handler_file(handler)
    path = model_dir / name
    if not path.is_file():
        path = _torchserve_file(name) or path
    if not path.is_file():
        return None, True, f"handler {handler}: there is no {name} in the archive or TorchServe"
    try:
        tree = sources.parse(path)
    except sources.SourceError as error:
        return None, True, f"handler {handler}: {error}"
    wanted = handler.split(":", 1)[1] if ":" in handler else "handle"
    if wanted in sources.names(tree):
        return False, True, f"{name} has a function {wanted}() that does everything"
    classes = sources.classes(tree)
    if len(classes) == 1:
        (only,) = classes.values()
        return _class_staged(model_dir, path, tree, only, 0)
    # In branches of which one is taken, or that take one away: only Python knows.
    if set(classes.values()) - set(tree.body):
        return True, False, ""
    found = ", ".join(classes) or "none"
    return None, True, f"{name}: TorchServe expects one class or {wanted}(), got {found}"


def _class_staged(
    model_dir: Path, path: Path, tree: ast.Module, node: ast.ClassDef, depth: int
) -> tuple[bool, bool, str]:
    if node.name == _BASE:
        return True, True, ""
    if any(isinstance(item, sources.Function) and item.name == "handle" for item in node.body):
        return False, True, f"{path.name}: {node.name} has a handle() of its own"
    if _sets_handle(node):
        return False, True, f"{path.name}: {node.name} sets a handle of its own"
    names = [_last(base) for base in node.bases]
    if depth > 8 or not [n for n in names if n not in ("ABC", "object")]:
        return False, True, f"{path.name}: {node.name} does not derive from {_BASE}"
    for name in names:
        if name == _BASE:
            return True, True, ""
        found = _find_class(model_dir, path, tree, name)
        if found is None:
            if name not in ("ABC", "object"):
                return True, False, ""
            continue
        staged = _class_staged(model_dir, *found, depth + 1)
        if staged[0] or not staged[2].endswith(f"derive from {_BASE}"):
            return staged
    return False, True, f"{path.name}: {node.name} does not derive from {_BASE}"


def _sets_handle(node: ast.ClassDef) -> bool:
    """Tells whether a class sets ``self.handle``, as for micro-batching, or its own ``handle``."""
    targets = [t for item in node.body if isinstance(item, ast.Assign) for t in item.targets]
    attributes = [each for each in ast.walk(node) if isinstance(each, ast.Attribute)]
    targets += [each for each in attributes if isinstance(each.ctx, ast.Store)]
    return any(_last(each) == "handle" for each in targets)


def _last(base: ast.expr) -> str:
    if isinstance(base, ast.Attribute):
        return base.attr
    return base.id if isinstance(base, ast.Name) else ""


def _find_class(
    model_dir: Path, path: Path, tree: ast.Module, name: str
) -> tuple[Path, ast.Module, ast.ClassDef] | None:
    if name in (own := sources.classes(tree)):
        return path, tree, own[name]
    for node in sources.top_level(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        for alias in node.names:
            if (alias.asname or alias.name) != name:
                continue
            file = f"{node.module.split('.')[-1]}.py"
            other = model_dir / file if (model_dir / file).is_file() else _torchserve_file(file)
            if other is None or other == path:
                return None
            try:
                parsed = sources.parse(other)
            except sources.SourceError:
                return None
            return _find_class(model_dir, other, parsed, alias.name)
    return None


def _torchserve_file(name: str) -> Path | None:
    # Found without importing TorchServe, which takes seconds and warns.
    spec = importlib.util.find_spec("ts")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "torch_handler" / name
        if path.is_file():
            return path
    return None
