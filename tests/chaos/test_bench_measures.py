"""The arithmetic of the throughput, latency and soak benches, without a server."""

import json
import random

import pytest

from approxifer_torchserve.bench import latency, soak, throughput
from approxifer_torchserve.bench.harness.kept import Kept
from approxifer_torchserve.bench.harness.load import Burst, Record
from approxifer_torchserve.bench.harness.model import archive_coded, archive_plain
from approxifer_torchserve.bench.harness.report import Check, Report, Table
from approxifer_torchserve.bench.harness.summary import summarise

GC_LOG = """\
[0.010s][info][gc] Using G1
[1.500s][info][gc] GC(0) Pause Young (Normal) (G1 Evacuation Pause) 100M->20M(256M) 3.2ms
[2.000s][info][gc] GC(1) Concurrent Mark Cycle
[2.100s][info][gc] GC(1) Pause Remark 30M->28M(256M) 2.0ms
[3.500s][info][gc] GC(2) Pause Young (Normal) (G1 Evacuation Pause) 120M->21M(256M) 3.2ms
"""


def test_growth_is_told_from_noise_and_peaks():
    draw = random.Random(0)
    requests = [1000.0 * i for i in range(100)]
    noisy = [300 + draw.gauss(0, 3) + (200 if i % 17 == 0 else 0) for i in range(100)]
    level = soak.growth("level", requests, noisy, 40_000)
    assert level.flat
    assert level.low_mb < 0 < level.high_mb
    grown = [m + r / 1000 for m, r in zip(noisy, requests, strict=True)]
    leaking = soak.growth("leak", requests, grown, 40_000)
    assert not leaking.flat
    assert leaking.slope_mb == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("last", [46.0, 46.5])
def test_readings_that_hardly_ever_change_grow_by_nothing_for_sure(last):
    same = soak.growth("same", [float(n) for n in range(30)], [46.0] * 29 + [last], 0)
    assert (same.slope_mb, same.low_mb, same.high_mb) == (0, 0, 0)


def test_growth_before_the_warm_up_ends_does_not_count():
    requests = [1000.0 * i for i in range(100)]
    megabytes = [min(i, 40) * 10.0 for i in range(100)]
    assert soak.growth("start", requests, megabytes, 40_000).slope_mb == pytest.approx(0, abs=1e-9)


def test_too_few_readings_are_refused():
    with pytest.raises(ValueError, match="more requests"):
        soak.growth("short", [1.0, 2.0], [1.0, 1.0], 0)


def test_the_heap_that_each_collection_leaves(tmp_path):
    log = tmp_path / "gc.log"
    log.write_text(GC_LOG)
    assert soak.heap_after_collections(log) == [(1.5, 20.0), (2.1, 28.0), (3.5, 21.0)]


def test_collections_are_put_on_the_scale_of_requests():
    # The JVM was 10 s old when the load began.
    readings = [soak.Reading(float(s), 100 * s, 300.0, (200.0,)) for s in range(1, 11)]
    found = soak._heap_by_requests(readings, [(5.0, 9.0), (13.5, 10.0), (20.0, 11.0)])
    assert found == [(300.0, 10.0), (1000.0, 11.0)]


def test_a_ratio_compares_the_slices_of_one_turn():
    def slices(*rates):
        return tuple(throughput.Slice(rate, 1.0, 1.0, 8.0, 0, 0) for rate in rates)

    # The machine became twice as fast after the second turn; the ratio does not care.
    found = throughput.Comparison(12288, 8, slices(100, 100, 200, 200), slices(99, 97, 198, 190))
    told = found.facts()
    assert told["ratios"] == pytest.approx((0.99, 0.97, 0.99, 0.95))
    assert told["median"] == pytest.approx(0.98, abs=1e-9)
    assert (told["lowest"], told["highest"]) == (pytest.approx(0.95), pytest.approx(0.99))
    assert told["jvm_ratio"] == 1


def test_processor_time_is_counted_per_answer():
    burst = Burst(per_second=50.0, answered=100, failed=1)
    before, after = throughput.Spent(1.0, 2.0, 40, 100), throughput.Spent(1.5, 4.0, 65, 200)
    found = throughput._slice(burst, before, after)
    assert (found.jvm_ms, found.workers_ms) == (5.0, 20.0)
    assert found.rows == 4.0
    assert found.failed == 1


def test_competitors_get_the_workers_they_are_named_for():
    found = {one.name: one for one in latency.competitors(3)}
    assert [one.workers for one in found.values()] == [3, 4, 4, 4, 4]
    assert not found["plain 3"].plugin
    assert not found["plain 3"].approxifer["enabled"]
    assert found["coded"].plugin
    assert not found["client hedge 4"].plugin
    assert found["client hedge 4"].model == found["plain 4"].model
    assert [one.name for one in found.values() if one.hedging] == ["client hedge 4"]


