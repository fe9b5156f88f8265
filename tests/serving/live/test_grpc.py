"""What gRPC clients have beside predictions: options, refusals, hanging up.

TorchServe hands a plugin no metadata of a gRPC call, so the request options are inputs there.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from kserve_grpc import ModelInfer
from live_server import CROWD, OWN, png, same, until, v2

from approxifer_torchserve.serving.server.grpc_client import GrpcPredictions


@pytest.fixture
def slow(live):
    """Every worker of a model takes so long over a job."""
    yield lambda model, seconds: live.delay(dict.fromkeys(live.pids(model), seconds))
    live.delay({})


def test_exact_only_is_an_input(live):
    before = live.state("classic")["counters"]
    for option in ({}, {"x-approxifer-accept": b"exact-only"}):
        assert live.grpc.predict("classic", {"data": png(3), **option})
    assert same(json.loads(live.grpc.predict("classic", {"data": png(3), **option})), 3)
    after = live.quiet("classic")["counters"]
    assert after["reconstructed"] - before["reconstructed"] == 1
    assert sum(after[outcome] - before[outcome] for outcome in OWN) == 2


def test_a_deadline_of_its_own_is_an_input(live, slow):
    slow("tiny", 4.0)
    start = time.perf_counter()
    with pytest.raises(grpc.RpcError) as error:
        live.grpc.predict("tiny", {"data": png(1), "X-Approxifer-Deadline-Ms": b"300"})
    assert time.perf_counter() - start < 4.0, "it waited for a worker"
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "within the deadline of 300 ms" in error.value.details()
    live.quiet("tiny")


@pytest.mark.parametrize("deadline", [b"\xff\xfe", b"soon", b"-1", b"nan", b""])
def test_options_that_make_no_sense_are_no_options(live, deadline):
    inputs = {"data": png(2), "x-approxifer-deadline-ms": deadline, "x-approxifer-job": b"v1 0 {}"}
    assert same(json.loads(live.grpc.predict("tiny", inputs)), 2)


def test_kserve_model_infer(live):
    rest = live.http.post("/v2/models/tiny/infer", json=v2(4)).json()
    with ModelInfer(live) as infer:
        reply = infer("tiny", png(4))
    assert (reply.id, reply.model_name) == ("42", "tiny")
    assert len(reply.outputs) == len(rest["outputs"]) == 1
    assert reply.outputs[0].datatype == rest["outputs"][0]["datatype"]


def test_kserve_model_infer_is_refused_with_a_reason(live):
    with ModelInfer(live) as infer, pytest.raises(grpc.RpcError) as error:
        infer("tiny", b"not an image")
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT, error.value
    live.quiet("tiny")


def hangs_up(live, call, hang_up=None):
    """Calls on workers that are all asleep: called off when all are there, or by deadline."""
    before = live.state("tiny")["counters"]
    with ThreadPoolExecutor(CROWD) as pool:
        calls = [pool.submit(call, png(number)) for number in range(CROWD)]
        until(lambda: live.state("tiny")["in_flight"] == CROWD)
        live.holds("tiny", *live.pids("tiny"))
        if hang_up is not None:
            hang_up()
        for one in calls:
            with pytest.raises(grpc.RpcError) as error:
                one.result(30)
            # Either end may see the deadline first; the server then resets the stream.
            ended = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
            assert error.value.code() in ended
    until(lambda: live.state("tiny")["in_flight"] == 0)
    gone = live.state("tiny")
    assert gone["counters"]["client_gone"] - before["client_gone"] == CROWD
    assert gone["outstanding_jobs"] > 0, "they were answered"
    # What waited behind the workers' first jobs is never handed out.
    live.delay({})
    after = live.quiet("tiny")["counters"]
    assert after["jobs"] == gone["counters"]["jobs"]
    assert after["jobs"]["raw"] - before["jobs"]["raw"] < CROWD


def test_a_client_whose_deadline_ends_frees_its_place_and_its_work(live, slow):
    slow("tiny", 6.0)
    token = live.server.token("inference")
    with GrpcPredictions(live.server.grpc, token, timeout=4) as hurried:
        hangs_up(live, lambda content: hurried.predict("tiny", content))


def test_a_kserve_client_that_hangs_up_does_too(live, slow):
    slow("tiny", 4.0)
    with ModelInfer(live) as client:
        hangs_up(live, lambda content: client("tiny", content), client.channel.close)
