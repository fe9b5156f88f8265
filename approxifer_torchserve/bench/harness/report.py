"""One report for each bench and the demo: report.json, and a page with tables, plots and checks."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

PACKAGES = ("approxifer-torchserve", "torch", "torchserve", "lightning", "httpx", "scikit-learn")
# Told what a bench does now.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """Something a bench promises, and whether it came true."""

    what: str
    ok: bool
    says: str


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: What its figures are.
        columns: Their names.
        rows: A text per column.
        names: How many columns on the left are names. With two, rows with the same first name
            stand together.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1

    def groups(self) -> list[int]:
        """Returns for each row the number of the group that it stands in."""
        found: list[int] = []
        for number, row in enumerate(self.rows):
            same = number > 0 and self.names > 1 and row[0] == self.rows[number - 1][0]
            found.append(found[-1] if same else len(set(found)))
        return found

    def drawn(self) -> RichTable:
        """Draws it for a terminal."""
        drawn = RichTable(
            title=self.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        for number, name in enumerate(self.columns):
            drawn.add_column(name, justify="left" if number < self.names else "right", no_wrap=True)
        groups = self.groups()
        for number, row in enumerate(self.rows):
            last = self.names > 1 and groups[number] != groups[min(number + 1, len(groups) - 1)]
            drawn.add_row(*row, end_section=last)
        return drawn


@dataclass(frozen=True)
class Report:
    """What a bench found.

    Attributes:
        title: A few words.
        lead: What was done, for readers of the page.
        facts: All figures; goes into report.json as it is.
        tables: What a reader looks at.
        checks: What was promised.
        pictures: Names of .png files in the report's folder.
        terms: Words of the tables and what they mean, for readers of the page.
    """

    title: str
    lead: str
    facts: dict[str, Any]
    tables: tuple[Table, ...]
    checks: tuple[Check, ...]
    pictures: tuple[str, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()

    @property
    def figures(self) -> dict[str, Any]:
        """All figures and checks, as JSON."""
        return {**self.facts, "checks": [asdict(check) for check in self.checks]}

    def write(self, out: Path, load_average: float) -> dict[str, Any]:
        """Writes report.json and report.html.

        Args:
            out: Folder to write to; the pictures lie there already.
            load_average: Load average of the machine before the bench.

        Returns:
            What report.json holds.
        """
        out.mkdir(parents=True, exist_ok=True)
        report = {**surroundings(), "load_average": load_average, **self.figures}
        (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        source = files("approxifer_torchserve.bench.harness").joinpath("report.html.j2").read_text()
        template = Environment(autoescape=True, trim_blocks=True).from_string(source)
        pictures = [base64.b64encode((out / p).read_bytes()).decode() for p in self.pictures]
        page = template.render(found=self, report=report, pictures=pictures)
        (out / "report.html").write_text(page)
        return report

    def show(self, console: Console) -> None:
        """Prints the tables and checks."""
        for table in self.tables:
            console.print(table.drawn())
        for check in self.checks:
            mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
            console.print(f"{mark} {check.what}: {check.says}")


def surroundings() -> dict[str, Any]:
    """Returns the command, versions and machine that a figure depends on."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "command": ["approxifer", *sys.argv[1:]],
        "versions": {"python": platform.python_version(), **versions},
        "machine": {"system": platform.system(), "cpus": os.cpu_count()},
    }