def test_no_competitor_is_always_first_or_always_after_the_same_other():
    names = ["a", "b", "c"]
    orders = [latency.order(names, turn) for turn in range(6)]
    assert all(sorted(one) == names for one in orders)
    assert {one[0] for one in orders} == set(names)
    after_a = {one[one.index("a") + 1] for one in orders if one[-1] != "a"}
    assert after_a == {"b", "c"}


def test_workers_are_as_busy_when_jobs_are_rarely_slow():
    size = latency.Size(queries=3, service_ms=10, utilisation=0.3)
    assert size.rate("healthy") == pytest.approx(90)
    assert size.rate("rare") == pytest.approx(30)


def test_a_request_that_waited_out_the_slow_worker_is_seen():
    def summary(latency_s, status=200, predicted=1):
        outcome = "hedged" if status == 200 else "failed"
        record = Record(0, latency_s, status, outcome, predicted, 1, 0, "", "slow", "coded")
        return {"slow": [summarise("coded", [record])]}

    assert all(check.ok for check in latency.checks(summary(0.2)))
    assert [c.ok for c in latency.checks(summary(1.1))] == [True, False]
    assert [c.ok for c in latency.checks(summary(0.1, 503, None))] == [False, True]
    assert [c.ok for c in latency.checks(summary(0.1, predicted=2))] == [False, True]


def test_plain_archives_hold_nothing_of_ours(tmp_path):
    import zipfile

    plain = archive_plain(tmp_path / "plain", "model", {"batchSize": 8})
    coded = archive_coded(tmp_path, "model", approxifer={})
    assert "approxifer/plan.json" not in zipfile.ZipFile(plain).namelist()
    assert "approxifer/plan.json" in zipfile.ZipFile(coded).namelist()


def test_a_report_has_figures_and_checks(tmp_path):
    table = Table("t", ("a", "b"), (("x", "1"),))
    checks = (Check("good", True, "yes"), Check("bad", False, "1 < 2"))
    Report("Title", "Lead.", {"figure": 7}, (table,), checks).write(tmp_path, 0.5)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["figure"] == 7
    assert [check["ok"] for check in report["checks"]] == [True, False]
    page = (tmp_path / "report.html").read_text()
    assert "✗ bad: 1 &lt; 2" in page


def test_latencies_are_told_turn_by_turn_with_what_they_cost(tmp_path):
    size = latency.Size(turns=3)

    def sliced(turn, latency_s, extra):
        records = [
            Record(0, latency_s, 200, "exact", 1, 1, i, "", "healthy", "coded", turn)
            for i in range(10)
        ]
        return latency.Slice("healthy", "coded", turn, extra, tuple(records))

    slices = [sliced(0, 0.02, 1), sliced(1, 0.03, 2), sliced(2, 0.9, 0)]
    report = latency.report(tmp_path, size, slices)
    report.write(tmp_path, 0.5)
    assert report.tables[0].rows == (
        ("healthy", "coded", "30", "30.0", "20.0–900.0", "30", "20–900", "900", "10", "0.100",
         "0", "1.000"),
    )  # fmt: skip
    told = json.loads((tmp_path / "report.json").read_text())["phases"]["healthy"][0]
    assert told["p99_turns_ms"] == pytest.approx([20, 30, 900])
    assert told["extra_jobs_per_request"] == pytest.approx(0.1)
    assert (tmp_path / "latency.png").stat().st_size > 5_000


def test_a_run_that_was_stopped_goes_on_and_other_conditions_begin_anew(tmp_path):
    def sliced(turn):
        record = Record(0, 0.1, 200, "exact", 1, 1, 0, "", "healthy", "coded", turn)
        return latency.Slice("healthy", "coded", turn, 1, (record, record))

    def kept(turns):
        return Kept(path, {"turns": turns}, latency.Slice)

    path = tmp_path / "out" / "slices.jsonl"
    kept(3).add(sliced(0))
    with path.open("a") as file:
        file.write('{"phase": "hea')  # stopped in the middle of writing
    again = kept(3)
    assert again.results == [sliced(0)]
    again.add(sliced(1))
    assert kept(3).results == [sliced(0), sliced(1)]
    assert kept(4).results == []


def test_a_line_that_is_no_result_is_refused(tmp_path):
    path = tmp_path / "slices.jsonl"
    path.write_text('{"turns": 3}\n{"phase": 1}\n')
    with pytest.raises(ValueError, match="phase"):
        Kept(path, {"turns": 3}, latency.Slice)
