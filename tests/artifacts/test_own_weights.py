from __future__ import annotations

import doctest
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model
from torch import nn

from approxifer_torchserve.artifacts import weights as own_weights
from approxifer_torchserve.artifacts.weights import OwnWeightsError, describe, digest, load, save
from approxifer_torchserve.codes import make_code


def net(width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 2))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def test_a_state_dict_fills_a_copy_of_the_base_model(tmp_path: Path):
    base, parity, x = net(), net().eval(), torch.randn(5, 4)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    save(parity, tmp_path / "deep" / "parity.safetensors")
    loaded = load(tmp_path / "deep" / "parity.safetensors", base, "cpu")
    assert torch.equal(loaded(x), parity(x))
    assert not loaded.training
    assert base.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert all(p.requires_grad for p in base.parameters())
    assert all(torch.equal(before[name], t) for name, t in base.state_dict().items())


def test_tied_weights_stay_tied(tmp_path: Path):
    parity = Tied()
    save(parity, tmp_path / "p.safetensors")
    loaded = load(tmp_path / "p.safetensors", Tied(), torch.device("cpu"))
    assert torch.equal(loaded.second.weight, parity.first.weight)
    assert loaded.second.weight is loaded.first.weight


@pytest.mark.parametrize("like", [None, net(7)])
def test_torchscript_brings_its_own_architecture(tmp_path: Path, like: nn.Module | None):
    parity, x = net(11).eval(), torch.randn(5, 4)
    # The name does not tell: what is inside does.
    path = tmp_path / "parity.safetensors"
    torch.jit.save(torch.jit.script(parity), str(path))
    loaded = load(path, like, "cpu")
    assert torch.equal(loaded(x), parity(x))
    assert not loaded.training


def test_a_base_model_in_torchscript_can_be_filled_too(tmp_path: Path):
    base, parity, x = torch.jit.script(net().eval()), net().eval(), torch.randn(5, 4)
    save(parity, tmp_path / "p.safetensors")
    before = base(x)
    loaded = load(tmp_path / "p.safetensors", base, "cpu")
    assert torch.equal(loaded(x), parity(x))
    assert torch.equal(base(x), before)


def pickled(path: Path) -> None:
    torch.save(net().state_dict(), path)


def old_pickled(path: Path) -> None:
    torch.save(net().state_dict(), path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("write", "like", "words"),
    [
        (lambda path: None, net(), "expected a file with weights, there is none"),
        (pickled, net(), "expected TorchScript or safetensors, got another .*is a pickle"),
        (old_pickled, net(), "expected TorchScript or safetensors, got neither"),
        (lambda path: path.write_bytes(b"half"), net(), "expected TorchScript or safetensors"),
        (lambda path: path.write_bytes(b""), net(), "expected TorchScript or safetensors"),
        (lambda path: save(net(), path), None, "expected TorchScript, since no base model"),
        (lambda path: save(net(5), path), net(), "of the base model's architecture, Sequential"),
        (lambda path: save(nn.Linear(4, 2), path), net(), r"(?s)got others.*0\.weight"),
    ],
)
def test_other_files_are_refused_with_what_was_expected(tmp_path: Path, write, like, words: str):
    path = tmp_path / "parity.pt"
    write(path)
    with pytest.raises(OwnWeightsError, match=words) as caught:
        load(path, like, "cpu")
    assert str(path) in str(caught.value)


def test_weights_that_were_trained_for_another_code_are_refused(tmp_path: Path):
    code = make_code("parm", queries=4, stragglers=2)
    about, path = describe(code, "parity1"), tmp_path / "p.safetensors"
    save(net(), path, about)
    load(path, net(), "cpu")
    load(path, net(), "cpu", about)
    for other in (
        describe(code, "parity0"),
        describe(make_code("parm", queries=8, stragglers=2), "parity1"),
    ):
        with pytest.raises(OwnWeightsError, match="expected weights that were trained for"):
            load(path, net(), "cpu", other)
    # A file that says nothing of it is taken.
    save(net(), path)
    load(path, net(), "cpu", about)
    save(net(), path, {})
    load(path, net(), "cpu", about)


@pytest.mark.parametrize("text", ["{", "3", '"parm"', "[" * 100_000])
def test_a_purpose_that_cannot_be_read_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "p.safetensors"
    save_model(net(), str(path), metadata={own_weights.PURPOSE: text})
    with pytest.raises(
        OwnWeightsError, match=r"p\.safetensors: expected 'approxifer' in its header"
    ):
        load(path, net(), "cpu")


def test_a_digest_names_the_content(tmp_path: Path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b == hashlib.sha256(b"1").hexdigest()
    assert a != c


def test_examples_print_what_they_say():
    result = doctest.testmod(own_weights)
    assert result.attempted > 3
    assert result.failed == 0
