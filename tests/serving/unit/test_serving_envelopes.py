"""KServe requests, with the server's envelope and without."""

import json

import pytest
from serving_harness import JSON, Reply, messages, plain, wrapped

KSERVE = {"explain": "False"}
V1 = json.dumps({"instances": [{"data": [[1, 2] * 32]}, {"data": [[3, 4] * 32]}]}).encode()
V1_ONE = json.dumps({"instances": [{"data": [[1, 2] * 32]}]}).encode()
V2 = json.dumps(
    {
        "id": "my-id",
        "inputs": [
            {"name": f"in{i}", "shape": [1, 64], "datatype": "FP32", "data": [float(i)] * 64}
            for i in range(2)
        ],
    }
).encode()

AUTO = {"approxifer": {"envelope": "auto"}}


@pytest.mark.parametrize(
    ("envelope", "body"), [("kserve", V1), ("kserve", V1_ONE), ("kservev2", V2)]
)
@pytest.mark.parametrize("configured", [True, False])
def test_answers_equal_plain_torchserve_with_the_envelope(tmp_path, envelope, body, configured):
    theirs = plain(tmp_path, envelope=envelope)
    ours, _ = wrapped(tmp_path, envelope=envelope) if configured else wrapped(tmp_path, **AUTO)
    _, _, (expected,) = theirs.send(messages.request("a", {"body": (JSON, body)}, KSERVE))
    _, _, (reply,) = ours.send(ours.raw("a", body, KSERVE, kind=JSON))
    header, sections = Reply.parse(reply.body)
    assert sections["answer"] == expected.body
    assert reply.status == expected.status == 200
    if body is V1_ONE:
        assert ("queries" in header, "prediction" in sections) == (False, True)
    else:
        assert (header["queries"], "prediction" in sections) == (2, False)


def test_bodies_that_torchserve_did_not_decode_are_read_too(tmp_path):
    ours, _ = wrapped(tmp_path, **AUTO)
    ((_, sections),) = ours.reply(ours.raw("a", b"  " + V1, KSERVE))
    assert len(json.loads(sections["answer"])["predictions"]) == 2


def test_envelopes_of_one_batch_do_not_mix(tmp_path):
    ours, _ = wrapped(tmp_path, **AUTO)
    single = {}
    for name, body in (("one", V1), ("two", V2), ("three", V1_ONE)):
        ((_, sections),) = ours.reply(ours.raw(name, body, KSERVE, kind=JSON))
        single[name] = json.loads(sections["answer"])
    user = ours.service._entry_point.__self__.handler
    user.calls.clear()
    replies = ours.reply(
        ours.raw("one", V1, KSERVE, kind=JSON),
        ours.raw("bad", b'{"instances": 7}', KSERVE, kind=JSON),
        ours.raw("two", V2, KSERVE, kind=JSON),
        ours.raw("three", V1_ONE, KSERVE, kind=JSON),
    )
    assert user.calls == [("preprocess", 5), ("inference", 5), ("postprocess", 5)]
    assert replies[1][0]["error"] == {
        "status": 400,
        "message": "KServeEnvelope refused the input: expected a list, got int",
    }
    del replies[1]
    for (name, expected), (_, sections) in zip(single.items(), replies, strict=True):
        got = json.loads(sections["answer"])
        assert list(got) == list(expected), name
        if name == "two":
            assert got["id"] == "my-id"
            assert [o["name"] for o in got["outputs"]] == ["in0", "in1"]
        else:
            scores = [json.loads(p)["scores"] for p in got["predictions"]]
            wanted = [json.loads(p)["scores"] for p in expected["predictions"]]
            assert [s == pytest.approx(w, rel=1e-5) for s, w in zip(scores, wanted, strict=True)]


def test_v2_without_id_answers_with_the_requests_own(tmp_path):
    body = json.loads(V2)
    del body["id"]
    ours, _ = wrapped(tmp_path, **AUTO)
    replies = ours.reply(
        *(ours.raw(i, json.dumps(body).encode(), KSERVE, kind=JSON) for i in ("r1", "r2"))
    )
    assert [json.loads(s["answer"])["id"] for _, s in replies] == ["r1", "r2"]


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        ({"explain": "False", "url_path": ""}, AUTO),
        ({}, AUTO),
        (KSERVE, {}),
    ],
    ids=["/predictions", "gRPC", "KServe, but nobody asked for it"],
)
def test_other_urls_are_left_to_the_users_handler(tmp_path, headers, options):
    ours, _ = wrapped(tmp_path, **options)
    body = json.dumps({"instances": 1, "data": 2}).encode()
    ((header, _),) = ours.reply(ours.raw("a", body, headers, kind=JSON))
    assert "KServe" not in json.dumps(header)
    assert header["error"]["status"] == 400


def test_an_explanation_by_kserve_url(tmp_path):
    ours, _ = wrapped(tmp_path, **AUTO)
    user = ours.service._entry_point.__self__.handler
    user.get_insights = lambda inputs, _, target: [inputs.shape[0]]
    ((header, sections),) = ours.reply(ours.raw("a", V1, {"explain": "True"}, kind=JSON))
    assert json.loads(sections["answer"]) == {"explanations": [2]}
    assert "error" not in header


def test_members_of_a_group_may_come_by_kserve(tmp_path):
    code = {**AUTO["approxifer"], "code": {"queries": 2, "stragglers": 1, "systematic": False}}
    ours, _ = wrapped(tmp_path, approxifer=code)
    members = {0: V1_ONE, 1: V1}
    headers = {0: KSERVE, 1: KSERVE}
    ((header, coded),) = ours.reply(
        ours.job("e", "encode", members, headers=headers, content_type=JSON)
    )
    assert header["alone"] == [1]
    assert len(coded) == 3
    jobs = [
        ours.signed(str(i), {"kind": "coded", "coded": i}, {"coded": ("", coded[f"coded{i}"])})
        for i in range(3)
    ]
    blobs = {f"p{i}": s["prediction"] for i, (_, s) in enumerate(ours.reply(*jobs))}
    decode = ours.job(
        "d", "decode", {0: V1_ONE}, blobs, headers=headers, content_type=JSON, available=[0, 1, 2]
    )
    ((_, sections),) = ours.reply(decode)
    assert len(json.loads(sections["answer0"])["predictions"]) == 1


def test_without_jobs_the_servers_envelope_is_as_plain(tmp_path):
    theirs = plain(tmp_path, envelope="kserve")
    ours, _ = wrapped(tmp_path, envelope="kserve")
    one = messages.request("a", {"body": (JSON, V1)}, KSERVE)
    two = messages.request("b", {"body": (JSON, V1)}, KSERVE)
    assert ours.send(one) == theirs.send(one)
    assert ours.send(one, two) == theirs.send(one, two)
