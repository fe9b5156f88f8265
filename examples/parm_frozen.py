r"""ParM for a model that is there already: train parities for it, measure them.

Usage::

    python -m approxifer_torchserve.examples.parm_frozen --model mnist_cnn.ts.pt \
        --train mnist_train.npz --test mnist_test.npz --queries 2,4,8 --out build/parm_mnist

``--model`` is what ``approxifer evaluate`` takes, ``--train`` and ``--test`` are ``.npz`` files of
images. Writes ``k<K>/parity.safetensors`` for the model's own architecture, beside each its
``report.json`` for ``approxifer archive --report``, and a ``report.json`` of all. Labels of the
training data are not used.
"""

import argparse
from pathlib import Path

from approxifer_torchserve.artifacts.models import load_model
from approxifer_torchserve.cli.model_options import scales
from approxifer_torchserve.evaluation.data import load_data
from approxifer_torchserve.evaluation.inputs import Scaling
from approxifer_torchserve.examples.parm_measure import (
    Recipe,
    measure,
    show,
    train_parity,
    write,
)


def main() -> None:
    """Trains, measures, shows."""
    parser = argparse.ArgumentParser(description="ParM for a frozen model")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--mean", default="0", help="of pixels in 0..1, by commas")
    parser.add_argument("--std", default="1", help="of pixels in 0..1, by commas")
    parser.add_argument("--queries", default="2,4,8", help="values of K, by commas")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--start", default="base", choices=("base", "fresh"))
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/parm_frozen"))
    arguments = parser.parse_args()
    recipe = Recipe(
        arguments.epochs, arguments.batch_size, arguments.lr, arguments.start, arguments.seed
    )

    base, _ = load_model(arguments.model, arguments.weights)
    scaling = Scaling(*scales(arguments.mean, arguments.std))
    training, unseen = load_data(arguments.train, scaling), load_data(arguments.test, scaling)
    images, _ = training.fetch(range(training.count))
    rows, trained = [], {}
    for queries in map(int, arguments.queries.split(",")):
        print(f"K={queries}: parity, {arguments.epochs} epochs of {len(images)}", flush=True)
        folder = arguments.out / f"k{queries}"
        trained[queries] = train_parity(base, queries, images, recipe, folder)
        rows += measure(
            base,
            queries,
            unseen,
            arguments.groups,
            folder,
            arguments.seed,
            model=Path(arguments.model).name,
            data=Path(arguments.test).name,
        )
        show(rows[-3:], f"{Path(arguments.test).name}, {unseen.count} queries, S=1")
    show(rows, f"{Path(arguments.test).name}, {unseen.count} queries, S=1")
    write(
        arguments.out,
        "approxifer_torchserve.examples.parm_frozen",
        rows,
        recipe=vars(recipe),
        trained=trained,
    )
    print(f"report: {arguments.out / 'report.json'}")


if __name__ == "__main__":
    main()
