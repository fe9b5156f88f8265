"""A handler's sources as Python reads them: encodings, definitions at a module's top, imports."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


class SourceError(ValueError):
    """A file is not Python that can be read; the message says why."""


def parse(path: Path) -> ast.Module:
    """Parses a file as Python would: by its byte order mark, or its coding line.

    Raises:
        SourceError: It cannot be read, or is not Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes(), path.name)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"{path.name} is not Python: {error}") from None


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """Returns the statements that run when a module is imported, in blocks such as ``try`` too."""
    return list(_statements(tree))


def _statements(block: ast.AST) -> Iterator[ast.stmt]:
    for name in _BLOCKS:
        for node in getattr(block, name, None) or []:
            if isinstance(node, ast.stmt):
                yield node
            if not isinstance(node, (*Function, ast.ClassDef)):
                yield from _statements(node)


def classes(tree: ast.Module) -> dict[str, ast.ClassDef]:
    """Returns the classes that a module defines, by name; of several definitions the first."""
    found: dict[str, ast.ClassDef] = {}
    for node in top_level(tree):
        if isinstance(node, ast.ClassDef):
            found.setdefault(node.name, node)
    return found


def names(tree: ast.Module) -> set[str]:
    """Returns the names of what a module's top level makes, beside classes: ``handle`` may be."""
    found: set[str] = set()
    for node in top_level(tree):
        if isinstance(node, Function):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name for a in node.names}
    return found


def imported(model_dir: Path, path: Path) -> dict[Path, ast.Module]:
    """Parses a file and what it imports, directly or not, from its archive.

    Files that are not Python are left out: they fail when they are imported, if they are.
    """
    found: dict[Path, ast.Module] = {}
    waiting = [path]
    while waiting:
        each = waiting.pop()
        if each in found:
            continue
        try:
            found[each] = parse(each)
        except SourceError:
            continue
        for name in _modules(found[each], each.parent, model_dir):
            waiting += [file for file in _files(name) if _is_own(file, model_dir)]
    return found


def _modules(tree: ast.Module, here: Path, top: Path) -> Iterator[Path]:
    """Yields where modules that a file imports would lie, without a suffix."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield top.joinpath(*alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = here.joinpath(*[".."] * (node.level - 1)) if node.level else top
            module = base.joinpath(*(node.module or "").split("."))
            yield module
            for alias in node.names:
                yield module / alias.name


def _is_own(file: Path, model_dir: Path) -> bool:
    return file.resolve().is_relative_to(model_dir.resolve()) and file.is_file()


def _files(module: Path) -> tuple[Path, Path]:
    return module.parent / f"{module.name}.py", module / "__init__.py"


def mentions(tree: ast.Module, words: tuple[str, ...]) -> set[str]:
    """Returns which words a module uses as names or as whole texts; comments are none."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found & set(words)
