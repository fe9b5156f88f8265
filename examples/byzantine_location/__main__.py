"""Measure every locator: ``python -m approxifer_torchserve.examples.byzantine_location --help``.

What is done is kept: answers, fitted locators and finished cells lie in the output folder, and a
second run with the same settings goes on from there.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.torch import load_file, save_file
from torch import Tensor

from approxifer_torchserve.artifacts.locator_file import load_locator, save_locator
from approxifer_torchserve.codes import LocatingCode, Locator, make_code
from approxifer_torchserve.codes.approxifer import BerrutCode
from approxifer_torchserve.codes.locators.calibrate import LEVEL, clean_answers, fit_locator
from approxifer_torchserve.codes.locators.residual import ResidualLocator

from .measure import FAULTS, Trial, measure
from .sets import HALVES, SETS, Set, load_set, split
from .table import tables
from .unseen import column

METHODS: dict[str, tuple[str, str]] = {
    "rational": ("approxifer", "authors'"),
    "spline": ("approxifer", "spline r/(1-h)"),
    "gaussian": ("approxifer", "linear"),
    "default": ("approxifer", "default"),
    "pairs-default": ("pairs", "pairs, default"),
    "pairs-network": ("pairs", "pairs, network"),
    "pairs-unseen": ("pairs", "network, kind unseen"),
}
"""Column: the code it is on, and its title."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="byzantine_location", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npz test sets")
    parser.add_argument("--models", type=Path, required=True, help="folder of the .ts.pt models")
    parser.add_argument("--out", type=Path, default=Path("build/byzantine_location"))
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=sorted(SETS))
    parser.add_argument(
        "--measure-on",
        choices=HALVES,
        default="second",
        help="half of the test images that measures; the other one calibrates. Compare variants "
        "on the second (default) and measure what was chosen once on the first",
    )
    parser.add_argument(
        "--shapes", nargs="+", default=["8,1", "8,2", "8,3", "4,1", "12,1"], help="K,E each"
    )
    usual = [method for method in METHODS if method != "pairs-unseen"]
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=usual)
    parser.add_argument("--groups", type=int, default=4000, help="calibration groups of pairs")
    parser.add_argument("--classic-groups", type=int, default=1600, help="and of approxifer")
    parser.add_argument("--trial-groups", type=int, default=1800, help="groups that measure")
    parser.add_argument("--steps", type=int, default=6000, help="training steps of the network")
    parser.add_argument("--width", type=int, default=96, help="width of the network")
    parser.add_argument("--share", type=float, default=None, help="of the pairs code")
    parser.add_argument("--level", type=float, default=LEVEL, help="false suspicions allowed")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


