"""The bench's own arithmetic and its load: figures are only as good as these."""

import asyncio
import itertools
import json
import math
import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from approxifer_torchserve.bench import latency, slowdown
from approxifer_torchserve.bench.chaos import bench as chaos
from approxifer_torchserve.bench.harness.load import (
    ClosedLoop,
    Record,
    Sample,
    Target,
    arrival_times,
    open_loop,
    send_at,
)
from approxifer_torchserve.bench.harness.plot import tails
from approxifer_torchserve.bench.harness.report import Check, Report, Table
from approxifer_torchserve.bench.harness.schedule import Phase, order, run_phase
from approxifer_torchserve.bench.harness.server import FaultFile
from approxifer_torchserve.bench.harness.summary import (
    PhaseResult,
    quantile,
    summarise,
    write_requests,
)
from approxifer_torchserve.cli.main import app
from approxifer_torchserve.faults import WorkerFaults
from approxifer_torchserve.serving.server.launcher import LaunchError

SAMPLES = (Sample(0, b"3", 3), Sample(1, b"5", 5))
BODIES = [sample.body for sample in SAMPLES]


class Classifier(BaseHTTPRequestHandler):
    """Answers with the body as class, after a pause; says that every answer was hedged."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.seen.append(dict(self.headers))
            time.sleep(self.server.pause)
        text = json.dumps({"class": int(body)}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("x-approxifer-outcome", "hedged")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def classifier():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Classifier)
    server.pause, server.status, server.lock, server.seen = 0.0, 200, threading.Lock(), []
    server.url = f"http://127.0.0.1:{server.server_port}/predictions/digits"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def record(latency_s, *, outcome="exact", right=True, turn=0, server="coded"):
    return Record(0.0, latency_s, 200, outcome, 1 if right else 2, 1, 0, "", "p", server, turn)


def test_arrivals_are_poisson_and_repeatable():
    times = arrival_times(rate=200.0, seconds=50.0, seed=3)
    assert times == arrival_times(200.0, 50.0, 3)
    assert times != arrival_times(200.0, 50.0, 4)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 50
    # The count has standard deviation 100; gaps are exponential: deviation equals mean.
    assert abs(len(times) - 10_000) < 500
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)


@pytest.mark.parametrize(("rate", "seconds", "name"), [(0, 1, "rate"), (1, 0, "seconds")])
def test_arrivals_name_the_bad_argument(rate, seconds, name):
    with pytest.raises(ValueError, match=name):
        arrival_times(rate, seconds, 0)


def test_stalled_server_cannot_slow_the_load_down(classifier):
    # One answer at a time, 50 ms each, at 40 per second: the queue grows, and so must latencies.
    classifier.pause = 0.05
    times = arrival_times(40.0, 1.0, 0)
    records = asyncio.run(open_loop(Target("coded", classifier.url), SAMPLES, times, seed=0))
    assert len(records) == len(times)
    served = len(records) * 0.05
    assert max(r.latency_s for r in records) > 0.7 * (served - 1.0)
    assert all(r.outcome == "hedged" and r.predicted == r.label for r in records)


def test_failures_and_tokens(classifier):
    classifier.status = 503
    target = Target("coded", classifier.url, token="t")
    records = asyncio.run(open_loop(target, SAMPLES, arrival_times(50.0, 0.2, 0), seed=0))
    assert {(r.status, r.outcome, r.predicted) for r in records} == {(503, "failed", None)}
    assert {headers["Authorization"] for headers in classifier.seen} == {"Bearer t"}
    burst = ClosedLoop(target, BODIES, clients=2).run(0.1, warm_s=0)
    assert burst.answered == burst.per_second == 0
    assert burst.failed > 0
    assert {headers["Authorization"] for headers in classifier.seen} == {"Bearer t"}


def test_nobody_listening_is_a_failed_request_not_a_crash():
    target = Target("coded", "http://127.0.0.1:9/x")
    records = asyncio.run(open_loop(target, SAMPLES, arrival_times(50.0, 0.1, 0), seed=0))
    assert {r.outcome for r in records} == {"failed"}
    assert "Connect" in records[0].detail


def test_capacity_counts_answers_per_second(classifier):
    classifier.pause = 0.01
    start = time.perf_counter()
    burst = ClosedLoop(Target("coded", classifier.url), BODIES, clients=4).run(0.5, warm_s=0)
    passed = time.perf_counter() - start
    assert burst.failed == 0
    assert burst.answered == len(classifier.seen)
    # What each client still waited for at the end came too late to count.
    assert (len(classifier.seen) - 4) / passed <= burst.per_second <= len(classifier.seen) / 0.5
    assert burst.per_second <= 100, "one at a time, 10 ms each"


def test_quantile_takes_a_value_that_occurred():
    values = [float(i) for i in range(1, 101)]
    assert quantile(values, 0.5) == 50
    assert quantile(values, 0.99) == 99
    assert quantile(values, 1.0) == 100
    assert quantile([7.0], 0.99) == 7
    assert math.isnan(quantile([], 0.5))


def test_summary_counts_outcomes_and_takes_failures_for_wrong():
    records = [
        record(0.001),
        record(0.002, outcome="hedged"),
        record(0.003, outcome="reconstructed", right=False),
        record(0.004, outcome="reconstructed"),
        Record(0.0, 1.0, 500, "failed", None, 1, 0, "Worker died."),
    ]
    summary = summarise("coded", records)
    assert (summary.exact, summary.hedged, summary.reconstructed, summary.failed) == (1, 1, 2, 1)
    assert summary.accuracy == pytest.approx(3 / 5)
    assert summary.accuracy_reconstructed == pytest.approx(0.5)
    assert summary.max_ms == pytest.approx(1000)
    assert summary.failures == ("500 Worker died.",)
    assert summarise("coded", records[:1]).accuracy_reconstructed is None


def test_ratio_compares_turn_by_turn():
    phase = Phase("healthy", "", 1.0, 1.0, 3)
    coded = [record(t, turn=i) for i, t in enumerate((0.011, 0.02, 0.09))]
    plain = [record(0.01, turn=i, server="plain", outcome="plain") for i in range(3)]
    ratio = PhaseResult.of(phase, coded + plain).ratio()
    assert ratio.turns == pytest.approx((1.1, 2.0, 9.0))
    assert (ratio.median, ratio.lowest, ratio.highest) == pytest.approx((2.0, 1.1, 9.0))
    assert PhaseResult.of(phase, coded).ratio() is None


def test_servers_take_turns_and_get_the_same_requests(classifier):
    targets = [Target(name, classifier.url) for name in ("coded", "plain")]
    disturbed, ticks = [], []

    async def disturb(server):
        disturbed.append(server)

    phase = Phase("p", "", rate=40.0, slice_s=0.1, turns=2)
    records = run_phase(phase, targets, SAMPLES, 1, disturb=disturb, tick=ticks.append)
    assert disturbed == ["coded", "plain", "plain", "coded"]
    assert ticks == [0.1] * 4
    sent = {
        name: [(r.turn, r.due_s, r.sample) for r in records if r.server == name]
        for name in ("coded", "plain")
    }
    assert sorted(sent["coded"]) == sorted(sent["plain"])


def test_report_files_hold_every_figure(tmp_path):
    phase = Phase("healthy", "All well.", 10.0, 1.0, 1)
    records = [record(0.001), record(0.5), record(0.002, server="plain", outcome="plain")]
    records = [r.within("healthy", r.server, 0) for r in records]
    facts = {"phases": [PhaseResult.of(phase, records).facts()]}
    table = Table("latency", ("phase", "server"), (("a", "x"), ("a", "y"), ("b", "x")), names=2)
    tails(tmp_path / "latency.png", {"healthy": records})
    write_requests(tmp_path / "requests.csv", records)
    checks = (Check("<b>", True, "fine"),)
    terms = (("healthy", "All well."),)
    found = Report("Title", "Lead.", facts, (table,), checks, ("latency.png",), terms)
    found.write(tmp_path, 0.5)
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["phases"][0]["servers"][0]["max_ms"] == pytest.approx(500)
    assert told["versions"]["torchserve"] == "0.12.0"
    assert told["load_average"] == 0.5
    assert len((tmp_path / "requests.csv").read_text().splitlines()) == 4
    text = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64,iVBOR" in text
    assert "&lt;b&gt;" in text
    assert "<dt>healthy</dt><dd>All well.</dd>" in text
    assert table.groups() == [0, 0, 1]
    assert text.count('<tr class="odd">') == 1


@pytest.mark.parametrize("sides", [2, 3, 5])
def test_no_side_is_always_first_or_always_after_the_same_other(sides):
    names = list(range(sides))
    turns = [order(names, turn) for turn in range(2 * sides)]
    assert all(sorted(one) == names for one in turns)
    assert sorted(one[0] for one in turns) == sorted(names * 2), "each begins as often"
    after = {one[one.index(0) + 1] for one in turns if one[-1] != 0}
    assert len(after) == min(2, sides - 1)


def test_fault_file_is_what_workers_read(tmp_path):
    faults = FaultFile(tmp_path / "faults.json")
    slept = []
    worker = WorkerFaults(faults.environment, pid=42, sleep=slept.append)
    worker.apply()
    faults.put(42, delay_s=1.0)
    faults.put(43, delay_s=9.0)
    faults.drop(43)
    worker.apply()
    faults.clear()
    worker.apply()
    assert slept == [1.0]


def test_a_sender_that_is_held_up_says_so():
    async def send(number, due):
        if number == 0:
            time.sleep(0.2)  # what a busy process does: nothing else of it runs
        return number, due

    start = time.perf_counter()
    results, late = asyncio.run(send_at([0.0, 0.01, 0.02], send))
    assert [number for number, _ in results] == [0, 1, 2]
    assert [due - results[0][1] for _, due in results] == pytest.approx([0.0, 0.01, 0.02])
    assert results[0][1] >= start
    assert late > 0.15


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--policy", "classics"), "hedge, reconstruct, classic"),
        (("--body", "1000"), "multiples of 256"),
        (("--schedule", "AC"), "A, B or AB"),
    ],
)
def test_chaos_names_the_option_that_is_wrong(words, says, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    result = CliRunner().invoke(app, ["bench", "chaos", *words])
    assert result.exit_code == 2
    assert says in result.output
    assert words[0] in result.output


def test_chaos_runs_every_policy_with_every_size_of_body(monkeypatch, tmp_path):
    asked = {}

    def run_chaos(out, size, variants, schedules, seconds, seed, say):
        asked.update(names=[one.name for one in variants], schedules=schedules, rate=size.rate)
        raise LaunchError("no server today")

    monkeypatch.setattr(chaos, "run_chaos", run_chaos)
    words = "--policy hedge --policy classic --body 12288 --body 602112 --schedule B --rate 7"
    result = CliRunner().invoke(app, ["bench", "chaos", "--out", str(tmp_path), *words.split()])
    assert result.exit_code == 1
    assert "no server today" in result.output
    assert asked == {
        "names": ["hedge, 12 KB", "hedge, 602 KB", "classic, 12 KB", "classic, 602 KB"],
        "schedules": ["B"],
        "rate": 7,
    }


@pytest.mark.parametrize(
    ("words", "module", "function", "expected"),
    [
        (
            "slowdown --factor 3 --turns 2 --slow-s 4 --batch 8",
            slowdown,
            "run_slowdown",
            slowdown.Size(factor=3, turns=2, slow_s=4, batches=(8,)),
        ),
        (
            "latency --queries 5 --turns 2 --slice-s 3 --seed 9",
            latency,
            "run_latency",
            latency.Size(queries=5, turns=2, slice_s=3, seed=9),
        ),
    ],
)
def test_options_reach_the_bench_and_a_broken_promise_is_the_exit_code(
    words, module, function, expected, monkeypatch, tmp_path
):
    asked = []

    def run(*arguments):
        asked.extend(one for one in arguments if isinstance(one, type(expected)))
        return Report("t", "", {"figure": 7}, (), (Check("promise", False, "no"),))

    monkeypatch.setattr(module, function, run)
    result = CliRunner().invoke(app, ["bench", *words.split(), "--out", str(tmp_path), "--json"])
    assert asked == [expected]
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["figure"] == 7
    assert told["checks"] == [{"what": "promise", "ok": False, "says": "no"}]
    report = json.loads((tmp_path / "report.json").read_text())
    assert {**report, **told} == report
