"""What the ParM examples share: train a parity, measure it beside other codes, say what it cost."""

import json
import logging
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from approxifer_torchserve.artifacts.weights import digest, load
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.evaluation import make_cases
from approxifer_torchserve.evaluation.data import Data
from approxifer_torchserve.evaluation.report import build_report, write_report
from approxifer_torchserve.evaluation.run import Settings, run
from approxifer_torchserve.lightning import ParityTraining

CODES = ("parm", "approxifer", "uncoded")
SHOWN = {"parm": "parm", "approxifer": "approxifer, systematic", "uncoded": "no code"}


@dataclass(frozen=True)
class Recipe:
    """How a parity is trained.

    Attributes:
        epochs: How often every training query is seen.
        batch_size: Queries in a batch; each is grouped K times anew, so that the parity model gets
            as many coded queries as the base model gets queries.
        lr: Peak of the learning rate.
        start: ``base`` or ``fresh``, see ``ParityTraining``.
        seed: Of everything that is drawn.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 1e-2
    start: str = "base"
    seed: int = 0


class Telling(L.Callback):
    """Prints the loss ten times in a training."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints one line, unless the last one is too near."""
        done, of = trainer.current_epoch + 1, trainer.max_epochs or 1
        if done * 10 // of > (done - 1) * 10 // of:
            loss = float(trainer.callback_metrics["train_loss"])
            print(f"  epoch {done} of {of}, loss {loss:.3g}", flush=True)


def train_parity(
    base: nn.Module,
    queries: int,
    images: Tensor,
    recipe: Recipe,
    folder: Path,
) -> dict[str, Any]:
    """Trains the parity of ``parm`` with S=1.

    Args:
        base: The model that is served.
        queries: K, how many queries form a group.
        images: Unlabelled training inputs ``[n, *q]``.
        recipe: How it is trained.
        folder: Gets ``parity.safetensors``.

    Returns:
        The last training loss and how long it took, in seconds.
    """
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    L.seed_everything(recipe.seed, verbose=False)
    training = ParityTraining(
        base,
        make_code("parm", queries=queries, stragglers=1),
        start=recipe.start,  # type: ignore[arg-type]
        lr=recipe.lr,
        rounds=queries,
        seed=recipe.seed,
    )
    loader = DataLoader(
        TensorDataset(images), batch_size=recipe.batch_size, shuffle=True, drop_last=True
    )
    trainer = L.Trainer(
        max_epochs=recipe.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Telling()],
    )
    began = time.monotonic()
    trainer.fit(training, loader)
    training.save(folder)
    return {
        "train_loss": float(trainer.callback_metrics["train_loss"]),
        "seconds": round(time.monotonic() - began, 1),
    }


def measure(
    base: nn.Module, queries: int, unseen: Data, groups: int, folder: Path, seed: int, **about: Any
) -> list[dict[str, Any]]:
    """Measures ``parm``, systematic ApproxIFER and no code on labelled data, S=1.

    Args:
        base: The model that is served.
        queries: K, how many queries form a group.
        unseen: Labelled data that no training saw.
        groups: How many groups to draw; every loss of one answer is tried on each.
        folder: Has ``parity.safetensors``; gets ``report.json``, which ``approxifer archive
            --report`` takes, and its pages.
        seed: Of which queries form a group.
        **about: What else the report says.

    Returns:
        A row for each code, accuracies as fractions.
    """
    file = folder / "parity.safetensors"
    # Read back: what is measured is what was written.
    parity = load(file, base, "cpu")
    measured = run(
        base.eval(),
        unseen,
        Settings(make_cases(CODES, queries, [1]), groups=groups, seed=seed),
        weights={"parity": parity},
    )
    write_report(folder, build_report(measured, weights={"parity": digest(file)}, **about))
    rows = []
    for case in measured["cases"]:
        scores = case["scores"]["output"]
        rows.append(
            {
                "queries": queries,
                "code": case["code"],
                "workers": case["workers"],
                "base": measured["base"]["output"],
                "A_o": scores["overall"],
                "A_d": scores["lost_only"],
                "agreement_lost": scores["agreement_lost"],
            }
        )
    return rows


def show(rows: Sequence[dict[str, Any]], title: str) -> None:
    """Prints the table and what its columns are."""
    table = Table("K", "code", "workers", "base", "A_o", "A_d", "A_d agrees", title=title)
    for row in rows:
        figures = (f"{row[key]:.3f}" for key in ("base", "A_o", "A_d", "agreement_lost"))
        name = SHOWN[row["code"]]
        table.add_row(str(row["queries"]), name, str(row["workers"]), *figures)
    console = Console()
    console.print(table)
    console.print(
        "A_o: accuracy over all queries, with one answer of each group lost. A_d: over the queries "
        "whose own answer was lost, which is what a client with a late worker gets; sending its "
        "query again would give it base. 'no code' answers a lost query with the mean prediction.",
        soft_wrap=True,
    )


def write(out: Path, module: str, rows: Sequence[dict[str, Any]], **about: Any) -> None:
    """Writes ``report.json``: the command, how the parities were trained, and every row."""
    out.mkdir(parents=True, exist_ok=True)
    report = {
        "command": ["python", "-m", module, *sys.argv[1:]],
        "versions": {"torch": torch.__version__, "lightning": L.__version__},
        **about,
        "rows": list(rows),
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def data_of(images: Tensor, labels: Tensor) -> Data:
    """Makes labelled data of tensors, ``[n, *q]`` and ``[n]``."""
    return Data(len(labels), partial(_fetch, images, labels), "")


def _fetch(images: Tensor, labels: Tensor, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    return images[list(indices)], labels[list(indices)]
