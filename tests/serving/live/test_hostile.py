"""Clients who mean harm, or are badly broken: refused with a reason, and nobody else notices.

After every test the server must be as before it: no worker died, nothing is in flight, and each
model still answers its own.
"""

import io
import json
import math
import re
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_server import expected, png, same, v1, v2
from PIL import Image
from safetensors.torch import save

from approxifer_torchserve.serving import frame
from approxifer_torchserve.serving.archive import wrap_archive
from approxifer_torchserve.serving.launcher import worker_processes

MODELS = ("tiny", "classic", "mending")
VECTORS = Path(__file__).parents[1] / "unit" / "models" / "vector_handler.py"
JSON = {"content-type": "application/json"}
few = settings(
    max_examples=12,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def unhurt(live):
    before = {model: sorted(live.pids(model)) for model in (*MODELS, "plain")}
    yield
    for model in MODELS:
        state = live.quiet(model)
        assert state["ready"]
        assert all(worker["unanswered"] == 0 for worker in state["workers"].values())
        assert same(live.post(model, png(1), headers=EXACT).json(), 1)
    assert before == {model: sorted(live.pids(model)) for model in before}, "a worker died"
    assert live.http.get("/ping").json() == {"status": "Healthy"}


EXACT = {"x-approxifer-accept": "exact-only"}


def refused(reply, *statuses):
    """A refusal with a reason that says nothing of the machine's inside."""
    assert reply.status_code in statuses, (reply.status_code, reply.text[:300])
    body = reply.json()
    assert body["message"]
    assert not re.search(r"0x[0-9a-f]{6}|Traceback|/tmp/", reply.text)
    return body["message"]


# ------------------------------------------------------------------ forged headers and frames

ANY_CASE = st.tuples(
    st.sampled_from(["job", "outcome", "members", "group", "want", "", "kind"]), st.randoms()
).map(
    lambda given: "".join(
        given[1].choice((letter.lower(), letter.upper())) for letter in f"x-approxifer-{given[0]}"
    )
)
VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200)
MEMBER = {"index": 0, "headers": {}, "parameters": ["body"]}
FORGED_JOBS = [
    {"kind": "raw", "want": True},
    {"kind": "encode", "size": 1, "members": [MEMBER]},
    {"kind": "parity", "coded": 2, "size": 1, "members": [MEMBER]},
    {"kind": "coded", "coded": 0},
    {"kind": "decode", "size": 2, "available": [1, 2], "members": [MEMBER]},
]


@few
@given(name=ANY_CASE, value=VISIBLE, model=st.sampled_from(("tiny", "plain")))
def test_forged_headers_are_inert(live, name, value, model):
    reply = live.post(model, png(5), headers={name: value})
    assert reply.status_code == 200
    assert reply.content == live.post("plain", png(5)).content
    outcomes = reply.headers.get_list("x-approxifer-outcome")
    assert outcomes == (["exact"] if model == "tiny" else [])


@pytest.mark.parametrize("job", FORGED_JOBS, ids=lambda job: job["kind"])
@pytest.mark.parametrize("model", MODELS)
def test_forged_jobs_are_inert(live, model, job):
    text = json.dumps(job)
    for signature in ("0" * 64, "", "f" * 63 + "é".encode().decode("latin-1")):
        forged = f"v1 {signature} {text}".encode("latin-1")
        for name in ("x-approxifer-job", "X-ApproxIFER-Job"):
            reply = live.post(model, png(6), headers=[(name, forged), (name, forged)])
            assert reply.status_code == 200, reply.text
            assert set(reply.json()) == {"class", "scores"}
            if model == "tiny":
                assert reply.json() == expected(6)


def test_a_frame_as_a_body_is_a_body(live):
    query = save({"0": torch.zeros(1, 8, 8)})
    body = frame.build({"kind": "raw"}, {"answer": b"all is mine", "prediction": query})
    for model in MODELS:
        assert "cannot identify image" in refused(live.post(model, body), 400)


