from __future__ import annotations

import dataclasses
import json

import pytest

from approxifer_torchserve.codes import (
    ApproxIFER,
    Plan,
    SystematicApproxIFER,
    available_codes,
    make_code,
    register_code,
    settled,
)


def test_the_slice_has_its_codes_and_they_explain_themselves():
    records = {record.name: record for record in available_codes()}
    assert {"uncoded", "replication", "approxifer"} <= set(records)
    for record in records.values():
        assert record.summary.endswith(".")
        assert record.paper
        # The CLI prints records as JSON.
        json.dumps(dataclasses.asdict(record))
    assert [option.name for option in records["approxifer"].options] == [
        "systematic",
        "nodes",
        "locator",
    ]


def test_options_take_the_defaults_they_state():
    for record in available_codes():
        arguments = {"queries": 4, "stragglers": 0 if record.name == "uncoded" else 1}
        defaults = {option.name: option.default for option in record.options}
        assert make_code(record.name, **arguments) == make_code(
            record.name, **arguments, **defaults
        )


def test_systematic_unless_asked_otherwise():
    assert isinstance(make_code("approxifer", queries=8, stragglers=1), SystematicApproxIFER)
    classic = make_code("approxifer", queries=8, stragglers=1, systematic=False)
    assert classic == ApproxIFER(8, 1, 0, "authors")
    paper = make_code("approxifer", queries=8, stragglers=1, nodes="paper")
    assert paper == ApproxIFER(8, 1, 0, "paper")
    assert (classic.systematic, classic.plan().mode) == (False, "coded")
    assert make_code("approxifer", queries=8, stragglers=1).plan().mode == "systematic"


@pytest.mark.parametrize(
    ("name", "options", "meant"),
    [
        ("approxifer", {}, {"systematic": True}),
        ("approxifer", {"systematic": False}, {"systematic": False}),
        ("approxifer", {"nodes": "paper"}, {"nodes": "paper", "systematic": False}),
        ("approxifer", {"nodes": None, "systematic": None}, {"systematic": True}),
        ("approxifer", {"locator": "rational"}, {"locator": "rational", "systematic": True}),
        ("replication", {"rtol": 0.1}, {"rtol": 0.1}),
        ("uncoded", {}, {}),
    ],
)
def test_options_mean_one_thing_wherever_they_are_read(name: str, options: dict, meant: dict):
    assert settled(name, options) == meant
    assert settled(name, meant) == meant
    shape = {"queries": 4, "stragglers": 0 if name == "uncoded" else 1}
    assert make_code(name, **shape, **options) == make_code(name, **shape, **meant)


def test_what_no_code_has_is_not_settled():
    with pytest.raises(ValueError, match=r"name must be one of .*got 'fountain'"):
        settled("fountain", {})
    with pytest.raises(ValueError, match=r"no option 'node'.*'nodes'"):
        settled("approxifer", {"node": "paper"})


def test_codes_are_values():
    a = make_code("approxifer", queries=8, stragglers=1)
    b = make_code("approxifer", queries=8, stragglers=1)
    assert a == b
    assert hash(a) == hash(b)
    assert a is not b
    others = [
        make_code("approxifer", queries=8, stragglers=2),
        make_code("approxifer", queries=7, stragglers=1),
        make_code("approxifer", queries=8, stragglers=1, byzantine=1),
        make_code("approxifer", queries=8, stragglers=1, systematic=False),
        make_code("approxifer", queries=8, stragglers=1, nodes="paper"),
        make_code("replication", queries=8, stragglers=1),
        make_code("uncoded", queries=8, stragglers=0),
    ]
    assert len({a, b, *others}) == 1 + len(others)
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.queries = 9  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.plan().quorum = 3  # type: ignore[misc]
    assert hash(a.plan()) == hash(b.plan())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": "fountain"}, ValueError, "name must be one of .*got 'fountain'"),
        ({"queries": 0}, ValueError, "queries must be at least 1, got 0"),
        ({"queries": 8.0}, TypeError, "queries must be an integer, got 8.0"),
        ({"queries": True}, TypeError, "queries must be an integer"),
        ({"stragglers": -1}, ValueError, "stragglers must be at least 0, got -1"),
        ({"stragglers": 0}, ValueError, "stragglers must be at least 1"),
        ({"byzantine": -1}, ValueError, "byzantine must be at least 0"),
        ({"nodes": "chebyshev"}, ValueError, "nodes must be one of"),
        ({"nodes": "paper", "systematic": True}, ValueError, "nodes must be left out"),
        ({"systematic": "yes"}, TypeError, "systematic must be true or false, got 'yes'"),
        ({"node": "paper"}, ValueError, "no option 'node'.*'nodes'"),
        ({"name": "replication", "nodes": "paper"}, ValueError, "no option 'nodes'"),
        ({"name": "uncoded", "stragglers": 0, "rtol": 1}, ValueError, "it has none"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        make_code(**{"name": "approxifer", "queries": 8, "stragglers": 1, **arguments})


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'uncoded' is already registered"):
        register_code("uncoded", summary="Again.", paper="none")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "fast"}, "mode must be one of"),
        ({"systematic": (0, 1)}, "systematic must have num_workers = 3 entries"),
        ({"systematic": (0, 2, None)}, r"systematic must hold None or queries 0\.\.1, got 2"),
        ({"quorum": 4}, "quorum must be None or in"),
        ({"copies": 0}, "copies must be at least 1"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(change: dict, words: str):
    plan = Plan(2, 3, "systematic", (0, 1, None), 2)
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(plan, **change)
