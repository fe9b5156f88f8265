"""The bench about a slowdown of everything: what it counts, and its checks."""

import json
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from approxifer_torchserve.bench import slowdown
from approxifer_torchserve.bench.harness.load import Target
from approxifer_torchserve.bench.harness.model import right_answer
from approxifer_torchserve.bench.harness.server import FaultFile

SIZE = slowdown.Size(workers=1, healthy_s=0.5, slow_s=3.0, service_ms=20, body_bytes=256)
TURN = slowdown.Turn(100.0, 1000, 20, 0, 0)


def compare(on, off=(100.0, 100.0, 200.0), **changes):
    return slowdown.Comparison(
        1,
        tuple(replace(TURN, per_second=rate) for rate in off),
        tuple(replace(TURN, per_second=rate, **changes) for rate in on),
    )


def broken(found):
    return [check.what for check in slowdown.checks(SIZE, [found]) if not check.ok]


def test_a_ratio_compares_the_two_servers_of_one_turn():
    found = compare((99.0, 96.0, 198.0))
    assert found.ratio.turns == pytest.approx((0.99, 0.96, 0.99))
    assert found.extra == pytest.approx(0.02)
    assert broken(found) == []


def test_each_broken_promise_is_seen():
    assert broken(compare((90.0, 90.0, 180.0))) == ["batch 1: throughput"]
    assert broken(compare((100.0, 100.0, 200.0), extra_jobs=261)) == ["batch 1: extra work"]
    assert broken(compare((100.0, 100.0, 200.0), extra_jobs=259)) == []
    assert broken(compare((100.0, 100.0, 200.0), failed=1)) == ["answers"]
    assert broken(compare((100.0, 100.0, 200.0), wrong=1)) == ["answers"]


class Served:
    """One worker over HTTP, as slow as the fault file says, in place of a TorchServe."""

    def __init__(self, folder):
        self.faults, self.plugin = FaultFile(folder / "faults.json"), True
        served, self.requests = self, 0
        self.lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                with served.lock:
                    served.requests += 1
                    faults = json.loads(served.faults.path.read_text())
                    time.sleep(0.02 + faults.get("*", {}).get("delay_s", 0))
                text = json.dumps(right_answer(content)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,)).start()

    def target(self, model):
        return Target("coded", f"http://127.0.0.1:{self.server.server_port}/predictions/{model}")

    def state(self, _):
        jobs = {"raw": self.requests, "hedge": 2 * self.requests}
        return {"counters": {"requests": self.requests, "jobs": jobs}}

    def once(self, model, *_):
        return self.state(model)


def test_only_the_slow_part_of_a_turn_counts(tmp_path):
    served = Served(tmp_path)
    try:
        turn = slowdown._turn(served, SIZE, batch=1)
    finally:
        served.server.shutdown()
        served.server.server_close()
    assert turn.per_second <= 11 + 1, "20 ms made five times slower: ten a second, not fifty"
    assert turn.extra_jobs == 2 * turn.requests
    assert 0 < turn.requests < served.requests
    assert (turn.failed, turn.wrong) == (0, 0)
    assert json.loads(served.faults.path.read_text()) == {}, "well again"
