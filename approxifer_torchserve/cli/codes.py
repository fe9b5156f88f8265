"""``approxifer codes``: which codes there are."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from approxifer_torchserve.cli.output import Json, console, print_json


def run(as_json: Json = False) -> None:
    """List the codes: what each does, its options and its paper.

    A code is chosen at archive time:

      approxifer archive ... --code approxifer --queries 8 --stragglers 1

      approxifer archive ... --code replication --queries 1 --stragglers 1

      approxifer archive ... --code approxifer --option nodes=authors
    """
    # Imported here: torch takes seconds, and --help should not.
    from approxifer_torchserve.codes import available_codes

    records = available_codes()
    if as_json:
        print_json([asdict(record) for record in records])
        return
    table = Table("code", "what it does", "options", "paper", show_lines=True)
    for record in records:
        options = [f"{o.name} = {o.default} ({o.values})\n{o.help}" for o in record.options]
        table.add_row(record.name, record.summary, "\n".join(options), record.paper)
    console.print(table)
