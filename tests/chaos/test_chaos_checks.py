"""The bench's own checks: each broken promise must be seen."""

import asyncio
import json
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from approxifer_torchserve.bench.chaos.answers import MAX_T, Bodies, Finding, typical_error
from approxifer_torchserve.bench.chaos.bench import Asker
from approxifer_torchserve.bench.chaos.faults import Event
from approxifer_torchserve.bench.chaos.report import report
from approxifer_torchserve.bench.chaos.run import Attempt, Run, Size, Variant
from approxifer_torchserve.bench.harness import model as bench_model
from approxifer_torchserve.bench.harness.load import ClosedLoop, Target, compare, new_client
from approxifer_torchserve.codes import make_code

SIZE = Size(queries=2, stragglers=1, deadline_ms=200)
WELL = {"in_flight": 0, "outstanding_jobs": 0, "live_workers": 3, "counters": {}}
GOOD = Attempt(0.0, 0.01, 200, "exact")


def run(*attempts, schedule="A", events=(), after=WELL, variant=Variant()):
    return Run(schedule, variant, 10.0, SIZE, (GOOD, *attempts), tuple(events), 0.0, after)


def broken(result):
    return {check.what.split(": ")[1] for check in result.checks() if not check.ok}


def fault(start, end, worker="9000"):
    return Event("slow", worker, 4711, start, end)


def test_nothing_is_broken_in_a_good_run():
    assert broken(run(events=[fault(0, 1), fault(1.5, 2, "9001")])) == set()
    assert broken(run(schedule="B")) == set()


@pytest.mark.parametrize(
    ("attempt", "schedule", "what"),
    [
        (Attempt(0, 1, 200, "exact", wrong=True), "A", "wrong answers"),
        (Attempt(0, 1, 200, "hedged", wrong=True), "B", "wrong answers"),
        (Attempt(0, 1, 200, "reconstructed", damaged=True), "A", "damaged reconstructions"),
        (Attempt(0, 9, 0, "lost"), "A", "lost requests"),
        (Attempt(0, 9, 0, "lost"), "B", "lost requests"),
        (Attempt(0, 1, 503, "failed", detail="deadline"), "A", "refusals"),
        (Attempt(0, 1, 503, "failed"), "B", "refusals say why"),
    ],
)
def test_each_broken_promise_is_seen(attempt, schedule, what):
    assert broken(run(attempt, schedule=schedule)) == {what}


def test_a_refusal_with_a_reason_is_allowed_in_schedule_b_alone():
    refused = Attempt(0, 1, 503, "failed", detail="no answer within the deadline")
    assert broken(run(refused, schedule="B")) == set()


def test_a_client_that_could_not_keep_up_is_seen():
    assert broken(replace(run(), late_sending_s=1.5)) == {"the client kept up"}


def test_more_faults_at_once_than_allowed_are_seen():
    both = [fault(0, 2), fault(1, 3, "9001")]
    assert run(events=both).most_at_once() == 2
    assert broken(run(events=both)) == {"bound"}


@pytest.mark.parametrize("change", [{"in_flight": 1}, {"outstanding_jobs": 2}, {"live_workers": 2}])
def test_what_is_left_behind_is_seen(change):
    assert broken(run(after={**WELL, **change})) == {"all well afterwards"}


def test_the_report_holds_figures_timeline_and_reasons(tmp_path):
    refused = Attempt(1, 1, 503, "failed", detail="request 17 of 90 is late")
    ran = run(refused, schedule="B", events=[fault(0, None)])
    report(tmp_path, [ran]).write(tmp_path, 0.5)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["runs"][0]["statuses"] == {"200": 1, "503": 1}
    assert found["runs"][0]["reasons"] == {"503 request of is late": 1}
    assert (tmp_path / "timeline-hedge-12kb-B.png").stat().st_size > 10_000
    assert "data:image/png" in (tmp_path / "report.html").read_text()


