"""Bodies that are broken or mean harm, by every way in: refused with a reason, nobody else hurt."""

import io
import json
import math
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import torch
from hostile import JSON, MODELS, VECTORS, few, refused, unhurt  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from live_server import png, v1, v2
from PIL import Image
from safetensors.torch import save

from approxifer_torchserve.serving.archive.wrap import Options, Parts, wrap_archive
from approxifer_torchserve.serving.worker.reply import Reply

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


FRAME = Reply({"kind": "raw"}, {"answer": b"x" * 40, "prediction": blob("float32", (10,))}).build()
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


# ------------------------------------------------------------------- numbers that are none


@pytest.fixture(scope="module")
def vectors(live, store):
    """Two models that take numbers: a systematic one that reconstructs, and a fully coded one."""
    code = {"name": "approxifer", "queries": 2, "stragglers": 1}
    names = {"vectors": True, "coded-vectors": False}
    for name, systematic in names.items():
        options = Options(
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
        wrap_archive(Parts(model_name=name, handler=str(VECTORS)), options, export_path=store)
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
        others.wait_for(4)
        for name in ("cut", "of null", "bad base64", "closed nest"):
            live.post("classic", KSERVE[name], "/v1/models/{}:predict")
        others.turn_over()
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


def test_grpc_with_too_much_input(live):
    with pytest.raises(grpc.RpcError) as error:
        live.grpc.predict("tiny", bytes(70_000_000))
    assert error.value.code() in (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,  # the server hung up while we still sent
    )


def test_grpc_without_a_model(live):
    for name in ("", "nobody", "../../etc/passwd", "x" * 1_000):
        with pytest.raises(grpc.RpcError) as error:
            live.grpc.predict(name, png(1))
        assert error.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND)
        assert error.value.details()
