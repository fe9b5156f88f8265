from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning_models import (
    CLASSES,
    Classifier,
    TwoHeads,
    loader,
    mapping_loader,
    points,
    trainer,
)

from approxifer_torchserve.evaluation import Evaluator, make_cases
from approxifer_torchserve.lightning import DegradedAccuracy
from approxifer_torchserve.lightning.collector import Collector

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*litlogger")
QUIET = {"summary": False, "figure": False}


def everything(**options: object) -> DegradedAccuracy:
    """A callback that groups all queries by four."""
    settings = {"queries": 4, "max_cost": None, **QUIET, **options}
    return DegradedAccuracy(**settings)  # type: ignore[arg-type]


def test_values_are_those_of_an_evaluator_on_the_same_groups():
    model, degraded = Classifier(), everything(stragglers=[1, 2])
    # One batch of four queries is one group, whatever the draw; codes see it in drawn order, so
    # the code without a code, which does not care, is compared in figures.
    (logged,) = trainer(degraded).validate(model, loader(64, batch=64), verbose=False)
    inputs, targets = points(64)
    right = (model.net.eval()(inputs).argmax(1) == targets).double().mean().item()
    assert logged["val_degraded/base"] == pytest.approx(right)
    for lost in (1, 2):
        assert logged[f"val_degraded/approxifer/s={lost}/healthy"] == pytest.approx(right)
        assert logged[f"val_degraded/uncoded/s={lost}/healthy"] == pytest.approx(right)
    key = "val_degraded/approxifer/s=1"
    # Five answers, one lost: in one of five patterns it is the parity and nothing is lost.
    expected = (right + 4 * (0.75 * right + 0.25 * logged[f"{key}/lost_only"])) / 5
    assert logged[f"{key}/overall"] == pytest.approx(expected, abs=1e-6)
    lost_at = [logged[f"{key}/position/{i}"] for i in range(4)]
    assert sum(lost_at) / 4 == pytest.approx(logged[f"{key}/lost_only"], abs=1e-6)
    assert f"{key}/position/4" not in logged
    worst = min(0.75 * right + 0.25 * value for value in lost_at)
    assert logged[f"{key}/worst"] == pytest.approx(worst, abs=0.05)


def test_keys_serve_as_monitor_also_in_skipped_epochs(tmp_path: Path):
    key = "val_degraded/approxifer/s=1/overall"
    best = ModelCheckpoint(tmp_path, monitor=key, mode="max", save_top_k=-1, filename="{epoch}")
    stop = EarlyStopping(key, mode="max", patience=10, strict=True)
    degraded = everything(every_n_epochs=2)

    fit = trainer(degraded, best, stop, max_epochs=4, enable_checkpointing=True)
    model = Classifier()
    fit.fit(model)
    assert len(best.best_k_models) == 4
    # Epochs 0 and 2 measure, 1 and 3 repeat.
    values = {Path(path).stem: value.item() for path, value in best.best_k_models.items()}
    assert values["epoch=0"] == values["epoch=1"]
    assert values["epoch=2"] == values["epoch=3"]
    assert degraded.table["val"]["epoch"] == 2
    # 64 queries make 16 groups of 5 forwards, in two of four epochs; one before, as a look.
    assert sum(model.calls) == (1 + 2 * 16) * 5


