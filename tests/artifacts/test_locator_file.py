"""Locators as files: what was saved comes back, and what is damaged is refused, also by -O."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from approxifer_torchserve.artifacts.locator_file import (
    HEADER,
    load_locator,
    save_locator,
    with_locator,
)
from approxifer_torchserve.codes import Locator, calibrate, make_code
from approxifer_torchserve.codes.locators.outlier import OutlierLocator

KINDS = ("gaussian", "network", "outlier", "rational", "residual")
Header = dict[str, Any]
Tensors = dict[str, torch.Tensor]
Damage = Callable[[Header, Tensors], object]


@lru_cache(maxsize=1)
def locators() -> dict[str, Locator]:
    inputs = torch.randn(64, 5, generator=torch.manual_seed(0))
    classic = make_code("approxifer", queries=2, stragglers=0, byzantine=1, nodes="authors")
    pairs = make_code("pairs", queries=2, stragglers=0, byzantine=1)
    few = {"groups": 80, "level": 0.1, "steps": 3, "width": 4}
    found = [
        calibrate(classic, torch.tanh, inputs, **few).locator,
        calibrate(pairs, torch.tanh, inputs, **few).locator,
        OutlierLocator(),
        classic.rational_locator(),
        classic.default_locator(),
    ]
    return dict(zip(KINDS, found, strict=True))


def rewrite(path: Path, damage: Damage) -> None:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    damage(header, tensors)
    save_file(tensors, path, metadata={HEADER: json.dumps(header)})


def setting(name: str, value: object) -> Damage:
    return lambda header, _: header["settings"].update({name: value})


def without(name: str) -> Damage:
    return lambda header, _: header["settings"].pop(name)


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    return lambda _, tensors: tensors.update({name: change(tensors[name]).contiguous()})


def inside_code(name: str, value: object) -> Damage:
    return lambda header, _: header["settings"]["code"].update({name: value})


def with_nan(value: torch.Tensor) -> torch.Tensor:
    value = value.clone()
    value.view(-1)[0] = torch.nan
    return value


SHORT = lambda value: value[..., :-1]  # noqa: E731
DAMAGES: list[tuple[str, Damage, str]] = [
    *((kind, without("thresholds"), "thresholds") for kind in KINDS),
    *((kind, setting("thresholds", 3.0), "thresholds|iterable") for kind in KINDS),
    *((kind, setting("thresholds", ["much"]), "thresholds must be") for kind in KINDS),
    *((kind, setting("thresholds", []), "thresholds must be") for kind in KINDS),
    *((kind, setting("thresholds", [float("nan")]), "thresholds must be") for kind in KINDS),
    *((kind, setting("more", 1), "parts must be") for kind in KINDS),
    *((kind, lambda header, _: header.update(settings=[]), "") for kind in KINDS),
    ("residual", setting("smoother", "wool"), "smoother must be one of"),
    ("residual", setting("rows", 1), "rows must be a tuple"),
    ("residual", setting("rows", []), "rows must be a tuple"),
    ("residual", setting("rows", [[0.5, 1.0]] * 6), "rows must be of one length"),
    ("residual", setting("rows", [0.5]), "rows must be a tuple of numbers"),
    ("residual", setting("power", "half"), "power must be a number"),
    ("residual", setting("power", -1), "power must be finite and at least 0"),
    ("rational", setting("nodes", "many"), "nodes must be a tuple"),
    ("rational", setting("queries", 2.5), "queries must be an integer"),
    ("rational", setting("queries", True), "queries must be an integer"),
    ("rational", setting("byzantine", -1), "byzantine must be at least 0"),
    ("gaussian", setting("limit", None), "limit must be"),
    ("gaussian", without("limit"), "parts must be"),
    ("gaussian", lambda _, tensors: tensors.pop("mean"), "parts must be"),
    ("gaussian", lambda _, tensors: tensors.update(x=torch.zeros(1)), "parts must be"),
    ("gaussian", tensor("mean", torch.Tensor.long), "mean must be a floating point"),
    ("gaussian", tensor("mean", SHORT), "project must be"),
    ("gaussian", tensor("covariance", SHORT), "covariance must be"),
    ("gaussian", tensor("covariance", with_nan), "covariance must be finite"),
    ("network", setting("width", "wide"), "width must be an integer"),
    ("network", setting("width", 9), "size mismatch"),
    ("network", setting("limit", "far"), "limit must be"),
    ("network", without("code"), "parts must be"),
    ("network", setting("code", [1, 2]), ""),
    ("network", inside_code("share", 3), "share must be"),
    ("network", inside_code("queries", "2"), "queries must be an integer"),
    ("network", inside_code("colour", "red"), "colour"),
    ("network", inside_code("edges", [[0, 7]]), "edges must be of queries below 2"),
    ("network", inside_code("edges", [[0, 1, 1]]), "too many values"),
    ("network", inside_code("edges", 5), "iterable"),
    ("network", tensor("own.mean", with_nan), r"own\.mean must be finite"),
    ("network", tensor("own.basis", SHORT), "whiten must be"),
    ("network", tensor("relations.given", SHORT), "given must be"),
    ("network", lambda _, tensors: tensors.pop("mixed.mean"), "mean"),
    ("network", lambda _, tensors: tensors.pop("network.node.0.bias"), "Missing key"),
    ("network", lambda _, tensors: tensors.update({"x.y": torch.zeros(1)}), "'x'"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_comes_back(kind: str, tmp_path: Path):
    locator = locators()[kind]
    save_locator(locator, tmp_path / "one")
    read = load_locator(tmp_path / "one")
    assert type(read) is type(locator)
    assert (read, hash(read)) == (locator, hash(locator))


@pytest.mark.parametrize(("kind", "damage", "said"), DAMAGES)
def test_a_damaged_file_is_refused_by_its_name(
    kind: str, damage: Damage, said: str, tmp_path: Path
):
    path = tmp_path / "one.safetensors"
    save_locator(locators()[kind], path)
    rewrite(path, damage)
    with pytest.raises(ValueError, match=rf"one\.safetensors holds a broken .*'{kind}'.*{said}"):
        load_locator(path)


def test_python_without_assertions_refuses_them_too(tmp_path: Path):
    for number, (kind, damage, _) in enumerate(DAMAGES):
        path = tmp_path / str(number)
        save_locator(locators()[kind], path)
        rewrite(path, damage)
    script = """
