"""Reproduce the straggler experiment of the ApproxIFER paper.

Usage::

    python -m approxifer_torchserve.examples.reproduce_approxifer --data DIR --models DIR

DIR with ``mnist_test.npz`` and ``cifar10_test.npz``, and with ``mnist_cnn.ts.pt`` and
``cifar10_resnet20.ts.pt``. Writes ``results.json``, ``tables.md`` and a plot for each. What was
measured is kept in ``--out``; the same command goes on where it was interrupted.
"""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from approxifer_torchserve.artifacts.models import load_model
from approxifer_torchserve.evaluation.data import load_data
from approxifer_torchserve.evaluation.forwards import on_device
from approxifer_torchserve.evaluation.run import run
from approxifer_torchserve.examples.reproduce_approxifer import plots, tables
from approxifer_torchserve.examples.reproduce_approxifer.experiments import DATA_SETS, experiments


def main() -> None:
    """Measures what is not yet measured, then writes the tables."""
    parser = argparse.ArgumentParser(description="reproduce the straggler experiment")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/reproduce_approxifer"))
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    text = ["# ApproxIFER's straggler experiment: accuracies over the base model's", ""]
    everything = {}
    for data_set in DATA_SETS:
        model, identity = load_model(str(arguments.models / data_set.model))
        forward = on_device(model, arguments.device)
        data = load_data(str(arguments.data / data_set.data), data_set.scaling)

        results = {}
        for experiment in experiments(arguments.groups):
            folder = arguments.out / data_set.name / f"{experiment.name}-{arguments.groups}"
            done = folder / "measured.json"
            if not done.is_file():
                with Progress() as progress:
                    task = progress.add_task(f"{data_set.name}: {experiment.what}", total=1)

                    def tell(at, of, progress=progress, task=task):
                        progress.update(task, completed=at, total=of)

                    measured = run(
                        forward, data, experiment.settings,
                        identity=identity, folder=folder, progress=tell,
                    )  # fmt: skip
                folder.mkdir(parents=True, exist_ok=True)
                done.write_text(json.dumps(measured))
            results[experiment.name] = json.loads(done.read_text())
        everything[data_set.name] = results
        own = tables.base(results["k8"])
        plots.draw(data_set.name, results, arguments.out / f"{data_set.name}.png")
        text += [f"## {data_set.name}, base accuracy {own:.4f}, {arguments.groups} groups", ""]
        for title, drawn in (
            ("K = 8 beside other programs", tables.comparison(data_set.name, results)),
            ("All K; S = 1 / 2 / 3", tables.grid(results)),
            ("Options, K = 8", tables.options(results)),
            ("Spline code, K = 8", tables.splines(results)),
        ):
            text += [f"### {title}", "", drawn, ""]
    (arguments.out / "results.json").write_text(json.dumps(everything, indent=1))
    (arguments.out / "tables.md").write_text("\n".join(text))
    Console().print("\n".join(text), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
