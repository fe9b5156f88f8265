"""Encode, parity, coded and decode jobs, alone and in one batch with clients' requests."""

import json
from types import SimpleNamespace

import pytest
import torch
from serving_harness import JSON, Reply, png, wrapped

from approxifer_torchserve.serving.worker import wire

CLASSIC = {"code": {"name": "approxifer", "queries": 4, "stragglers": 1, "systematic": False}}
SYSTEMATIC = {"code": {"name": "approxifer", "queries": 4, "stragglers": 1, "systematic": True}}


def bodies(count, start=0):
    return {i: png(start + i) for i in range(count)}


def vectors(*xs, do=None):
    return {i: json.dumps({"x": list(x), "do": do}).encode() for i, x in enumerate(xs)}


def user(worker):
    return worker.service._entry_point.__self__.handler


def queries(worker, images):
    handler = user(worker)
    handler.context = SimpleNamespace(get_request_header=lambda i, key: None)
    return handler.preprocess([{"body": body} for body in images])


def test_classic_group_from_encode_to_decode(tmp_path):
    ours, report = wrapped(tmp_path, approxifer=CLASSIC)
    assert (report.mode, report.plan.num_workers) == ("coded", 5)
    code = report.plan.code.make()
    group = bodies(4)
    ((header, coded),) = ours.reply(ours.job("e", "encode", group))
    assert (header["kind"], list(coded)) == ("encode", [f"coded{i}" for i in range(5)])
    expected = code.encode(queries(ours, group.values()))
    for i in range(5):
        torch.testing.assert_close(wire.decode(coded[f"coded{i}"]), expected[i])
    user(ours).calls.clear()
    jobs = [
        ours.signed(str(i), {"kind": "coded", "coded": i}, {"coded": ("", coded[f"coded{i}"])})
        for i in range(5)
    ]
    replies = ours.reply(*jobs)
    assert user(ours).calls == [("inference", 5)]
    blobs = {f"p{i}": s["prediction"] for i, (_, s) in enumerate(replies) if i != 2}
    names = {i: {"x-name": "teapot" if i == 3 else f"client {i}"} for i in group}
    ((header, answers),) = ours.reply(
        ours.job("d", "decode", group, blobs, available=[0, 1, 3, 4], headers=names)
    )
    available = torch.tensor([True, True, False, True, True])
    scores = code.decode(user(ours).model(expected), available)
    assert list(header["answers"]) == ["0", "1", "2", "3"]
    assert header["answers"]["3"] == {
        "section": "answer3",
        "status": 418,
        "phrase": "I am a teapot",
        "contentType": "application/json",
        "headers": {"x-named": "teapot", "content-type": "application/json"},
    }
    for i in group:
        got = json.loads(answers[f"answer{i}"])
        assert got["name"] == names[i]["x-name"]
        torch.testing.assert_close(torch.tensor(got["scores"]), scores[i], rtol=1e-4, atol=1e-4)


def test_encode_names_bad_members_and_goes_on(tmp_path):
    ours, report = wrapped(tmp_path, "vector_handler.py", approxifer=CLASSIC)
    group = vectors((1, 2), (3, 4), (5, 6, 7), (7, 8))
    group[1] = json.dumps({"x": [3, 4], "do": "refuse"}).encode()
    ((header, coded),) = ours.reply(ours.job("e", "encode", group, content_type=JSON))
    assert header["errors"]["1"]["status"] == 400
    assert header["alone"] == [2]
    code = report.plan.code.make()
    filled = torch.tensor([[1.0, 2], [7, 8], [1, 2], [7, 8]])
    torch.testing.assert_close(wire.decode(coded["coded1"]), code.encode(filled)[1])


def test_encode_sends_a_member_of_two_queries_alone(tmp_path):
    ours, _ = wrapped(tmp_path, "vector_handler.py", approxifer=CLASSIC)
    group = {0: json.dumps({"x": [1, 2], "do": "two"}).encode()}
    ((header, coded),) = ours.reply(ours.job("e", "encode", group, content_type=JSON))
    assert (header["alone"], coded) == ([0], {})


def test_integer_queries_cannot_be_coded(tmp_path):
    ours, _ = wrapped(tmp_path, "int_handler.py", approxifer=CLASSIC)
    group = {0: b'{"x": [1, 2]}', 1: b'{"x": [3, 4]}'}
    ((header, coded),) = ours.reply(ours.job("e", "encode", group, content_type=JSON))
    assert (header["alone"], coded) == ([0, 1], {})
    parity = ours.job("p", "parity", group, content_type=JSON, coded=4)
    ((header, _),) = ours.reply(parity)
    assert "not one query of floating tensors" in header["error"]["message"]


@pytest.mark.parametrize("size", [1, 3, 4])
def test_parity_repeats_the_members_of_a_short_group(tmp_path, size):
    ours, report = wrapped(tmp_path, approxifer=SYSTEMATIC)
    code = report.plan.code.make()
    ((_, sections),) = ours.reply(ours.job("p", "parity", bodies(size), coded=4))
    group = queries(ours, [png(p % size) for p in range(4)])
    expected = user(ours).model(code.encode(group)[4:5])[0]
    torch.testing.assert_close(wire.decode(sections["prediction"]), expected)


