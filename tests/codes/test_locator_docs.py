from __future__ import annotations

import doctest
import re
from itertools import product
from pathlib import Path

import pytest

from examples.byzantine_location.measure import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "byzantine.md"
GROSS = ("gaussian 100", "gaussian 10", "exponent bit >= 2^4, up", "NaN", "huge")


def rows(first_cell: str, number: int = 0) -> list[list[str]]:
    """The cells of the page's nth table whose head begins with this cell."""
    tables = re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), flags=re.MULTILINE)
    found = [table for table in tables if table.startswith(f"| {first_cell} |")][number]
    lines = [line.strip("| ").split(" | ") for line in found.splitlines()]
    return [lines[0], *lines[2:]]


def column(number: int, method: int) -> dict[str, list[float]]:
    """Of the nth table by fault: all numbers in a method's cell, CIFAR-10's first."""
    return {
        row[0]: [float(text) for text in re.findall(r"\d\.\d{3}", row[method])]
        for row in rows("fault", number)[1:]
    }


def test_the_page_prints_what_it_says():
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.attempted > 12
    assert result.failed == 0


def test_the_tables_hold_every_fault():
    named, suspected, accuracy = (list(column(number, -1)) for number in range(3))
    assert named == list(FAULTS)
    assert suspected == [*FAULTS, "clean groups suspected"]
    assert accuracy == [*FAULTS, "clean groups (nothing suspected)"]


@pytest.mark.parametrize("number", [0, 1])
def test_the_network_is_what_the_page_says(number: int):
    titles = rows("fault", number)[0]
    assert titles[-1] == "pairs, network"
    network = column(number, -1)
    for fault in FAULTS:
        others = [column(number, method)[fault] for method in range(1, len(titles) - 1)]
        for own, *rest in zip(network[fault], *others, strict=True):
            assert own >= max(rest) - 0.0021, fault
            assert own >= 0.99 or fault not in GROSS, fault
    assert max(column(1, -1)["clean groups suspected"]) <= 0.01


def test_the_distance_to_the_oracle_is_what_the_page_says():
    accuracy = column(2, -1)
    worst = [0.0, 0.0]
    for fault in FAULTS:
        for place in (0, 1):
            got, oracle = accuracy[fault][2 * place : 2 * place + 2]
            worst[place] = max(worst[place], oracle - got)
    said = re.search(r"within (\S+) of an oracle on MNIST and (\S+) on CIFAR-10", PAGE.read_text())
    # Both figures of a cell are rounded.
    assert worst == pytest.approx([float(said[2]), float(said[1])], abs=0.0011)


def test_every_shape_has_a_row():
    found = [(row[0].strip("†‡"), int(row[1]), int(row[2])) for row in rows("set")[1:]]
    assert sorted(found) == sorted(product(("cifar10", "mnist"), (4, 8, 12), (1, 2, 3)))
