"""What is measured: the grid of the paper, then the options, on each data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from approxifer_torchserve.evaluation.inputs import Scaling
from approxifer_torchserve.evaluation.run import Settings
from approxifer_torchserve.evaluation.specs import make_cases

LOSSES = (1, 2, 3)
SIZES = (2, 4, 8, 10, 12)
AUTHORS, PAPER = "approxifer:nodes=authors", "approxifer:nodes=paper"
SMOOTH_ENCODE = (0.0, 1e-6, 1e-5, 1e-4)
SMOOTH_DECODE = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)


@dataclass(frozen=True)
class DataSet:
    """Files of one data set, below the folders that the user names.

    Attributes:
        name: What tables call it.
        data: The labelled test images.
        model: TorchScript, logits out.
        scaling: What the model expects to be done to pixels.
    """

    name: str
    data: str
    model: str
    scaling: Scaling


DATA_SETS = (
    DataSet("mnist", "mnist_test.npz", "mnist_cnn.ts.pt", Scaling()),
    DataSet(
        "cifar10",
        "cifar10_test.npz",
        "cifar10_resnet20.ts.pt",
        Scaling((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ),
)


@dataclass(frozen=True)
class Experiment:
    """One run of the evaluation.

    Attributes:
        name: How its file of results is called.
        what: What it is, for a reader.
        settings: The codes, and how they are measured.
    """

    name: str
    what: str
    settings: Settings


def experiments(groups: int) -> Iterator[Experiment]:
    """Lists what is measured on each data set.

    Args:
        groups: Groups for each K; the search for smoothing takes a third of them.
    """
    for size in SIZES:
        codes = [AUTHORS, "approxifer", *([PAPER] if size == 8 else [])]
        # Of K answers no more than K can be lost.
        plain = make_cases(["uncoded"], size, [lost for lost in LOSSES if lost <= size])
        settings = Settings(make_cases(codes, size, LOSSES) + plain, groups)
        yield Experiment(f"k{size}", f"K = {size}", settings)
    eight = Settings(make_cases([AUTHORS, "approxifer"], 8, LOSSES), groups)
    for name, what, settings in (
        ("similarity", "a group's queries by similarity", replace(eight, order="similarity")),
        ("grouped", "similar queries of 32 groups grouped", replace(eight, order="grouped")),
        ("probabilities", "probabilities decoded", replace(eight, domain="probabilities")),
    ):
        yield Experiment(name, what, settings)
    few = max(1, groups // 3)
    for encode in SMOOTH_ENCODE:
        codes = [f"spline:smooth_decode={d}:smooth_encode={encode}" for d in SMOOTH_DECODE]
        settings = Settings(make_cases(codes, 8, LOSSES), few)
        yield Experiment(f"spline-{encode:g}", f"spline, smooth_encode={encode:g}", settings)