def test_a_parity_of_bad_members_is_an_error(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=SYSTEMATIC)
    ((header, sections),) = ours.reply(ours.job("p", "parity", {**bodies(3), 3: b"text"}, coded=4))
    assert sections == {}
    assert "member 3: preprocess refused the input" in header["error"]["message"]


def test_coded_queries_have_a_context_of_their_own(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=SYSTEMATIC)
    ours.reply(ours.raw("client", png(1), {"x-name": "eve"}))
    seen = []
    handler = user(ours)
    infer = handler.inference
    handler.inference = lambda data: (seen.append(handler.context.request_ids), infer(data))[1]
    coded = {"coded": ("", wire.encode(torch.zeros(64)))}
    jobs = [ours.signed(i, {"kind": "coded", "coded": 0}, coded) for i in "ab"]
    ours.reply(*jobs)
    assert seen == [{0: "a", 1: "b"}]


def test_a_mixed_batch_takes_one_forward(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=SYSTEMATIC)
    ((_, alone),) = ours.reply(ours.raw("a", png(5), {"x-name": "bob"}))
    user(ours).calls.clear()
    replies = ours.reply(
        ours.raw("a", png(5), {"x-name": "bob"}),
        ours.job("p", "parity", bodies(4), coded=4),
        ours.raw("b", png(6), {"x-name": "eve"}),
        ours.job("q", "parity", bodies(4, start=10), coded=4),
    )
    assert [call for call in user(ours).calls if call[0] == "inference"] == [("inference", 4)]
    assert user(ours).calls[-1] == ("postprocess", 2)
    assert [header["kind"] for header, _ in replies] == ["raw", "parity", "raw", "parity"]
    answer = json.loads(replies[0][1]["answer"])
    expected = json.loads(alone["answer"])
    assert answer["name"] == "bob"
    torch.testing.assert_close(torch.tensor(answer["scores"]), torch.tensor(expected["scores"]))
    assert json.loads(replies[2][1]["answer"])["name"] == "eve"


def test_a_failing_mate_does_not_disturb_a_client(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=SYSTEMATIC)
    odd = wire.encode(torch.zeros(63))
    coded, raw = ours.reply(
        ours.signed("c", {"kind": "coded", "coded": 4}, {"coded": ("", odd)}),
        ours.raw("a", png(5)),
    )
    assert coded[0]["error"]["message"] == "inference failed: RuntimeError"
    assert "answer" in raw[1]


def test_systematic_decode_answers_the_lost_member_only(tmp_path):
    ours, report = wrapped(tmp_path, approxifer=SYSTEMATIC)
    code = report.plan.code.make()
    full = queries(ours, bodies(4).values())
    outputs = user(ours).model(code.encode(full)).detach()
    blobs = {f"p{i}": wire.encode(outputs[i]) for i in (0, 1, 2, 4)}
    member = {3: png(3)}
    ((header, sections),) = ours.reply(
        ours.job("d", "decode", member, blobs, available=[0, 1, 2, 4], size=4)
    )
    assert list(sections) == ["answer3"]
    assert header["answers"]["3"]["status"] == 200
    available = torch.tensor([True, True, True, False, True])
    expected = code.decode(outputs, available)[3]
    got = torch.tensor(json.loads(sections["answer3"])["scores"])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_decode_repeats_predictions_for_a_short_group(tmp_path):
    # Three members: position 3 is member 0 again, so its prediction is known.
    ours, report = wrapped(tmp_path, approxifer=SYSTEMATIC)
    code = report.plan.code.make()
    full = queries(ours, [png(p % 3) for p in range(4)])
    outputs = user(ours).model(code.encode(full)).detach()
    blobs = {f"p{i}": wire.encode(outputs[i]) for i in (0, 1, 4)}
    ((_, sections),) = ours.reply(
        ours.job("d", "decode", {2: png(2)}, blobs, available=[0, 1, 4], size=3)
    )
    expected = code.decode(outputs, torch.tensor([True, True, False, True, True]))[2]
    got = torch.tensor(json.loads(sections["answer2"])["scores"])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_trees_of_predictions_survive_the_wire_and_postprocess(tmp_path):
    ours, _ = wrapped(tmp_path, "vector_handler.py", approxifer=CLASSIC)
    group = vectors((1, 2), (1, 2), (1, 2), (1, 2))
    ((_, coded),) = ours.reply(ours.job("e", "encode", group, content_type=JSON))
    jobs = [
        ours.signed(str(i), {"kind": "coded", "coded": i}, {"coded": ("", coded[f"coded{i}"])})
        for i in range(5)
    ]
    ours.reply(ours.raw("r", group[0], kind=JSON))
    user(ours).todo = []
    blobs = {f"p{i}": s["prediction"] for i, (_, s) in enumerate(ours.reply(*jobs))}
    ((_, answers),) = ours.reply(
        ours.job("d", "decode", group, blobs, available=[0, 1, 2, 3, 4], content_type=JSON)
    )
    for i in range(4):
        got = json.loads(answers[f"answer{i}"])
        assert got["scores"] == pytest.approx([2, 4], abs=1e-5)
        assert got["sum"] == pytest.approx(3, abs=1e-5)


