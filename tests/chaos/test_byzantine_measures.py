"""The arithmetic and the checks of the bench about lies, without a server."""

import json
from dataclasses import asdict, replace

import pytest

from approxifer_torchserve.bench.byzantine import cells as byzantine_cells
from approxifer_torchserve.bench.byzantine import model as byzantine_model
from approxifer_torchserve.bench.byzantine import policies as byzantine_policies
from approxifer_torchserve.bench.byzantine import report as byzantine_report
from approxifer_torchserve.bench.harness.kept import Kept
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.corruption import corruption_kinds


def state(requests, jobs, wrong=(), away=()):
    workers = {
        name: {
            "confirmed_wrong": int(name in wrong),
            "suspicions": 2 * int(name in wrong),
            "state": "quarantined" if name in away else "ok",
        }
        for name in ("9000", "9001", "9002")
    }
    return {"counters": {"requests": requests, "jobs": jobs, "hedges": 3}, "workers": workers}


BEFORE = state(100, {"raw": 100, "hedge": 3, "probe": 0})


def cell(policy="pair", kind="gaussian", wrong=0, found=(0.4,), **changes):
    made = byzantine_cells.Cell(
        workers=6, policy=policy, kind=kind, liars=len(found), requests=10, answered=10,
        reconstructed=0, wrong=wrong, wrong_class=0, refused=0, found_s=found, confirmed=(),
        quarantined=(), suspected=0, forwards=1.0, extra=1.0, jobs={"raw": 10, "hedge": 10},
        late_hedges=0, median_ms=12.0, p99_ms=40.0, late_sending_s=0.0,
    )  # fmt: skip
    return replace(made, **changes)


def answers(right=0, wrong=0, decoded=0, other_class=0, refused=0):
    answer = byzantine_cells.Answer
    return (
        [answer(200, seconds=0.01)] * right
        + [answer(200, wrong=True, seconds=0.02)] * wrong
        + [answer(200, reconstructed=True, seconds=0.03)] * decoded
        + [answer(200, wrong=True, reconstructed=True, seconds=0.03)] * other_class
        + [answer(503)] * refused
    )


def test_a_cells_figures_are_differences():
    jobs = {"raw": 110, "hedge": 15, "probe": 3, "screen": 2}
    after = state(110, jobs, wrong={"9000"}, away={"9000"})
    told = answers(right=5, wrong=2, decoded=1, other_class=1, refused=1)
    found = byzantine_cells.tally(6, "pairs", "nan", {"9000": 0.4}, told, BEFORE, after)
    assert found.key == (6, "pairs", "nan", 1)
    assert (found.requests, found.answered, found.refused) == (10, 9, 1)
    assert (found.wrong, found.reconstructed, found.wrong_class) == (2, 2, 1)
    assert found.jobs == {"raw": 10, "hedge": 12, "probe": 3, "screen": 2}
    assert found.forwards == pytest.approx(1.2), "probes do not depend on requests"
    assert found.extra == pytest.approx(1.4)
    assert found.wrong_share == pytest.approx(3 / 9)
    assert (found.median_ms, found.p99_ms) == pytest.approx((10, 30))
    assert (found.confirmed, found.quarantined, found.late_hedges) == ((), (), 0)
    assert found.suspected == 0, "the liar's own suspicions are no mistake"


def test_an_honest_worker_that_was_hurt_is_seen():
    after = state(110, {"raw": 110}, wrong={"9001"}, away={"9002"})
    found = byzantine_cells.tally(6, "pair", "nan", {"9000": None}, [], BEFORE, after)
    assert (found.confirmed, found.quarantined) == (("9001",), ("9002",))
    assert found.suspected == 2
    assert broken([found]) == {"honest workers confirmed wrong"}


def broken(cells):
    return {check.what for check in byzantine_report.checks(cells) if not check.ok}


def test_each_broken_promise_is_seen():
    assert (
        broken([cell(), cell("none", wrong=3, found=(None,)), cell(kind="healthy", found=())])
        == set()
    )
    assert broken([cell(wrong=1)]) == {"wrong answers after a comparison"}
    assert broken([cell("vote", wrong=1)]) == {"wrong answers after a comparison"}
    assert broken([cell("coded", wrong_class=1)]) == set(), "an approximation is reported"
    assert broken([cell("none", found=(None,))]) == {"without tolerance lies get through"}
    assert broken([cell(kind="clean", found=(), refused=1)]) == {"nobody lied"}
    assert broken([cell(kind="clean", found=(), quarantined=("9000",))]) == {
        "honest workers confirmed wrong"
    }
    assert broken([cell(late_sending_s=2.0)]) == {"the client kept up"}


def test_two_that_lie_alike_outvote_an_honest_one_and_that_is_no_ones_fault():
    alike = cell(kind="sign_flip", found=(0.1, 0.2), wrong=4, confirmed=("9001",))
    assert broken([alike]) == set()
    assert broken([replace(alike, kind="gaussian")]) == {
        "honest workers confirmed wrong",
        "wrong answers after a comparison",
    }
    hurt = "honest workers confirmed wrong"
    assert broken([cell(kind="sign_flip", confirmed=("9001",))]) == {hurt}
    assert hurt in broken([replace(alike, policy="vote")]), "E + 1 agree"


