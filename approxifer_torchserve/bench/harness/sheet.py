"""One report for each bench: report.json, and a page with its tables, plots and checks."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from approxifer_torchserve.bench.harness.report import surroundings


@dataclass(frozen=True)
class Check:
    """Something a bench promises, and whether it came true."""

    what: str
    ok: bool
    says: str


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Sheet:
    """What a bench found.

    Attributes:
        title: A few words.
        lead: What was done, for readers of the page.
        facts: All figures; goes into report.json as it is.
        tables: What a reader looks at.
        checks: What was promised.
        load_average: Of the machine before the bench.
        pictures: Names of .png files in the report's folder.
    """

    title: str
    lead: str
    facts: dict[str, Any]
    tables: tuple[Table, ...]
    checks: tuple[Check, ...]
    load_average: float
    pictures: tuple[str, ...] = ()

    def write(self, out: Path) -> dict[str, Any]:
        """Write report.json and report.html, and return what report.json holds."""
        out.mkdir(parents=True, exist_ok=True)
        report = {
            **surroundings(),
            "load_average": self.load_average,
            **self.facts,
            "checks": [asdict(check) for check in self.checks],
        }
        (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        source = files("approxifer_torchserve.bench.harness").joinpath("sheet.html.j2").read_text()
        template = Environment(autoescape=True, trim_blocks=True).from_string(source)
        pictures = [base64.b64encode((out / p).read_bytes()).decode() for p in self.pictures]
        page = template.render(
            title=self.title, lead=self.lead, tables=self.tables, pictures=pictures, report=report
        )
        (out / "report.html").write_text(page)
        return report

    def show(self, console: Console) -> None:
        """Print the tables and checks."""
        for table in self.tables:
            drawn = RichTable(
                title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
            )
            for number, name in enumerate(table.columns):
                drawn.add_column(name, justify="right" if number else "left", no_wrap=True)
            for row in table.rows:
                drawn.add_row(*row)
            console.print(drawn)
        for check in self.checks:
            mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
            console.print(f"{mark} {check.what}: {check.says}")