def test_the_sanity_check_takes_one_group_and_logs_nothing():
    logged = []

    class Spy(Classifier):
        def on_sanity_check_end(self) -> None:
            logged.extend(self.trainer.callback_metrics)
            assert degraded.table == {}

    model, degraded = Spy(), everything()
    fit = trainer(degraded, num_sanity_val_steps=2, limit_train_batches=1, limit_val_batches=2)
    fit.fit(model)
    assert sum(model.calls) == (1 + 32 // 4) * 5
    assert logged == []


def test_training_is_the_same_with_and_without():
    def weights(*callbacks: DegradedAccuracy) -> torch.Tensor:
        torch.manual_seed(0)
        model = Classifier()
        model.net[0].eval()
        trainer(*callbacks, max_epochs=2).fit(model)
        if callbacks:
            # Our forwards were in eval mode, and modes are as Lightning leaves them.
            assert model.modes == {False}
        assert [m.training for m in model.net] == [False, True, True, True]
        return torch.nn.utils.parameters_to_vector(model.parameters())

    assert torch.equal(weights(), weights(everything()))


def test_modes_are_put_back_between_batches():
    seen = []

    class Sampling(Classifier):
        """Keeps dropout on in validation, as Monte Carlo dropout does."""

        def on_validation_epoch_start(self) -> None:
            self.net[2].train()

        def validation_step(self, batch: object, batch_idx: int, dataloader_idx: int = 0) -> None:
            seen.append([module.training for module in self.net])

    model = Sampling()
    trainer(everything()).validate(model, loader(600, batch=16), verbose=False)
    assert model.modes == {False}
    # Measured in between: 256 // 5 groups are a chunk.
    assert len(model.calls) > 5
    assert seen == [[False, False, True, False]] * 38


def test_the_cost_is_bounded_by_a_share_of_the_queries():
    model, degraded = Classifier(), DegradedAccuracy(**QUIET)
    trainer(degraded).validate(model, loader(1000, batch=50), verbose=False)
    measured = degraded.table["val"]
    assert 0.13 * 1000 < sum(model.calls) <= 0.15 * 1000
    assert measured["groups"] == sum(model.calls) // 9
    assert measured["seen"] == 1000


def test_max_groups_bounds_it_too():
    model, degraded = Classifier(), everything(max_groups=3)
    trainer(degraded).validate(model, loader(64), verbose=False)
    assert sum(model.calls) == 15
    assert degraded.table["val"]["groups"] == 3


def test_a_partial_group_is_left_out_and_said(capsys: pytest.CaptureFixture[str]):
    degraded = everything(summary=True)
    trainer(degraded).validate(Classifier(), loader(27), verbose=False)
    measured = degraded.table["val"]
    assert (measured["groups"], measured["left"], measured["seen"]) == (6, 3, 27)
    words = " ".join(capsys.readouterr().out.split())
    assert "3 drawn queries were short of a group" in words
    assert "approxifer" in words
    assert "no code" in words


def test_too_few_queries_are_a_warning():
    degraded = DegradedAccuracy(**QUIET)
    with pytest.warns(UserWarning, match="7 queries are fewer than a group of queries=8"):
        (logged,) = trainer(degraded).validate(Classifier(), loader(7), verbose=False)
    assert logged == {}


def test_a_cost_below_one_group_is_a_warning():
    degraded = DegradedAccuracy(**QUIET)
    with pytest.warns(UserWarning, match="raise max_cost, or set it to None"):
        trainer(degraded).validate(Classifier(), loader(16), verbose=False)
    assert degraded.table["val"]["groups"] == 1


def test_mixed_precision_reaches_the_model_and_not_the_decoder():
    seen = set()

    class Spy(Classifier):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            out = super().forward(inputs)
            seen.add(out.dtype)
            return out

    full, half = everything(), everything()
    trainer(full).validate(Classifier(), verbose=False)
    trainer(half, precision="bf16-mixed").validate(Spy(), verbose=False)
    assert seen == {torch.bfloat16}
    first = [c["scores"]["output"]["overall"] for c in full.table["val"]["cases"]]
    second = [c["scores"]["output"]["overall"] for c in half.table["val"]["cases"]]
    assert first == pytest.approx(second, abs=0.05)


def test_several_data_loaders_have_their_own_keys():
    degraded = everything()
    logged = trainer(degraded).validate(
        Classifier(), [loader(64), loader(32, seed=2)], verbose=False
    )
    keys = set().union(*logged)
    for index in (0, 1):
        assert f"val_degraded/approxifer/s=1/overall/dataloader_idx_{index}" in keys
    assert [degraded.table[f"val/{i}"]["groups"] for i in (0, 1)] == [16, 8]


def test_batches_outputs_and_methods_are_chosen():
    class Named(Classifier):
        def logits(self, inputs: torch.Tensor) -> tuple[str, torch.Tensor]:
            return "more", self.net(inputs)

    rows = [{"x": x, "meta": (0, y)} for x, y in zip(*points(16), strict=True)]
    data = torch.utils.data.DataLoader(rows, batch_size=8)  # type: ignore[arg-type]
    degraded = everything(
        inputs="x", targets=lambda batch: batch["meta"][1], outputs=1, forward="logits"
    )
    model = Named()
    trainer(degraded).validate(model, data, verbose=False)
    assert model.calls == []
    assert degraded.table["val"]["groups"] == 4
    wrong = everything(inputs="pixels", targets="y")
    with pytest.raises(ValueError, match=r"inputs='pixels': .* got \['meta', 'x'\]"):
        trainer(wrong).validate(Named(), data, verbose=False)


def test_several_heads_are_logged_apart_and_averaged():
    degraded = everything(inputs="image", targets="truth")
    (logged,) = trainer(degraded).validate(TwoHeads(), mapping_loader(), verbose=False)
    key = "val_degraded/approxifer/s=1/"
    assert degraded.table["val"]["heads"] == {"kind": "multiclass", "size": "regression"}
    kind, size = logged[f"{key}kind/healthy"], logged[f"{key}size/healthy"]
    assert size == pytest.approx(0.5)
    assert logged[f"{key}healthy"] == pytest.approx((kind + size) / 2)


@pytest.mark.parametrize("kind", ["regression", "dense"])
def test_regression_and_dense_outputs(kind: str):
    class Other(Classifier):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if kind == "regression":
                return inputs * 0.9
            return self.net(inputs)[:, :, None, None].expand(-1, -1, 2, 3)

    inputs, classes = points(32)
    targets = inputs if kind == "regression" else classes[:, None, None].expand(-1, 2, 3)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, targets.contiguous()), batch_size=8
    )
    model, degraded = Other(), everything()
    (logged,) = trainer(degraded).validate(model, data, verbose=False)
    base = logged["val_degraded/base"]
    if kind == "regression":
        assert base == pytest.approx(0.1, rel=1e-4)
        # Errors: the worst pattern is the largest, and a lost query is worse than the average.
        assert logged["val_degraded/approxifer/s=1/worst"] > base
        assert (
            logged["val_degraded/approxifer/s=1/lost_only"]
            > logged["val_degraded/approxifer/s=1/overall"]
        )
    else:
        right = (model.net.eval()(inputs).argmax(1) == classes).double().mean().item()
        assert base == pytest.approx(right)