@pytest.mark.parametrize("header", ["explain", "describe", "is_cached", "url_path", "stream"])
def test_headers_that_mean_something_to_torchserve_do_what_they_do_there(live, header):
    for value in ("True", "false", ""):
        plain = live.post("plain", png(2), headers={header: value})
        reply = live.post("tiny", png(2), headers={header: value})
        assert (reply.status_code == 200) == (plain.status_code == 200), (reply.text, plain.text)
        if plain.status_code == 200:
            assert reply.content == plain.content
        else:
            assert reply.json()["message"]


# ------------------------------------------------------------------------------- broken bodies


def picture(mode, size):
    with io.BytesIO() as file:
        Image.new(mode, size, 1).save(file, "PNG")
        return file.getvalue()


def bomb():
    """A PNG that claims to be 60,000 pixels wide and high."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    ihdr = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def blob(dtype, shape):
    return save({"0": torch.zeros(shape, dtype=getattr(torch, dtype))})


def cut(body):
    return st.integers(0, len(body) - 1).map(lambda n: body[:n])


FRAME = frame.build({"kind": "raw"}, {"answer": b"x" * 40, "prediction": blob("float32", (10,))})
BROKEN = st.one_of(
    st.binary(max_size=600),
    st.binary(max_size=200).map(lambda tail: b"AXF1" + tail),
    st.binary(max_size=100).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail),
    cut(FRAME),
    cut(png(1)[:40]),
    st.sampled_from(["float16", "float64", "int64", "bool", "bfloat16"]).flatmap(
        lambda dtype: st.lists(st.integers(0, 5), max_size=4).map(lambda s: blob(dtype, s))
    ),
    cut(blob("float32", (8, 8))),
)


@settings(few, max_examples=30)
@given(body=BROKEN, model=st.sampled_from(MODELS))
def test_broken_bodies_are_refused_with_a_reason(live, body, model):
    # An empty body is no parameter at all, which the user's handler answers as it does plainly.
    refused(live.post(model, body), 400, *([503] if not body else []))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "body", [picture("L", (9, 9)), picture("RGB", (1, 1)), bomb()], ids=["9x9", "1x1", "bomb"]
)
def test_pictures_of_another_shape_are_refused(live, model, body):
    refused(live.post(model, body), 400)


@pytest.mark.parametrize("model", ["tiny", "classic"])
def test_a_hundred_megabytes_are_refused_with_413_at_the_door(live, model):
    start = time.monotonic()
    size = 100_000_000
    with door(live) as wire:
        token = live.http.headers["Authorization"]
        wire.sendall(
            f"POST /predictions/{model} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
            f"Content-Length: {size}\r\n\r\n".encode()
        )
        sender = threading.Thread(target=pour, args=(wire, size), daemon=True)
        sender.start()
        assert wire.recv(4096).startswith(b"HTTP/1.1 413 Request Entity Too Large")
        sender.join(20)
    assert time.monotonic() - start < 20


def pour(wire, size):
    piece = bytes(1_000_000)
    try:
        for _ in range(size // len(piece)):
            wire.sendall(piece)
    except OSError:
        pass  # the server has hung up: it need not read what it refused


def door(live):
    return socket.create_connection((live.server.options.host, live.server.ports.inference), 20)


# ------------------------------------------------------------------- numbers that are none


@pytest.fixture(scope="module")
def vectors(live, store):
    """Two models that take numbers: a systematic one that reconstructs, and a fully coded one."""
    code = {"name": "approxifer", "queries": 2, "stragglers": 1}
    names = {"vectors": True, "coded-vectors": False}
    for name, systematic in names.items():
        wrap_archive(
            None,
            export_path=store,
            model_name=name,
            handler=str(VECTORS),
            settings={"minWorkers": 2, "maxWorkers": 2, "batchSize": 4},
            approxifer={
                "code": {**code, "systematic": systematic},
                "policy": {
                    "on_late": ["hedge", "reconstruct"],
                    "min_degraded_accuracy": 0,
                    "late_after_ms": 500,
                    "group_delay_ms": 50,
                    "deadline_ms": 20_000,
                },
            },
        )
        live.cluster.register(f"{name}.mar")
    yield tuple(names)
    for name in names:
        live.cluster.unregister(name)


def numbers(live, model, *values):
    """Posts vectors at the same time, so that they share groups."""
    with ThreadPoolExecutor(len(values)) as pool:
        bodies = [json.dumps({"x": value}) for value in values]
        return list(pool.map(lambda body: live.post(model, body, headers=JSON), bodies))


@settings(few, max_examples=8)
@given(
    bad=st.lists(
        st.sampled_from([math.nan, math.inf, -math.inf, 1e39, 1.0]), min_size=2, max_size=2
    ),
    good=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
)
def test_nan_and_infinity_stay_with_the_client_who_sent_them(live, vectors, bad, good):
    for model in vectors:
        _, fine = numbers(live, model, bad, good)
        assert fine.status_code == 200, fine.text
        if fine.headers["x-approxifer-outcome"] != "reconstructed":
            assert fine.json() == {"scores": [2.0 * x for x in good], "sum": float(sum(good))}
        else:
            assert all(math.isfinite(x) for x in fine.json()["scores"])
        live.quiet(model)


@pytest.mark.parametrize(
    "bad", [["a"], [], [[1, 2]], None, {}, [1] * 3, [1] * 100_000, "1", [None], [True, False]]
)
def test_numbers_of_another_type_or_shape_stay_with_their_client(live, vectors, bad):
    for model in vectors:
        _, fine = numbers(live, model, bad, [1, 2])
        assert fine.status_code == 200, fine.text
        state = live.quiet(model)
        assert state["counters"]["worker_deaths"] == 0


# ------------------------------------------------------------------------ floods and bad HTTP


def answer_to(live, raw):
    found = b""
    with door(live) as wire:
        try:
            wire.sendall(raw)
            wire.shutdown(socket.SHUT_WR)
            while piece := wire.recv(65_536):
                found += piece
        except OSError:
            pass  # hung up on us
    return found


@pytest.mark.parametrize(
    "flood",
    [
        "X-A: b\r\n" * 5_000,
        f"X-Long: {'y' * 1_000_000}\r\n",
        f"{'n' * 100_000}: v\r\n",
        "X-Approxifer-Job: v1 0 {}\r\n" * 2_000,
    ],
    ids=["many", "long value", "long name", "forged"],
)
def test_header_floods_are_refused(live, flood):
    token = live.http.headers["Authorization"]
    raw = f"POST /predictions/tiny HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{flood}\r\n"
    found = answer_to(live, raw.encode())
    assert found == b"" or re.match(rb"HTTP/1.1 4\d\d ", found), found[:200]


def test_as_many_headers_as_fit_reach_nobody_else(live):
    flood = {f"X-Approxifer-{i}": "v" for i in range(150)} | {f"x-{i}": "v" for i in range(150)}
    reply = live.post("tiny", png(9), headers=flood)
    assert reply.status_code == 200
    assert reply.json() == expected(9)
    assert "x-approxifer-1" not in reply.headers


@few
@given(noise=st.binary(min_size=1, max_size=400))
def test_noise_on_the_socket(live, noise):
    found = answer_to(live, noise + b"\r\n\r\n")
    assert not found.startswith(b"HTTP/1.1 2")


def test_a_client_that_never_finishes_its_request_holds_nobody_up(live):
    slow = []
    for _ in range(40):
        wire = door(live)
        wire.sendall(b"POST /predictions/tiny HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        slow.append(wire)
    try:
        start = time.perf_counter()
        assert live.post("tiny", png(3)).json() == expected(3)
        assert time.perf_counter() - start < 2
    finally:
        for wire in slow:
            wire.close()


# --------------------------------------------------------------------- JSON, KServe, multipart

NESTED = "[" * 50_000
KSERVE = {
    "cut": '{"instances": [{"data": "aGVs',
    "number": "7",
    "null": "null",
    "list": '[{"data": 1}]',
    "no list": '{"instances": 7}',
    "empty": '{"instances": []}',
    "of numbers": '{"instances": [1, 2]}',
    "of null": '{"instances": [null]}',
    "bad base64": '{"instances": [{"data": "%%%"}]}',
    "nested": NESTED,
    "nested inside": '{"instances": ' + NESTED,
    "closed nest": '{"instances": ' + "[" * 5_000 + "]" * 5_000 + "}",
    "huge number": '{"instances": [{"data": 1e999999}]}',
    "no text": b'{"instances": [{"data": "\xff\xfe"}]}',
    "v2 no data": '{"inputs": [{"name": "a", "shape": [1], "datatype": "BYTES"}]}',
    "v2 bad type": '{"inputs": [{"name": "a", "shape": [1], "datatype": 7, "data": [1]}]}',
    "v2 no shape": '{"inputs": [{"name": 1, "datatype": "FP32", "data": ["x"]}]}',
    "v2 no list": '{"inputs": {"name": "a"}}',
}


@pytest.mark.parametrize("name", KSERVE)
@pytest.mark.parametrize("model", MODELS)
def test_broken_kserve_bodies_are_refused(live, model, name):
    for path in ("/v1/models/{}:predict", "/v2/models/{}/infer"):
        reply = live.post(model, KSERVE[name], path, headers=JSON)
        refused(reply, 400, 503)


def test_broken_kserve_bodies_do_not_disturb_others(live, load):
    with load("classic", clients=2, pause=0) as others:
        time.sleep(0.3)
        for name in ("cut", "of null", "bad base64", "closed nest"):
            live.post("classic", KSERVE[name], "/v1/models/{}:predict")
    others.check_all_right()
    assert live.http.post("/v1/models/tiny:predict", json=v1(1)).status_code == 200
    assert live.http.post("/v2/models/tiny/infer", json=v2(1)).status_code == 200


MULTIPART = {
    "nothing": b"",
    "no boundary inside": b"hello",
    "cut": b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\nabc',
    "no name": b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--\r\n",
    "bad headers": b"--b\r\n\x00\xff: \xfe\r\n\r\nabc\r\n--b--\r\n",
    "many parts": b"".join(
        b'--b\r\nContent-Disposition: form-data; name="p%d"\r\n\r\nx\r\n' % i for i in range(2_000)
    )
    + b"--b--\r\n",
}


@pytest.mark.parametrize("name", MULTIPART)
def test_multipart_garbage_is_refused(live, name):
    for kind in ("multipart/form-data; boundary=b", "multipart/form-data"):
        reply = live.post("tiny", MULTIPART[name], headers={"content-type": kind})
        plain = live.post("plain", MULTIPART[name], headers={"content-type": kind})
        # What TorchServe itself cannot read (no name) it refuses with 500 and a reason.
        refused(reply, 400, 503, *([500] if plain.status_code == 500 else []))


# --------------------------------------------------------------------------------------- gRPC


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "inputs", [{}, {"": b""}, {"data": b""}, {"other": b"x"}, {"m0/body": png(1)}, {"coded": b"x"}]
)
def test_grpc_without_its_input(live, model, inputs):
    with pytest.raises(grpc.RpcError) as error:
        live.grpc.predict(model, inputs)
    assert error.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    assert error.value.details()


def test_grpc_without_a_model(live):
    for name in ("", "nobody", "../../etc/passwd", "x" * 10_000):
        with pytest.raises(grpc.RpcError) as error:
            live.grpc.predict(name, png(1))
        assert error.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND)
        assert error.value.details()


# ------------------------------------------------------------------------------ the endpoints


@pytest.mark.parametrize(
    "path", ["/coded/nobody", "/coded/%2e%2e/tiny", "/coded/" + "x" * 2_000, "/coded//tiny"]
)
def test_our_endpoint_with_names_that_are_not_there(live, path):
    assert live.http.get(path).status_code == 404


def test_our_endpoints_take_no_other_methods(live):
    for path in ("/coded", "/coded/tiny"):
        for method in ("POST", "PUT", "DELETE"):
            assert refused(live.http.request(method, path, content=b"x" * 999), 405)


def test_everything_listens_on_loopback(live):
    jvm = psutil.Process(live.server.pid)
    listening = [
        socket_.laddr
        for process in (jvm, *worker_processes(jvm.pid))
        for socket_ in process.net_connections("inet")
        if socket_.status == psutil.CONN_LISTEN
    ]
    ports = live.server.ports
    assert {address.port for address in listening} >= {
        ports.inference, ports.management, ports.metrics, ports.grpc_inference,
        ports.grpc_management,
    }  # fmt: skip
    assert {address.ip.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}
