"""The user's own Python: one class of a file, and the weights that fit it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from approxifer_torchserve.artifacts.modules import (
    ModelError,
    fitting_weights,
    make_module,
)
from approxifer_torchserve.artifacts.saved import load_saved

NET = "from torch import nn\nfrom layers import SIZE\n\nclass Net(nn.Linear):\n"
NET += "    def __init__(self):\n        super().__init__(SIZE, 2)\n"


def test_a_file_s_only_class_is_made_beside_the_files_that_it_imports(tmp_path: Path):
    (tmp_path / "layers.py").write_text("SIZE = 3\n")
    (tmp_path / "net.py").write_text(NET)
    made = make_module("model", tmp_path / "net.py")
    assert made.weight.shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"model_file: net\.py is no Python file"),
        ("import nowhere_to_be_found", r"net\.py cannot be imported: No module named 'nowhere"),
        ("class", r"model_file: net\.py cannot be imported"),
        ("", r"model_file: expected one class in net\.py, as TorchServe does, got 0"),
        ("class A: pass\nclass B: pass\n", "got 2"),
        ("class A: pass\n", r"model_file: the class in net\.py is no nn\.Module"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str | None, said: str):
    if text is not None:
        (tmp_path / "net.py").write_text(text)
    with pytest.raises(ModelError, match=said):
        make_module("model_file", tmp_path / "net.py")


@pytest.mark.parametrize("prefix", ["", "net.", "inner.model."])
def test_weights_are_found_below_any_attribute(prefix: str):
    module = nn.Linear(3, 2)
    state = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    more = {"loss.weight": torch.ones(3)} if prefix else {}
    assert fitting_weights({**state, **more}, module).keys() == {"weight", "bias"}
    assert fitting_weights({**state, f"{prefix}more": torch.ones(1)}, module) is None


@pytest.mark.parametrize("content", [b"", b"weights", b"\x80\x04K\x01."])
def test_what_is_no_file_of_weights_is_told_in_one_way(tmp_path: Path, content: bytes):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights: .*w\.pt cannot be read without running code"):
        load_saved("weights", path)
    with pytest.raises(ModelError, match="No such file"):
        load_saved("weights", tmp_path / "none.pt")


@pytest.mark.parametrize(
    "name", ["{}", "net.{}", "_orig_mod.{}", "net._orig_mod.{}", "a._orig_mod.net.{}"]
)
def test_names_that_compiling_changed_fit(name: str):
    module = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1)))
    state = {name.format(key): value for key, value in module.state_dict().items()}
    inner = {key.replace("1.0.", "1._orig_mod.0."): value for key, value in state.items()}
    for each in (state, inner):
        found = fitting_weights(each, module)
        assert found is not None
        assert set(found) == set(module.state_dict())
