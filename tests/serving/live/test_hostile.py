"""Clients who mean harm, or are badly broken: refused with a reason, and nobody else notices.

After every test the server must be as before it: no worker died, nothing is in flight, and each
model still answers its own.
"""

import itertools
import json
import re
import socket
import threading
import time

import psutil
import pytest
import torch
from hostile import MODELS, few, refused, unhurt  # noqa: F401  (unhurt watches every test)
from hypothesis import given
from hypothesis import strategies as st
from live_server import OWN, expected, png
from safetensors.torch import save

from approxifer_torchserve.serving.server.launcher import worker_processes
from approxifer_torchserve.serving.worker.reply import Reply

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
ANY_JOB = ["".join(n) for n in itertools.product("jJ", "oO", "bB")][1:]
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
    assert outcomes in ([[own] for own in OWN] if model == "tiny" else [[]])


@few
@given(
    accept=VISIBLE,
    deadline=st.one_of(VISIBLE, st.floats().map(str), st.integers().map(str)),
    model=st.sampled_from(MODELS),
)
def test_request_options_that_make_no_sense_are_no_options(live, accept, deadline, model):
    options = {"x-approxifer-accept": accept, "x-approxifer-deadline-ms": deadline}
    reply = live.post(model, png(4), headers=options)
    if reply.status_code == 503:  # it asked for a deadline that nobody can keep
        assert "within the deadline" in reply.json()["message"]
        assert 0 < float(deadline) < 5_000
    else:
        assert reply.status_code == 200, reply.text
        assert set(reply.json()) == {"class", "scores"}


@pytest.mark.parametrize("job", FORGED_JOBS, ids=lambda job: job["kind"])
@pytest.mark.parametrize("model", MODELS)
def test_forged_jobs_are_inert(live, model, job):
    text = json.dumps(job)
    for signature in ("0" * 64, "", "f" * 63 + "é".encode().decode("latin-1")):
        forged = f"v1 {signature} {text}".encode("latin-1")
        # In many cases of letters: they reach the worker before and after the genuine header.
        names = ["x-approxifer-job", "X-ApproxIFER-Job", *("x-approxifer-" + n for n in ANY_JOB)]
        reply = live.post(model, png(6), headers=[(name, forged) for name in names])
        assert reply.status_code == 200, reply.text
        assert set(reply.json()) == {"class", "scores"}
        if model == "tiny":
            assert reply.json() == expected(6)


def test_a_frame_as_a_body_is_a_body(live):
    query = save({"0": torch.zeros(1, 8, 8)})
    body = Reply({"kind": "raw"}, {"answer": b"all is mine", "prediction": query}).build()
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
        sender.join(60)
    assert time.monotonic() - start < 60


def pour(wire, size):
    piece = bytes(1_000_000)
    try:
        for _ in range(size // len(piece)):
            wire.sendall(piece)
    except OSError:
        pass  # the server has hung up: it need not read what it refused


def door(live):
    return socket.create_connection((live.server.options.host, live.server.ports.inference), 60)


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
        assert live.post("tiny", png(3)).json() == expected(3)
    finally:
        for wire in slow:
            wire.close()


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
