from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_models import CLASSES, FEATURES, Classifier, points, trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.artifacts import weights as own_weights
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.lightning import DegradedAccuracy, ParityTraining, parity

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*litlogger")


def base() -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES)
    )
    net(torch.randn(50, FEATURES))
    return net


def parm(queries: int = 2, stragglers: int = 1):
    return make_code("parm", queries=queries, stragglers=stragglers)


def unlabelled(count: int = 256, batch: int = 64) -> DataLoader[Any]:
    return DataLoader(points(count)[0], batch_size=batch, shuffle=True)


def fitted(**options: Any) -> tuple[ParityTraining, L.Trainer]:
    L.seed_everything(3, verbose=False)
    epochs, code = options.pop("epochs", 1), options.pop("code", parm())
    training = ParityTraining(base(), code, **options)
    runner = trainer(max_epochs=epochs)
    runner.fit(training, unlabelled())
    return training, runner


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_the_loss_is_the_error_of_the_coded_combination():
    model = base().eval()
    training = ParityTraining(model, parm(3, 2)).eval()
    inputs = torch.randn(6, FEATURES)
    found = training.losses(inputs, torch.Generator().manual_seed(8), rounds=1)
    assert list(found) == ["parity0", "parity1"]
    groups = torch.randperm(6, generator=torch.Generator().manual_seed(8)).reshape(2, 3)
    for role, numbers in (("parity0", [1.0, 1.0, 1.0]), ("parity1", [1.0, 2.0, 3.0])):
        expected = []
        for group in groups:
            query = sum(n * inputs[i] for n, i in zip(numbers, group, strict=True))
            target = sum(n * model(inputs[i][None])[0] for n, i in zip(numbers, group, strict=True))
            expected.append((model(query[None])[0] - target).square())
        wanted = torch.cat(expected).mean()
        torch.testing.assert_close(found[role], wanted, rtol=1e-4, atol=1e-5)


def test_training_makes_the_parity_better_and_leaves_the_base_as_it_is():
    first = ParityTraining(base(), parm())
    before, untouched = state(first.base), base()
    training, runner = fitted(epochs=30, lr=0.01, rounds=4)
    assert same(before, state(training.base))
    assert same(before, state(untouched))
    held = points(400, seed=9)[0]
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        losses = [
            float(t.eval().losses(held, draw.manual_seed(0), 1)["parity"])
            for t in (first, training)
        ]
    assert losses[1] < 0.4 * losses[0]
    assert runner.callback_metrics["train_loss"] < losses[0]


def test_it_starts_from_the_base_weights_unless_told_otherwise():
    model = base()
    assert same(state(model), state(ParityTraining(model, parm()).parities["parity"]))
    fresh = [ParityTraining(model, parm(3, 2), start="fresh", seed=seed) for seed in (0, 0, 1)]
    states = [state(t.parities) for t in fresh]
    assert same(states[0], states[1])
    assert not same(states[0], states[2])
    assert not same(state(model), state(fresh[0].parities["parity0"]))
    assert not same(state(fresh[0].parities["parity0"]), state(fresh[0].parities["parity1"]))
    own = nn.Linear(FEATURES, CLASSES)
    assert ParityTraining(model, parm(), models={"parity": own}).parities["parity"] is own


def test_a_seed_gives_the_same_weights_again():
    one, again, other = (fitted(seed=seed)[0] for seed in (0, 0, 1))
    assert same(state(one.parities), state(again.parities))
    assert not same(state(one.parities), state(other.parities))


def test_modes_and_gradients_are_the_parities_own():
    model = base().train()
    training = ParityTraining(model, parm()).train()
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert training.parities.training
    assert not training.base.training
    assert not any(p.requires_grad for p in training.base.parameters())
    assert all(p.requires_grad for p in training.parities.parameters())


def test_saved_weights_are_loaded_by_role(tmp_path: Path):
    training, _ = fitted(code=parm(2, 2))
    files = training.save(tmp_path / "weights")
    assert {role: path.name for role, path in files.items()} == {
        "parity0": "parity0.safetensors",
        "parity1": "parity1.safetensors",
    }
    x = torch.randn(5, FEATURES)
    for role, path in files.items():
        about = own_weights.describe(parm(2, 2), role)
        loaded = own_weights.load(path, base(), "cpu", about)
        assert torch.equal(loaded(x), training.parities[role].eval()(x))
    with pytest.raises(own_weights.OwnWeightsError, match="'queries': '2'"):
        own_weights.load(path, base(), "cpu", own_weights.describe(parm(4, 2), "parity1"))