def test_integer_inputs_are_refused_with_a_way_out():
    inputs, targets = points(16)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs.long(), targets), batch_size=8
    )
    with pytest.raises(TypeError, match="must be floating point"):
        trainer(everything()).validate(Classifier(), data, verbose=False)


def test_wrong_answers_are_counted_with_byzantine():
    degraded = everything(codes=["replication", "uncoded"], byzantine=1, error_scale=1000.0)
    (logged,) = trainer(degraded).validate(Classifier(), verbose=False)
    key = "val_degraded/replication/s=1"
    assert logged[f"{key}/hits"] == 1.0
    assert logged[f"{key}/false_suspicions"] == 0.0
    assert logged[f"{key}/overall"] == logged["val_degraded/base"]
    assert "val_degraded/uncoded/s=1/hits" not in logged


def test_several_instances_live_together_and_a_collision_is_refused():
    one, two = everything(prefix="four"), everything(prefix="two", queries=2)
    (logged,) = trainer(one, two).validate(Classifier(), verbose=False)
    assert {"val_four/base", "val_two/base"} <= set(logged)
    assert one.state_key != two.state_key
    with pytest.raises(ValueError, match="prefix: expected another one"):
        trainer(everything(), everything(queries=2)).validate(Classifier(), verbose=False)


def test_the_checkpoint_carries_code_and_table(tmp_path: Path):
    degraded = everything(codes=["approxifer:nodes=authors"])
    fit = trainer(degraded, default_root_dir=tmp_path)
    fit.fit(Classifier())
    fit.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    state = saved[degraded.state_key]
    json.dumps(state, allow_nan=False)
    assert state["table"] == degraded.table
    assert state["codes"][0]["settings"] == {
        "queries": 4, "stragglers": 1, "byzantine": 0, "nodes": "authors", "systematic": False,
    }  # fmt: skip
    again = everything()
    again.load_state_dict(state)
    assert again.table == degraded.table


def test_loggers_get_values_and_a_figure(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board, table = TensorBoardLogger(tmp_path / "board"), CSVLogger(tmp_path / "table")
    degraded = everything(stragglers=[1, 2], figure=True)
    trainer(degraded, logger=[board, table], max_epochs=2).fit(Classifier())
    events = EventAccumulator(board.log_dir).Reload()
    (name,) = events.Tags()["images"]
    assert name == "val_degraded/accuracy"
    assert events.Images(name)[0].height > 200
    assert len(events.Scalars("val_degraded/approxifer/s=1/overall")) == 2
    with (Path(table.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["val_degraded/approxifer/s=1/overall"]) for row in rows) == 2
    picture = (Path(table.log_dir) / "val_degraded_accuracy.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_the_test_stage_has_its_own_keys():
    (logged,) = trainer(everything()).test(Classifier(), loader(16), verbose=False)
    assert "test_degraded/approxifer/s=1/overall" in logged


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs: expected at least 1"),
        ({"max_groups": 0}, "max_groups: expected at least 1"),
        ({"max_cost": 0.0}, "max_cost: expected a share above 0"),
        ({"prefix": "a/b"}, "prefix: expected a name without"),
        ({"codes": ["fountain"]}, "name must be one of"),
        ({"stragglers": 9, "codes": ["uncoded"]}, "9 answers cannot be lost of the 8"),
    ],
)
def test_bad_arguments_are_named(options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        DegradedAccuracy(**options)


def test_groups_of_sorted_data_are_mixed():
    targets = torch.arange(CLASSES).repeat_interleave(64)
    seen = []

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs)
        return torch.zeros(len(inputs), CLASSES)

    collector = Collector(
        Evaluator(make_cases(["uncoded"], 4, [1])),
        max_groups=None,
        max_cost=None,
        order="arrival",
        seed=0,
    )
    for part in targets.split(32):
        chosen = collector.want(32)
        assert chosen is not None
        collector.add(part[:, None].float(), part, chosen)
    collector.measure(forward)
    groups = torch.cat(seen).reshape(-1, 4)
    assert torch.equal(groups.flatten().sort().values, targets.float())
    alike = (groups == groups[:, :1]).all(dim=1).double().mean()
    assert alike < 0.2
