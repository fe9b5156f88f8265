"""The arithmetic and the judgement of the bench about lies, without a server."""

import json
from dataclasses import replace

import pytest

from approxifer_torchserve.bench import byzantine_cells, byzantine_report, probe
from approxifer_torchserve.corruption import corruption_kinds


def state(requests, jobs, wrong=(), away=()):
    workers = {
        name: {
            "confirmed_wrong": int(name in wrong),
            "state": "quarantined" if name in away else "ok",
        }
        for name in ("9000", "9001", "9002")
    }
    return {"counters": {"requests": requests, "jobs": jobs, "hedges": 3}, "workers": workers}


BEFORE = state(100, {"raw": 100, "hedge": 3, "probe": 0})


def cell(policy="pair", kind="gaussian", wrong=0, found=(0.4,), **changes):
    jobs = {"raw": 10, "hedge": 10}
    made = byzantine_cells.Cell(
        policy, kind, len(found), 10, 10, wrong, 0, found, (), (), 1.0, jobs, 0, 0.0
    )
    return replace(made, **changes)


def test_a_cells_figures_are_differences():
    after = state(110, {"raw": 110, "hedge": 15, "probe": 3}, wrong={"9000"}, away={"9000"})
    answers = [(200, False)] * 7 + [(200, True)] * 2 + [(503, False)]
    found = byzantine_cells.tally("pair", "nan", {"9000": 0.4}, answers, BEFORE, after)
    assert (found.requests, found.answered, found.wrong, found.refused) == (10, 9, 2, 1)
    assert found.jobs == {"raw": 10, "hedge": 12, "probe": 3}
    assert found.extra == pytest.approx(1.5)
    assert found.wrong_share == pytest.approx(2 / 9)
    assert (found.convicted, found.quarantined, found.late_hedges) == ((), (), 0)


def test_an_honest_worker_that_was_hurt_is_seen():
    after = state(110, {"raw": 110}, wrong={"9001"}, away={"9002"})
    found = byzantine_cells.tally("pair", "nan", {"9000": None}, [], BEFORE, after)
    assert (found.convicted, found.quarantined) == (("9001",), ("9002",))
    assert broken([found]) == {"honest workers convicted"}


def broken(cells):
    return {check.what for check in byzantine_report.checks(cells) if not check.ok}


def test_each_broken_promise_is_seen():
    assert (
        broken([cell(), cell("none", wrong=3, found=(None,)), cell(kind="healthy", found=())])
        == set()
    )
    assert broken([cell(wrong=1)]) == {"wrong answers after a check"}
    assert broken([cell("none", found=(None,))]) == {"without tolerance lies get through"}
    assert broken([cell(kind="clean", found=(), refused=1)]) == {"nobody lied"}
    assert broken([cell(kind="clean", found=(), quarantined=("9000",))]) == {
        "honest workers convicted"
    }
    assert broken([cell(late_sending_s=2.0)]) == {"the client kept up"}


def test_two_that_lie_alike_outvote_an_honest_one_and_that_is_no_ones_fault():
    alike = cell(kind="sign_flip", found=(0.1, 0.2), wrong=4, convicted=("9001",))
    assert broken([alike]) == set()
    assert broken([replace(alike, kind="gaussian")]) == {
        "honest workers convicted",
        "wrong answers after a check",
    }
    assert broken([cell(kind="sign_flip", convicted=("9001",))]) == {"honest workers convicted"}


def test_how_soon_all_liars_were_found():
    assert byzantine_report.found(cell(found=(0.4,))) == "0.4"
    assert byzantine_report.found(cell(found=(0.4, 1.25))) == "1.2"
    assert byzantine_report.found(cell(found=(0.4, None))) == "1 of 2 never"
    assert byzantine_report.found(cell(found=(None, None))) == "never"


def test_wrong_is_what_differs_beyond_tolerance():
    right = probe.right_answer(probe.body(1, 256))

    def told(change):
        scores = [change(i, s) for i, s in enumerate(right["scores"])]
        return byzantine_cells.is_wrong(json.dumps({"scores": scores}).encode(), right)

    assert not told(lambda _, s: s)
    assert not told(lambda _, s: s + 1e-5)
    assert not told(lambda _, s: s * byzantine_cells.accent(8)["lie_size"])
    assert told(lambda i, s: s + (i == 3))
    assert told(lambda i, s: float("nan") if i == 3 else s)
    assert told(lambda _, s: 1e6 * s), "the class is right, the numbers are not"
    assert byzantine_cells.is_wrong(b"[]", right)
    assert byzantine_cells.is_wrong(b"garbage", right)


def test_every_kind_of_lie_can_be_told():
    assert {byzantine_cells.fault(kind)["lie"] for kind in byzantine_cells.Size().kinds} <= set(
        corruption_kinds()
    )


def test_a_stopped_run_goes_on_and_another_size_begins_anew(tmp_path):
    size = byzantine_cells.Size(kinds=("nan",), liars=(1,))
    path = tmp_path / "out" / "cells.jsonl"
    store = byzantine_cells.Store(path, size)
    store.add(cell(kind="nan"))
    assert byzantine_cells.Store(path, size).cells == [cell(kind="nan")]
    assert byzantine_cells.Store(path, replace(size, rate=1.0)).cells == []


def test_the_plan_has_every_policy_kind_and_number_and_one_clean_run():
    cells = byzantine_cells.plan(byzantine_cells.Size())
    assert sum(kind == "clean" for own in cells.values() for kind, _, _ in own) == 1
    assert [c for c in cells["audit"] if c[1]] == [
        (kind, n, 6.0) for n in (1, 2) for kind in byzantine_cells.Size().kinds
    ]


def test_the_report_has_a_row_per_lie(tmp_path):
    cells = [
        cell("none", wrong=5, found=(None,)),
        cell("pair", found=(0.4,)),
        cell("none", "healthy", found=(), extra=0.0),
    ]
    size = byzantine_cells.Size(policies=("none", "pair"), kinds=("gaussian",), liars=(1,))
    sheet = byzantine_report.write_report(tmp_path, cells, size, 0.5)
    assert sheet.tables[0].rows == (("gaussian", "50.0", "0.0", "0.4"),)
    assert len(json.loads((tmp_path / "report.json").read_text())["cells"]) == 3