def test_the_callback_measures_it_while_it_trains(tmp_path: Path):
    model = Classifier().net.eval()
    training = ParityTraining(model, parm(), lr=0.02, rounds=8)
    degraded = DegradedAccuracy(
        ["parm", "uncoded"], queries=2, weights=training.parities, max_cost=None,
        summary=False, figure=False,
    )  # fmt: skip
    key = "val_degraded/parm/s=1/lost_only"
    best = ModelCheckpoint(tmp_path, monitor=key, mode="max", filename="best")
    inputs, _ = points(256)
    with torch.no_grad():
        labels = model(inputs).argmax(dim=1)
    labelled = DataLoader(TensorDataset(inputs, labels), batch_size=64)
    runner = trainer(degraded, best, max_epochs=12, enable_checkpointing=True)
    runner.validate(training, labelled, verbose=False)
    before = float(runner.callback_metrics[key])
    runner.fit(training, unlabelled(), labelled)
    after = float(runner.callback_metrics[key])
    assert after > max(0.75, before + 0.1)
    assert runner.callback_metrics["val_degraded/base"] == 1.0
    assert {"val_loss", "train_loss"} <= set(runner.callback_metrics)
    # Dropout and all: the parity trains on after it was measured.
    assert training.parities.training or not training.training
    assert Path(best.best_model_path).is_file()


def test_the_callback_says_which_weights_are_missing():
    with pytest.raises(ValueError, match=r"weights=\{'parity': model\}"):
        DegradedAccuracy(["parm"], queries=2)


def test_batches_of_other_forms_and_torchscript():
    inputs, labels = points(8)
    draw = torch.Generator()
    scripted = torch.jit.script(base().eval())
    plain = ParityTraining(scripted, parm()).losses(inputs, draw.manual_seed(0), 1)
    plain["parity"].backward()
    for batch, chosen in (
        ((inputs, labels), None),
        ([inputs], None),
        ({"image": inputs, "label": labels}, "image"),
        ((labels, inputs), 1),
    ):
        training = ParityTraining(scripted, parm(), inputs=chosen)
        found = training.losses(batch, draw.manual_seed(0), 1)
        assert torch.equal(found["parity"], plain["parity"])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"code": make_code("approxifer", queries=2, stragglers=1)}, ValueError, "weights of its"),
        ({"code": make_code("uncoded", queries=2, stragglers=0)}, TypeError, "a linear one"),
        ({"start": "zero"}, ValueError, "start: expected one of"),
        ({"rounds": 0}, ValueError, "rounds: expected at least 1"),
        ({"lr": 0.0}, ValueError, "lr: expected above 0"),
        ({"models": {"student": nn.Linear(1, 1)}}, ValueError, r"\['parity'\] .*'student'"),
        ({"models": {"parity": nn.Linear(1, 1)}, "start": "fresh"}, ValueError, "start='base'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        ParityTraining(**{"base": base(), "code": parm(), **arguments})


def test_a_batch_too_small_for_a_group_is_refused():
    with pytest.raises(ValueError, match="at least queries=4 to make a group, got 3"):
        ParityTraining(base(), parm(4)).losses(torch.randn(3, FEATURES), torch.Generator(), 1)
    with pytest.raises(ValueError, match="no submodule with reset_parameters"):
        ParityTraining(nn.ReLU(), parm(), start="fresh")


def test_the_example_runs():
    result = doctest.testmod(parity)
    assert result.attempted > 5
    assert result.failed == 0


class Watched(nn.Linear):
    """Remembers in which mode it answered."""

    def __init__(self) -> None:
        super().__init__(FEATURES, CLASSES)
        self.modes: set[bool] = set()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.modes.add(self.training)
        return super().forward(inputs)


def test_the_callback_puts_the_modes_of_given_weights_back():
    own = Watched().train()
    degraded = DegradedAccuracy(
        ["parm"], queries=2, weights={"parity": own}, max_cost=None, summary=False, figure=False
    )
    trainer(degraded).validate(Classifier(), DataLoader(TensorDataset(*points(16))), verbose=False)
    assert own.modes == {False}
    assert own.training