def test_how_soon_all_liars_were_found():
    assert byzantine_report.found(cell(found=(0.4,))) == "0.4"
    assert byzantine_report.found(cell(found=(0.4, 1.25))) == "1.2"
    assert byzantine_report.found(cell(found=(0.4, None))) == "1 of 2 never"
    assert byzantine_report.found(cell(found=(None, None))) == "never"


def test_wrong_is_what_differs_beyond_tolerance():
    right = {"class": 3, "scores": [0.0, -1.5, 2.0, 7.0]}

    def told(change):
        scores = [change(i, s) for i, s in enumerate(right["scores"])]
        return byzantine_model.is_wrong(json.dumps({"scores": scores}).encode(), right)

    widest = byzantine_cells.accent(19, 20)["lie_size"] / byzantine_cells.accent(0, 20)["lie_size"]
    assert not told(lambda _, s: s)
    assert not told(lambda _, s: s + 1e-5)
    assert not told(lambda _, s: s * widest)
    assert told(lambda i, s: s + (i == 3))
    assert told(lambda i, s: float("nan") if i == 3 else s)
    assert told(lambda _, s: 1e6 * s), "the class is right, the numbers are not"
    assert byzantine_model.is_wrong(b"[]", right)
    assert byzantine_model.is_wrong(b"garbage", right)
    assert byzantine_model.same_class(b'{"class": 3}', right)
    assert not byzantine_model.same_class(b'{"class": 2}', right)
    assert not byzantine_model.same_class(b"garbage", right)


def test_every_kind_of_lie_can_be_told():
    assert {byzantine_cells.fault(kind)["lie"] for kind in byzantine_cells.KINDS} <= set(
        corruption_kinds()
    )


@pytest.mark.parametrize(
    "layout", [one for each in byzantine_policies.LAYOUTS.values() for one in each]
)
def test_every_code_fits_its_layout(layout):
    made = byzantine_policies.policies(layout, 40.0, 2.0)
    needs = {name: make_code(**one.code).num_workers for name, one in made.items()}
    assert max(needs.values()) <= layout.workers
    assert needs["pairs"] == needs["coded"] == 2 * (layout.queries + layout.byzantine)
    assert needs["vote"] == 2 * layout.byzantine + 1
    assert set(made) == set(byzantine_policies.WHAT) == set(byzantine_policies.POLICIES)


def test_a_stopped_run_goes_on_and_another_size_begins_anew(tmp_path):
    size = byzantine_cells.Size(kinds=("nan",), policies=("none", "pair"), clean_s=0)
    path = tmp_path / "out" / "cells.jsonl"
    Kept(path, asdict(size), byzantine_cells.Cell).add(cell(kind="nan"))
    again = Kept(path, asdict(size), byzantine_cells.Cell).results
    assert again == [cell(kind="nan")]
    left = byzantine_cells.left(byzantine_cells.plan(size), again)
    assert [(one.policy, [c[0] for c in one.cells]) for one in left] == [
        ("none", ["healthy", "nan"]),
        ("pair", ["healthy"]),
    ]
    other = asdict(replace(size, rate=1.0))
    assert Kept(path, other, byzantine_cells.Cell).results == []


def test_the_plan_has_every_policy_and_kind_and_ends_with_one_clean_run():
    size = byzantine_cells.Size(byzantine_policies.LAYOUTS["full"], kinds=("nan", "huge"))
    *stages, last = byzantine_cells.plan(size)
    assert (last.policy, last.cells) == ("vote", (("clean", 0, 300.0),))
    assert {(one.layout.workers, one.policy) for one in stages} == {
        (workers, policy) for workers in (18, 20) for policy in byzantine_policies.POLICIES
    }
    assert stages[-1].cells == (("healthy", 0, 6.0), ("nan", 2, 6.0), ("huge", 2, 6.0))
    quick = byzantine_cells.plan(byzantine_cells.QUICK)
    assert [one.policy for one in quick] == list(byzantine_cells.QUICK.policies)
    assert quick[-1].cells[-1] == ("clean", 0, 5.0), "no workers are started for it alone"


def test_the_report_has_a_row_per_lie_and_a_column_per_policy(tmp_path):
    cells = [
        cell("none", "healthy", found=(), extra=0.0),
        cell("coded", reconstructed=10, wrong_class=1),
        cell("none", wrong=5, found=(None,)),
        cell("pair", found=(0.4,)),
    ]
    size = byzantine_cells.Size(policies=("none", "pair", "coded"), kinds=("gaussian",))
    report = byzantine_report.report(tmp_path, cells, size)
    report.write(tmp_path, 0.5)
    wrong, seconds, decoded, cost = report.tables
    assert wrong.columns == ("lie", "none", "pair", "coded")
    assert wrong.rows == (("nobody lies", "0.0", "", ""), ("gaussian", "50.0", "0.0", "10.0"))
    assert seconds.rows == (("gaussian", "never", "0.4", "0.4"),)
    assert decoded.rows == (("gaussian", "100 / 10.0"),)
    assert cost.rows[0][:5] == ("none", "12", "40", "1.00", "0.00")
    assert len(json.loads((tmp_path / "report.json").read_text())["cells"]) == 4
    assert "data:image/png;base64,iVBOR" in (tmp_path / "report.html").read_text()
