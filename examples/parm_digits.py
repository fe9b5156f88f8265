"""ParM from end to end on scikit-learn's digits: train the base, train parities, measure them.

Usage::

    python -m approxifer_torchserve.examples.parm_digits --out build/parm_digits

writes, in ``--out``: ``digits.pt`` (the base model's weights),
``k2/parity.safetensors`` and ``k4/parity.safetensors`` (what an archive with code ``parm`` needs),
beside each its ``report.json`` for ``approxifer archive --report``, and a ``report.json`` of all.
The parities see the training images only, and no labels; everything is measured on the test images.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from approxifer_torchserve.bench.digits.model import DigitsNet
from approxifer_torchserve.bench.digits.train import SEED, TEST_SHARE, as_pixels, train
from approxifer_torchserve.examples.parm_measure import (
    Recipe,
    data_of,
    measure,
    show,
    train_parity,
    write,
)


def main() -> None:
    """Trains, measures, shows."""
    parser = argparse.ArgumentParser(description="ParM on digits")
    parser.add_argument("--out", type=Path, default=Path("build/parm_digits"))
    parser.add_argument("--queries", default="2,4", help="values of K, by commas")
    parser.add_argument("--epochs", type=int, default=200, help="of a parity")
    parser.add_argument("--base-epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--start", default="base", choices=("base", "fresh"))
    parser.add_argument("--groups", type=int, default=1000)
    arguments = parser.parse_args()
    recipe = Recipe(
        arguments.epochs, arguments.batch_size, arguments.lr, arguments.start, seed=SEED
    )

    print(f"base: {arguments.base_epochs} epochs", flush=True)
    accuracy = train(arguments.out, arguments.base_epochs)
    print(f"base: test accuracy {accuracy:.4f}", flush=True)
    base = DigitsNet()
    base.load_state_dict(torch.load(arguments.out / "digits.pt", weights_only=True))
    digits = load_digits()
    kept, held, _, labels = train_test_split(
        digits.images,
        digits.target,
        test_size=TEST_SHARE,
        random_state=SEED,
        stratify=digits.target,
    )
    images, unseen = (as_pixels(part).float().div(255).unsqueeze(1) for part in (kept, held))
    rows, trained = [], {}
    for queries in map(int, arguments.queries.split(",")):
        print(f"K={queries}: parity, {arguments.epochs} epochs", flush=True)
        folder = arguments.out / f"k{queries}"
        trained[queries] = train_parity(base, queries, images, recipe, folder)
        rows += measure(
            base,
            queries,
            data_of(unseen, torch.from_numpy(labels)),
            arguments.groups,
            folder,
            SEED,
            data="scikit-learn's digits, test images",
            model="approxifer_torchserve/bench/digits/model.py",
        )
    show(rows, f"digits, {len(unseen)} test images, S=1")
    write(
        arguments.out,
        "approxifer_torchserve.examples.parm_digits",
        rows,
        recipe=vars(recipe),
        trained=trained,
    )
    print(f"report: {arguments.out / 'report.json'}")


if __name__ == "__main__":
    main()