import sys
from pathlib import Path
from approxifer_torchserve.artifacts.locator_file import load_locator
assert False, "assertions are on"
for path in Path(sys.argv[1]).iterdir():
    try:
        load_locator(path)
    except ValueError:
        continue
    print("was taken:", path.name)
"""
    done = subprocess.run(
        [sys.executable, "-O", "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="must be a file of save_locator"):
        load_locator(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        load_locator(path)
    for header, said in (
        ('{"format": 2, "kind": "oracle", "settings": {}}', "of format 2 and one of .*'oracle'"),
        ('{"format": 1, "kind": "outlier", "settings": {}}', "of format 2 .*got format 1"),
        ('{"format": 2, "kind": ["outlier"], "settings": {}}', "of format 2 and one of"),
        ('{"format": 2}', "has a broken header"),
        ("[2]", "has a broken header"),
        ("{", "has a broken header"),
        ("[" * 100_000, "has a broken header"),
    ):
        save_file({}, path, metadata={HEADER: header})
        with pytest.raises(ValueError, match=said):
            load_locator(path)
    with pytest.raises(OSError, match="No such file"):
        load_locator(tmp_path / "none")


def test_a_locator_goes_only_into_a_code_that_takes_it():
    residual = locators()["residual"]
    classic = make_code("approxifer", queries=2, stragglers=0, byzantine=1, nodes="authors")
    assert with_locator(classic, residual).locator == residual
    with pytest.raises(ValueError, match="code replication takes no locator"):
        with_locator(make_code("replication", queries=2, stragglers=1), residual)
    with pytest.raises(ValueError, match="N\\+1 is 6, the code's 8"):
        with_locator(make_code("pairs", queries=3, stragglers=0, byzantine=1), residual)