@dataclass(frozen=True)
class Bench:
    """One data set and one shape of code.

    Attributes:
        options: What the command line says.
        name: The set's, one of ``SETS``.
        queries: K, how many queries form a group.
        byzantine: E, how many answers may be wrong.
        bar: Makes a progress callback with a title.
    """

    options: argparse.Namespace
    name: str
    queries: int
    byzantine: int
    bar: Callable[[str], Callable[[int, int], None]]

    def code(self, family: str) -> LocatingCode:
        """Makes ``pairs``, or the classic ``approxifer``."""
        extra: dict[str, object] = {"nodes": "authors"} if family == "approxifer" else {}
        if family == "pairs" and self.options.share is not None:
            extra = {"share": self.options.share}
        code = make_code(
            family, queries=self.queries, stragglers=0, byzantine=self.byzantine, **extra
        )
        assert isinstance(code, LocatingCode)
        return code

    def label(self, family: str) -> str:
        """Names files so that other settings are other files."""
        share = self.options.share if family == "pairs" and self.options.share else ""
        groups = self.options.groups if family == "pairs" else self.options.classic_groups
        return (
            f"{self.name}-K{self.queries}-E{self.byzantine}-{family}{share}"
            f"-g{groups}-t{self.options.trial_groups}-on-{self.options.measure_on}"
            f"-s{self.options.seed}"
        )

    def answers(self, family: str, load: Callable[[], Set]) -> dict[str, Tensor]:
        """Runs the model, or reads what it said before."""
        path = self.options.out / "answers" / f"{self.label(family)}.safetensors"
        if path.exists():
            return load_file(path)
        found, code = load(), self.code(family)
        groups = self.options.groups if family == "pairs" else self.options.classic_groups
        if family == "approxifer":
            trials = self.options.trial_groups // 2
        else:
            trials = self.options.trial_groups
        rows = split(len(found.images), self.options.measure_on)
        generator = torch.Generator().manual_seed(self.options.seed)
        result: dict[str, Tensor] = {}
        for part, count in (
            ("fit", groups * 3 // 4),
            ("held_out", groups - groups * 3 // 4),
            ("trial", trials),
        ):
            result[part], members = clean_answers(
                code,
                found.model,
                found.images[rows[part].start : rows[part].stop],
                count,
                generator=generator,
                progress=self.bar(f"{self.label(family)}: {part}"),
            )
        result["labels"] = found.labels[rows["trial"].start + members]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(result, path)
        return result

    def locator(
        self, method: str, answers: dict[str, Tensor], unseen: tuple[str, ...] = ()
    ) -> Locator | None:
        """Fits a locator, or reads the one fitted before; None for a code's default."""
        family = METHODS[method][0]
        code = self.code(family)
        if method == "rational":
            assert isinstance(code, BerrutCode)
            return code.rational_locator()
        if method.endswith("default"):
            return None
        if method == "spline":
            default = code.default_locator()
            assert isinstance(default, ResidualLocator)
            return replace(default, power=1.0)
        setting = f"{self.options.steps}x{self.options.width}" if family == "pairs" else "linear"
        setting = "-without-".join((setting, *unseen))
        path = (
            self.options.out
            / "locators"
            / f"{self.label(family)}-{setting}-{self.options.level}.safetensors"
        )
        if path.exists():
            return load_locator(path)
        locator = fit_locator(
            code,
            answers["fit"],
            answers["held_out"],
            level=self.options.level,
            steps=self.options.steps,
            width=self.options.width,
            seed=self.options.seed,
            unseen=unseen,
            progress=self.bar(f"{self.label(family)}: {'-'.join(('training', *unseen))}"),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        save_locator(locator, path)
        return locator

    def cell(self, method: str, load: Callable[[], Set]) -> dict[str, object]:
        """Measures one column, or reads it."""
        family = METHODS[method][0]
        setting = f"{self.options.steps}x{self.options.width}-{self.options.level}"
        path = self.options.out / "cells" / f"{self.label(family)}-{method}-{setting}.json"
        if path.exists():
            found: dict[str, object] = json.loads(path.read_text())
            return found
        started = time.monotonic()
        answers = self.answers(family, load)
        code, trial = self.code(family), Trial(answers["trial"], answers["labels"])

        def measured(
            rows: tuple[str, ...] = tuple(FAULTS), unseen: tuple[str, ...] = ()
        ) -> dict[str, object]:
            found = code.with_locator(self.locator(method, answers, unseen))
            return measure(found, trial, seed=self.options.seed, faults=rows)

        cell = {
            "set": self.name,
            "queries": self.queries,
            "byzantine": self.byzantine,
            "num_workers": code.num_workers,
            "measured_on": self.options.measure_on,
            "method": method,
            "code": family,
            "title": METHODS[method][1],
            **(column(measured) if method == "pairs-unseen" else measured()),
        }
        cell["seconds"] = round(time.monotonic() - started, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(cell, indent=1))
        partial.replace(path)
        return cell


@contextmanager
def bars(console: Console):  # type: ignore[no-untyped-def]
    """Shows one progress bar at a time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:

        def bar(title: str) -> Callable[[int, int], None]:
            task = progress.add_task(title, total=None)

            def report(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total, visible=done < total)

            return report

        yield bar


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes the report.

    Args:
        arguments: The command line; None for the process's own.

    Returns:
        The exit status.
    """
    options = parse(arguments)
    console = Console()
    sets: dict[str, Set] = {}
    cells = []
    with bars(Console(stderr=True)) as bar:
        for shape in options.shapes:
            queries, byzantine = (int(part) for part in shape.split(","))
            for name in options.sets:
                bench = Bench(options, name, queries, byzantine, bar)

                def load(name: str = name) -> Set:
                    if name not in sets:
                        sets[name] = load_set(name, options.data, options.models)
                    return sets[name]

                cells += [bench.cell(method, load) for method in options.methods]
    report = {
        "command": ["python", "-m", "approxifer_torchserve.examples.byzantine_location"],
        "arguments": sys.argv[1:] if arguments is None else arguments,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "cells": cells,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = tables(cells)
    (options.out / "tables.md").write_text(text)
    console.print(text, markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
