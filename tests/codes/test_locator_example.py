"""The table of locators: its arithmetic, and a run on data made here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from approxifer_torchserve.codes import Pairs
from approxifer_torchserve.codes.locators.training import LIES
from examples.byzantine_location import __main__ as command
from examples.byzantine_location.measure import FAULTS, Trial, accuracy, measure, place_liars
from examples.byzantine_location.sets import HALF, HALVES, Set, split
from examples.byzantine_location.table import tables
from examples.byzantine_location.unseen import LEFT_OUT, column


def test_liars_are_spread_over_the_workers():
    generator = torch.manual_seed(0)
    one = place_liars(36, 18, 1, generator)
    assert (one.sum(dim=0) == 2).all()
    three = place_liars(50, 10, 3, generator)
    assert (three.sum(dim=1) == 3).all()


def test_accuracy_counts_what_cannot_be_recovered_as_wrong():
    code = Pairs(4, 0, 1)
    labels = torch.arange(4).expand(2, 4)
    answers = code.encode(torch.eye(4).expand(2, 4, 4) * 9, batch_dims=1)
    nobody = torch.zeros(2, code.num_workers, dtype=torch.bool)
    assert accuracy(code, answers, nobody, labels) == 1.0
    around = [4 + row for row, edge in enumerate(code.edges) if 0 in edge]
    lost = nobody.clone()
    lost[1, [0, *around]] = True
    assert accuracy(code, answers, lost, labels) == 7 / 8


def test_an_answer_far_off_is_named_and_the_accuracy_comes_back():
    code = Pairs(4, 0, 1)
    generator = torch.manual_seed(1)
    labels = torch.randint(5, (40, 4), generator=generator)
    queries = torch.nn.functional.one_hot(labels, 5).float()
    clean = code.encode(queries, batch_dims=1)
    clean += 0.05 * torch.randn(clean.shape, generator=generator)
    result = measure(code, Trial(clean, labels), seed=0)
    assert set(result["faults"]) == set(FAULTS)
    assert result["faults"]["huge"] == {
        "named": 1.0,
        "located": 1.0,
        "accuracy": 1.0,
        "oracle": 1.0,
        "untreated": pytest.approx(1.0, abs=0.2),
    }
    assert result["faults"]["NaN"]["located"] == 1.0
    assert result["false_suspicions"] < 0.3


def test_each_row_of_kinds_unseen_is_of_a_locator_without_that_kind():
    def measured(rows, kinds):
        return {
            "groups": 3,
            "false_suspicions": 0.07 if kinds == ("stuck",) else 0.0,
            "clean_accuracy": 0.5,
            "healthy_accuracy": 0.6,
            "faults": {row: {"named": len(kinds)} for row in rows},
        }

    found = column(measured)
    assert found["faults"].keys() == FAULTS.keys()
    assert found["faults"]["exponent bit"] == {"named": 2}
    assert found["false_suspicions"] == pytest.approx(0.07 / len(LEFT_OUT))
    trained = {kind for kind, _, _ in LIES}
    for rows, kinds in LEFT_OUT.items():
        assert {FAULTS[row][0] for row in rows} & trained <= set(kinds) < trained


def test_one_half_calibrates_and_the_other_measures():
    rows = {
        half: {part: set(some) for part, some in split(2 * HALF, half).items()} for half in HALVES
    }
    for parts in rows.values():
        assert [len(parts[part]) for part in ("fit", "held_out", "trial")] == [3750, 1250, 5000]
        assert set.union(*parts.values()) == set(range(2 * HALF))
    first, second = (rows[half] for half in HALVES)
    assert first["trial"] == second["fit"] | second["held_out"] == set(range(HALF))
    assert second["trial"] == first["fit"] | first["held_out"]


def test_each_part_is_of_its_own_images_and_their_labels(tmp_path):
    total = 2 * HALF
    # An image is its number, which the model says back: so an answer tells whose it is.
    images = torch.arange(total, dtype=torch.float32)[:, None]
    found = Set(images, torch.arange(total), lambda image: image)
    answers = {}
    for half in HALVES:
        options = command.parse(
            [
                *("--data", ".", "--models", ".", "--out", str(tmp_path), "--measure-on", half),
                *("--groups", "40", "--classic-groups", "40", "--trial-groups", "20"),
            ]
        )
        bench = command.Bench(options, "mnist", 2, 1, lambda title: lambda done, total: None)
        said = answers[half] = bench.answers("pairs", lambda: found)
        for part, some in split(total, half).items():
            own = said[part][:, :2]
            assert len(own)
            assert some.start <= own.min() <= own.max() < some.stop
        assert torch.equal(said["trial"][:, :2, 0].long(), said["labels"])
    assert not set(answers["first"]["labels"].flatten().tolist()) & set(
        answers["second"]["labels"].flatten().tolist()
    )


def test_the_command_is_resumable(tmp_path, capsys):
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 10_000)
    images = np.clip(random.normal(80, 40, (10_000, 28, 28)), 0, 255).astype(np.uint8)
    images[np.arange(10_000), labels] = 255
    np.savez(tmp_path / "mnist_test.npz", images=images, labels=labels)

    class Rows(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 8 * torch.tanh(image.mean(dim=(1, 3))[:, :10] - 0.5)

    torch.jit.script(Rows()).save(str(tmp_path / "mnist_cnn.ts.pt"))
    out, methods = tmp_path / "out", ["spline", "pairs-unseen", "pairs-network"]
    arguments = [
        *("--data", str(tmp_path), "--models", str(tmp_path), "--out", str(out)),
        *("--sets", "mnist", "--shapes", "2,1", "--methods", *methods),
        *("--groups", "1200", "--classic-groups", "900", "--trial-groups", "100"),
        *("--steps", "20", "--width", "8"),
    ]
    assert command.main(arguments) == 0
    report = json.loads((out / "report.json").read_text())
    assert [cell["method"] for cell in report["cells"]] == methods
    text = (out / "tables.md").read_text()
    assert "### K=2, E=1, 6 workers (mnist), measured on the second half" in text
    assert tables(report["cells"]) == text
    # The second run reads everything: without data it ends as before.
    (tmp_path / "mnist_test.npz").unlink()
    (out / "report.json").unlink()
    assert command.main(arguments) == 0
    assert json.loads((out / "report.json").read_text()) == report
