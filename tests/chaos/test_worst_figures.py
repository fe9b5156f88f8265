"""The bench of bad days: its arithmetic, and its report from slices that are kept."""

import io
import json
import math
from dataclasses import asdict

import pytest
from rich.console import Console

from approxifer_torchserve.bench.harness.kept import Kept
from approxifer_torchserve.bench.harness.load import Record
from approxifer_torchserve.bench.worst import bench
from approxifer_torchserve.bench.worst.figures import FIGURES, Slice, clean_after, figures
from approxifer_torchserve.bench.worst.scenarios import Size, scenarios

# Ten requests per second at most.
SIZE = Size(workers=1, service_ms=100, slice_s=10, turns=1, deadline_ms=2000)


def answer(due_s, latency_s, status=200, *, right=True, later=False):
    return Record(due_s, latency_s, status, "", 1, 1 if right else 2, 0, retry_after=later)


def measure(name, *records, **counted):
    counts = {"extra": 0, "late": 0, "held": 0, **counted}
    return figures(scenarios(SIZE)[name], SIZE, Slice(name, "coded", 0, records=records, **counts))


def test_goodput_counts_timely_right_answers_in_a_full_queue():
    found = measure(
        "over-3",
        answer(0.5, 0.1),  # before queues are full
        answer(1.5, 1.0),  # ends when they are
        answer(3.0, 0.1),
        answer(4.0, 2.1),  # too late
        answer(5.0, 0.1, right=False),
        answer(6.0, 0.01, 503, later=True),
        answer(7.0, 0.01, 503),
        answer(9.5, 1.0),  # ends when it is over
        answer(11.0, 0.1),
    )
    assert found["requests"] == 6
    assert found["goodput"] == pytest.approx(2 / 8 / 10)
    assert found["refused %"] == pytest.approx(100 / 6)
    assert found["refused in ms"] == pytest.approx(10)
    assert found["failed %"] == pytest.approx(200 / 6)
    assert found["lost %"] == pytest.approx(50)
    assert (found["p50 ms"], found["p99 ms"]) == pytest.approx((1000, 2100))
    assert found["clean s"] == 1.0


def test_without_a_deadline_a_late_answer_counts():
    assert measure("over-1.25-none", answer(4.0, 2.1))["goodput"] == pytest.approx(1 / 6 / 10)


def test_what_is_beside_the_requests_is_counted_per_answer():
    found = measure("hang", answer(0, 0.1), answer(1, 0.1), extra=1, late=2, held=3)
    assert (found["extra %"], found["late %"], found["held"]) == (50, 100, 3)
    assert math.isnan(found["clean s"])
    assert math.isnan(measure("slow", answer(0, 0.1))["held"])
    assert math.isnan(measure("slow", answer(0, 0.1, 500), extra=1)["extra %"])


def test_clean_is_the_first_quarter_second_in_which_all_are_answered_soon():
    calm = [
        answer(10.1, 0.5), answer(10.2, 0.1), answer(10.3, 0.1), answer(10.4, 0.01, 503),
        answer(10.6, 0.1), answer(10.7, 0.1), answer(10.8, 0.5),
    ]  # fmt: skip
    assert clean_after(calm, 10.0, 0.3) == 0.5
    assert clean_after(calm[4:], 10.5, 0.3) == 0
    assert clean_after(calm[:1], 10.0, 0.3) == math.inf
    assert math.isnan(clean_after([], 10.0, 0.3))


def test_a_run_that_was_measured_is_reported_without_a_server(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "Served", None)
    kept = Kept(tmp_path / "slices.jsonl", asdict(SIZE), Slice)
    latencies = {"coded": 0.2, "plain": 1.0}
    for name in ("slow", "hang"):
        for side, latency_s in latencies.items():
            records = (answer(1.0, latency_s), answer(2.0, 0.1))
            placed = tuple(one.within(name, side, 0) for one in records)
            kept.add(Slice(name, side, 0, 0, 0, 2, placed))
    kept.add(Slice("rare", "coded", 0, 0, 0, 0, (answer(1.0, 0.1),)))
    found = bench.run_worst(tmp_path, SIZE, ["slow", "hang"], Console(file=io.StringIO()))
    assert [row[:2] for row in found.tables[0].rows] == [
        ("slow", "coded"), ("slow", "plain"), ("slow", "ratio"),
        ("hang", "coded"), ("hang", "plain"), ("hang", "ratio"),
    ]  # fmt: skip
    ratio = dict(zip(found.tables[0].columns, found.tables[0].rows[2], strict=True))
    assert (ratio["p99 ms"], ratio["goodput"], ratio["held"]) == ("0.20", "1.00", "")
    assert {check.what: check.ok for check in found.checks} == {
        "slow: p99.9 ms": True, "slow: p50 ms": True, "slow: p99 ms": True, "slow: lost %": True,
        "hang: lost %": True, "hang: held": True, "hang: p50 ms": True, "hang: p99 ms": True,
    }  # fmt: skip
    found.write(tmp_path, 0.0)
    told = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert set(told["scenarios"]) == {"slow", "hang"}
    assert set(told["scenarios"]["slow"]["coded"]) == set(FIGURES)
    assert "Retry-After" in (tmp_path / "report.html").read_text()