class Model(BaseHTTPRequestHandler):
    """Answers as the model would, or as `server.change` has it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.pause)
        answer = {**bench_model.right_answer(body), **self.server.change}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("x-approxifer-outcome", self.server.outcome)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def model():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.pause, server.change, server.outcome = 0.0, {}, "exact"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def target(model):
    return Target("coded", f"http://127.0.0.1:{model.server_port}/predictions/x")


def ask(model, number=3, limit_s=60.0):
    async def once():
        async with new_client(target(model)) as client:
            asker = Asker(client, target(model), Bodies(bench_model.SMALL_BYTES), limit_s)
            return await asker.ask(number)

    return asyncio.run(once())


def test_an_answer_is_compared_with_the_models_own(model):
    assert not ask(model).wrong
    model.change = {"scores": [0.0] * 10}
    assert ask(model).wrong
    model.outcome = "hedged"
    assert ask(model).wrong
    model.outcome = "reconstructed"
    assert not ask(model).wrong, "an approximation is not called exact"
    assert ask(model).damaged
    model.outcome = "someone else's"
    assert ask(model).wrong


def test_an_answer_after_deadline_and_grace_is_lost(model):
    model.pause = 9.0
    attempt = ask(model, limit_s=0.3)
    assert (attempt.status, attempt.outcome) == (0, "lost")
    assert 0.3 <= attempt.latency_s < 9, "it waited for the answer"


def test_saturation_counts_answers_and_finds_wrong_ones(model):
    bodies = [bench_model.body(number) for number in range(4)]
    check = compare([bench_model.right_answer(body) for body in bodies])
    model.pause = 0.01
    burst = ClosedLoop(target(model), bodies, 4, check).run(1.0)
    assert burst.answered >= burst.per_second * 0.7 > 0
    assert burst.per_second <= 4 / 0.01
    assert burst.wrong == burst.failed == 0
    model.change = {"class": 11}
    assert ClosedLoop(target(model), bodies, 2, check).run(0.3, requests=10).wrong >= 10


def test_what_a_code_makes_of_bodies_is_on_their_line_and_what_bytes_lost_is_not():
    bodies = Bodies(bench_model.SMALL_BYTES)
    contents = [bodies.body(number) for number in range(4)]
    assert len({content[4096:4352] for content in contents}) == 4, "rows differ"
    right = [bench_model.right_answer(content) for content in contents]
    assert [bodies.check(i, "exact", json.dumps(one).encode()) for i, one in enumerate(right)] == [
        Finding()
    ] * 4
    scores = torch.tensor([one["scores"] for one in right])
    code = make_code("approxifer", queries=4, stragglers=2, systematic=False)
    predictions = code.encode(scores)
    came = torch.tensor([True, False, True, True, False, True])
    for number, row in enumerate(code.decode(predictions, came)):
        decoded = {"class": int(row.argmax()), "scores": row.tolist()}
        found = bodies.check(number, "reconstructed", json.dumps(decoded).encode())
        assert not found.damaged, found
        assert 0 < found.error < 1
        assert bodies.check(number, "hedged", json.dumps(decoded).encode()).wrong
        spoilt = {**decoded, "scores": [*decoded["scores"][:-1], decoded["scores"][-1] * 1.1 + 9e4]}
        assert bodies.check(number, "reconstructed", json.dumps(spoilt).encode()).damaged
    for content in (b"{", b"[]", b'{"class": 0, "scores": [1.0]}', b'{"class": 0}'):
        assert bodies.check(0, "reconstructed", content).damaged
        assert bodies.check(0, "exact", content).wrong
    nan = {"class": 0, "scores": [float("nan")] * 10}
    assert bodies.check(0, "reconstructed", json.dumps(nan).encode()).damaged


def test_answers_of_other_requests_are_seen():
    bodies = Bodies(256)
    other = json.dumps(bench_model.right_answer(bodies.body(8))).encode()
    assert bodies.check(9, "hedged", other).wrong
    assert bodies.check(9, "reconstructed", other).error > 0.1
    assert len({bodies.place(number) for number in range(MAX_T)}) == MAX_T


@pytest.mark.parametrize("policy", ["hedge", "reconstruct", "classic"])
def test_reconstructions_farther_off_than_the_codes_own_are_seen(policy):
    size = Size(queries=4, stragglers=2)
    own = typical_error(4, 2, systematic=policy != "classic")
    assert 0.01 < own < 0.5

    after = {**WELL, "live_workers": size.workers}

    def many(error):
        made = [Attempt(0, 0.1, 200, "reconstructed", error=error)] * 40
        return replace(run(*made, variant=Variant(policy), after=after), size=size)

    assert broken(many(own)) == set()
    assert broken(many(2 * own)) == {"reconstructions near"}


def test_bodies_and_answers_tell_requests_apart():
    bodies = [bench_model.body(number) for number in range(50)]
    assert {len(body) for body in bodies} == {bench_model.SMALL_BYTES}
    answers = {json.dumps(bench_model.right_answer(body)) for body in bodies}
    assert len(answers) == 50
    with pytest.raises(ValueError, match="size"):
        bench_model.body(0, 1000)