def test_decode_reports_members_that_fail_and_answers_the_others(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=CLASSIC)
    blobs = {f"p{i}": wire.encode(torch.ones(5)) for i in range(5)}
    ((header, sections),) = ours.reply(
        ours.job("d", "decode", {0: png(0), 1: b"text"}, blobs, available=list(range(5)))
    )
    assert list(sections) == ["answer0"]
    assert header["answers"]["0"]["section"] == "answer0"
    assert header["answers"]["1"]["error"]["status"] == 400


def test_a_reconstructed_answer_is_given_to_postprocess_where_inference_leaves_its_own(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=CLASSIC)
    handler = user(ours)
    handler.device = torch.device("meta")
    model, post, seen = handler.model, handler.postprocess, []
    handler.inference = lambda data: model(data).detach().cpu()
    handler.postprocess = lambda data: (seen.append(data.device.type), post(data))[1]
    ours.reply(ours.raw("a", png(1)))
    blobs = {f"p{i}": wire.encode(torch.ones(5)) for i in range(5)}
    ours.reply(ours.job("d", "decode", {0: png(0)}, blobs, available=list(range(5))))
    assert seen == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p0": b"junk"}, "prediction 0: not a safetensors blob"),
        ({"p1": wire.encode(torch.ones(6))}, "predictions differ"),
        ({"p1": None}, "parameter p1 did not come"),
    ],
)
def test_broken_predictions_are_errors(tmp_path, change, said):
    ours, _ = wrapped(tmp_path, approxifer=CLASSIC)
    blobs = {f"p{i}": wire.encode(torch.ones(5)) for i in range(5)}
    blobs.update(change)
    blobs = {name: blob for name, blob in blobs.items() if blob is not None}
    ((header, _), (_, raw)) = ours.reply(
        ours.job("d", "decode", {0: png(0)}, blobs, available=list(range(5))),
        ours.raw("a", png(1)),
    )
    assert said in header["error"]["message"]
    assert "answer" in raw


def test_too_few_predictions_do_not_recover(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=SYSTEMATIC)
    blobs = {"p0": wire.encode(torch.ones(5)), "p4": wire.encode(torch.ones(5))}
    ((header, _),) = ours.reply(
        ours.job("d", "decode", {1: png(0)}, blobs, available=[0, 4], size=4)
    )
    assert "do not recover" in header["error"]["message"]


def test_nan_of_a_coded_query_is_an_erasure(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=SYSTEMATIC)
    blob = wire.encode(torch.full((64,), float("nan")))
    job = ours.signed("c", {"kind": "coded", "coded": 4}, {"coded": ("", blob)})
    ((header, sections),) = ours.reply(job)
    assert (header["erasure"], sections) == ("prediction holds NaN or Inf", {})


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"kind": "dance"}, "job.kind"),
        ({"kind": "coded", "coded": 5}, "job.coded: expected below 5, got 5"),
        ({"kind": "decode", "size": 9}, "job.size: expected 1..4, got 9"),
        ({"kind": "encode", "size": 1, "members": []}, "job.members"),
        (
            {"kind": "parity", "size": 1, "members": [{"index": 0, "parameters": ["body"]}]},
            "parameter m0/body did not come",
        ),
    ],
)
def test_a_job_that_cannot_be_understood_says_why(tmp_path, job, said):
    ours, _ = wrapped(tmp_path, approxifer=SYSTEMATIC)
    ((header, _),) = ours.reply(ours.signed("x", job, {}))
    assert said in header["error"]["message"]


def test_handlers_that_cannot_be_coded_refuse_group_jobs(tmp_path):
    ours, _ = wrapped(tmp_path, "whole_handler.py", approxifer=SYSTEMATIC)
    ((header, _),) = ours.reply(ours.job("e", "encode", bodies(4)))
    assert "cannot be coded" in header["error"]["message"]


def test_lists_are_no_batches_even_when_their_lengths_agree(tmp_path):
    ours, _ = wrapped(tmp_path, "list_handler.py", approxifer=SYSTEMATIC)
    texts = [b"1", b"2", b"3"]
    parity = ours.job("p", "parity", dict(enumerate(texts)), content_type="text/plain", coded=4)
    *raw, (header, _) = ours.reply(
        *(ours.raw(str(i), text, kind="text/plain") for i, text in enumerate(texts)), parity
    )
    assert [json.loads(s["answer"]) for _, s in raw] == [[4.0] * 3, [8.0] * 3, [12.0] * 3]
    assert [list(s) for _, s in raw] == [["answer"]] * 3
    assert "member 0 is not one query" in header["error"]["message"]


def test_replication_serves_raw_jobs_only(tmp_path):
    code = {"code": {"name": "replication", "queries": 4, "stragglers": 1}}
    ours, report = wrapped(tmp_path, approxifer=code)
    assert (report.mode, report.plan.copies) == ("replicated", 2)
    _, _, (reply,) = ours.send(ours.raw("a", png(1)))
    assert "answer" in Reply.parse(reply.body)[1]
