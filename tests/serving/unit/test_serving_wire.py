"""Frames, job keys and safetensors blobs: round trips, and whatever else may come."""

import contextlib
import json
import os
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from approxifer_torchserve.serving.worker import wire
from approxifer_torchserve.serving.worker.payloads import JobKey, sign
from approxifer_torchserve.serving.worker.reply import MalformedReplyError, Reply, build_answer
from approxifer_torchserve.serving.worker.wire import WireError

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
tensors = st.builds(
    lambda shape, dtype: (
        torch.arange(max(1, torch.Size(shape).numel()))[: torch.Size(shape).numel()]
        .reshape(shape)
        .to(dtype)
    ),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from(DTYPES),
)
tree = st.recursive(
    tensors,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)
sections = st.dictionaries(st.text(max_size=8), st.binary(max_size=64), max_size=4)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, tuple):
        return type(b) is tuple and len(a) == len(b) and all(map(same, a, b))
    return list(a) == list(b) and all(same(a[k], b[k]) for k in a)


@given(tree)
def test_trees_survive_the_wire(value):
    assert same(value, wire.decode(wire.encode(value)))


@given(tree, st.data())
def test_a_blob_with_a_byte_changed_or_missing_is_a_tree_or_an_error(value, data):
    blob = bytearray(wire.encode(value))
    cut = data.draw(st.integers(0, len(blob) - 1))
    with pytest.raises(WireError):
        wire.decode(blob[:cut])
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(WireError):
        wire.decode(blob)


@given(st.binary(max_size=200))
def test_garbage_is_no_blob(blob):
    with pytest.raises(WireError):
        wire.decode(blob)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(2, dtype=torch.int64), "floating"),
        (torch.zeros(2, dtype=torch.complex64), "floating"),
        ([torch.zeros(2)], "tuple or dict"),
        ((), "tuple or dict"),
        ({1: torch.zeros(2)}, "tuple or dict"),
        (tuple(torch.zeros(1) for _ in range(65)), "64 tensors"),
        (torch.zeros([1] * 17), "16 dimensions"),
        (torch.zeros(1).expand(1 << 27), "bytes of tensors"),
    ],
)
def test_what_may_not_be_sent(value, said):
    with pytest.raises(WireError, match=said):
        wire.encode(value)


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        ("0", "names tensors"),
        ("[0,0]", "twice"),
        ("[0,true]", "names tensor True"),
        ('"0"', "names tensor '0'"),
        ("[0,2]", "names tensor 2"),
        ("[" * 9 + "0,1" + "]" * 9, "8 deep"),
        ("[" * 100000, "not a safetensors blob"),
        ("nope", "not a safetensors blob"),
    ],
)
def test_structures_that_do_not_fit_their_tensors(structure, said):
    named = {"0": torch.zeros(2), "1": torch.zeros(2)}
    with pytest.raises(WireError, match=said):
        wire.decode(safetensors.torch.save(named, metadata={"tree": structure}))


def test_a_blob_of_integers_is_refused_on_arrival():
    blob = safetensors.torch.save({"0": torch.zeros(2, dtype=torch.int8)}, metadata={"tree": "0"})
    with pytest.raises(WireError, match="floating"):
        wire.decode(blob)
    with pytest.raises(WireError, match="expected bytes"):
        wire.decode({"json": 1})


def test_the_frame_of_the_protocol_byte_for_byte():
    body = Reply({"kind": "raw"}, {"answer": b"abc", "prediction": b"\x00"}).build()
    text = b'{"kind":"raw","sections":[["answer",3],["prediction",1]]}'
    assert body == b"AXF1" + struct.pack(">I", len(text)) + text + b"abc\x00"


@given(st.binary(max_size=200))
def test_the_usual_reply_is_the_frame_that_any_other_way_would_build(answer):
    assert build_answer(answer) == Reply({"kind": "raw"}, {"answer": answer}).build()


@given(sections)
def test_frames_survive(parts):
    header, got = Reply.parse(Reply({"kind": "raw", "queries": 2}, parts).build())
    assert got == parts
    assert (header["kind"], header["queries"]) == ("raw", 2)


@given(sections, st.data())
def test_a_truncated_or_longer_frame_is_an_error(parts, data):
    body = Reply({"kind": "raw"}, parts).build()
    with pytest.raises(MalformedReplyError):
        Reply.parse(body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(MalformedReplyError):
        Reply.parse(body + b"x")


@given(st.binary(max_size=100))
def test_garbage_is_no_frame(body):
    with pytest.raises(MalformedReplyError):
        Reply.parse(body)
    with pytest.raises(MalformedReplyError):
        Reply.parse(b"AXF1" + struct.pack(">I", len(body)) + body)


@pytest.mark.parametrize(
    "listed", [[["a", -1]], [["a", True]], [["a", 1.0]], [["a", 0], ["a", 0]], [["a"]], 3]
)
def test_section_lists_that_make_no_sense(listed):
    text = json.dumps({"sections": listed}).encode()
    with pytest.raises(MalformedReplyError):
        Reply.parse(b"AXF1" + struct.pack(">I", len(text)) + text)


def test_the_signature_is_hmac_sha256_of_id_and_json():
    # By openssl: printf 'r1\n{"kind":"raw"}' | openssl dgst -sha256 -hmac <64 times 'a'>
    import hashlib
    import hmac

    key = "a" * 64
    expected = hmac.new(key.encode(), b'r1\n{"kind":"raw"}', hashlib.sha256).hexdigest()
    assert sign(key, "r1", '{"kind":"raw"}') == expected


@settings(max_examples=300)
@given(st.text(max_size=80))
def test_no_header_opens_without_the_key(tmp_path_factory, header):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "approxifer-1.key"
    path.write_text("b" * 64)
    key = JobKey(folder, [1])
    assert key.open("r", header) is None
    assert key.open("r", f"v1 {'0' * 64} {header}") is None


def test_a_genuine_header_opens_for_its_request_only(tmp_path):
    (tmp_path / f"approxifer-{os.getppid()}.key").write_text("c" * 64 + "\n")
    key = JobKey(tmp_path, [os.getppid()])
    text = '{"kind":"raw","note":"é"}'
    header = f"v1 {sign('c' * 64, 'r', text)} {text}"
    assert key.open("r", header) == {"kind": "raw", "note": "é"}
    assert key.open("s", header) is None
    assert key.open("r", header.replace("raw", "war")) is None
    for usual in ('{"kind":"raw","want":false}', '{"kind":"raw","want":true}'):
        genuine = f"v1 {sign('c' * 64, 'r', usual)} {usual}"
        assert key.open("r", genuine) == json.loads(usual)
        assert key.open("s", genuine) is None
    listed = "[1]"
    assert key.open("r", f"v1 {sign('c' * 64, 'r', listed)} {listed}") is None
    broken = "{"
    assert key.open("r", f"v1 {sign('c' * 64, 'r', broken)} {broken}") is None


def test_the_key_may_be_any_ancestors(tmp_path):
    stale, good = "a" * 64, "b" * 64
    (tmp_path / "approxifer-8.key").write_text(stale)  # of an earlier server's process
    (tmp_path / "approxifer-7.key").write_text(good)
    key = JobKey(tmp_path, [9, 8, 7, 1])
    text = '{"kind":"raw"}'
    for _ in range(2):
        assert key.open("r", f"v1 {sign(good, 'r', text)} {text}") == {"kind": "raw"}
    assert key.open("r", f"v1 {sign('c' * 64, 'r', text)} {text}") is None
    fresh = "d" * 64
    (tmp_path / "approxifer-7.key").write_text(fresh)
    assert key.open("r", f"v1 {sign(fresh, 'r', text)} {text}") == {"kind": "raw"}
