"""One client's bad request, or one row's fault, stays that client's."""

import json

import pytest
from serving_harness import JSON, Reply, png, wrapped


def vector(worker, request_id, do=None, x=(1, 2), **options):
    body = json.dumps({"x": list(x), "do": do}).encode()
    return worker.raw(request_id, body, kind=JSON, **options)


def test_a_text_file_as_image_gets_a_reason_and_nothing_of_this_machine(tmp_path):
    ours, _ = wrapped(tmp_path)
    headers = [{"x-name": name} for name in "abc"]
    alone = [ours.reply(ours.raw(str(i), png(i), headers[i]))[0][1] for i in (0, 2)]
    first, bad, last = ours.reply(
        ours.raw("0", png(0), headers[0]),
        ours.raw("1", b"just text", headers[1]),
        ours.raw("2", png(2), headers[2]),
    )
    assert bad == (
        {
            "kind": "raw",
            "error": {
                "status": 400,
                "message": "preprocess refused the input: UnidentifiedImageError: "
                "cannot identify image file",
            },
            "sections": [],
        },
        {},
    )
    for (_, sections), expected in zip((first, last), alone, strict=True):
        assert json.loads(sections["answer"])["name"] == json.loads(expected["answer"])["name"]
    user = ours.service._entry_point.__self__.handler
    assert user.calls[-2:] == [("inference", 2), ("postprocess", 2)]


@pytest.mark.parametrize(
    ("do", "status", "message"),
    [
        ("name", 503, "Prediction failed"),
        ("refuse", 400, "preprocess refused the input: ValueError: bad value in for"),
        ("own", 422, "my own words"),
        ("memory", 507, "Out of resources"),
        ("cuda", 507, "Out of resources"),
        ("inference", 503, "Prediction failed"),
        ("short", 503, "number of batch response mismatched"),
        ("object", 503, "Unsupported model output data type."),
    ],
)
def test_faults_are_worded_as_torchserve_words_them(tmp_path, do, status, message):
    ours, _ = wrapped(tmp_path, "vector_handler.py")
    good, bad, fine = ours.reply(
        vector(ours, "a"), vector(ours, "b", do), vector(ours, "c", x=(3, 4))
    )
    assert bad[0]["error"] == {"status": status, "message": message}
    assert json.loads(good[1]["answer"]) == {"scores": [2, 4], "sum": 3}
    assert json.loads(fine[1]["answer"]) == {"scores": [6, 8], "sum": 7}
    ((header, _),) = ours.reply(vector(ours, "b", do))
    assert header["error"] == {"status": status, "message": message}


def test_a_handler_that_is_not_idempotent_is_not_run_twice(tmp_path):
    policy = {"policy": {"idempotent": False}}
    ours, _ = wrapped(tmp_path, "vector_handler.py", approxifer=policy)
    replies = ours.reply(vector(ours, "a"), vector(ours, "b", "inference"))
    assert [header["error"]["status"] for header, _ in replies] == [503, 503]
    user = ours.service._entry_point.__self__.handler
    assert user.calls == [("preprocess", 2), ("inference", 2)]
    replies = ours.reply(vector(ours, "a"), vector(ours, "b", "refuse"))
    assert "error" not in replies[0][0]


def test_images_of_two_sizes_are_answered_one_by_one(tmp_path):
    ours, _ = wrapped(tmp_path, "vector_handler.py")
    replies = ours.reply(vector(ours, "a"), vector(ours, "b", x=(1, 2, 3)))
    assert [json.loads(s["answer"])["sum"] for _, s in replies] == [3, 6]


def test_status_and_headers_of_a_row_go_out_with_that_row(tmp_path):
    ours, _ = wrapped(tmp_path)
    _, _, replies = ours.send(
        ours.raw("a", png(1), {"x-name": "teapot"}),
        ours.raw("b", b"text", {"x-name": "teapot"}),
        ours.raw("c", png(2), {"x-name": "good"}),
    )
    assert [(r.status, r.phrase) for r in replies] == [(418, "I am a teapot"), (200, ""), (200, "")]
    assert [r.headers.get("x-named") for r in replies] == ["teapot", None, "good"]


def test_a_row_that_breaks_postprocess_fails_alone(tmp_path):
    ours, _ = wrapped(tmp_path)
    _, _, replies = ours.send(
        ours.raw("a", png(1), {"x-name": "teapot"}),
        ours.raw("b", png(2), {"x-name": "crash"}),
    )
    headers = [Reply.parse(reply.body)[0] for reply in replies]
    assert "error" not in headers[0]
    assert headers[1]["error"] == {"status": 503, "message": "Prediction failed"}
    assert [reply.status for reply in replies] == [418, 200]


def test_a_whole_handler_fails_only_the_culprit(tmp_path):
    ours, report = wrapped(tmp_path, "whole_handler.py")
    assert report.mode == "uncoded"
    replies = ours.reply(*(ours.raw(w, w.encode(), kind="text/plain") for w in ("a", "bad", "c")))
    assert [h.get("error", {}).get("status") for h, _ in replies] == [None, 503, None]
    assert ours.service._entry_point.__self__.handler.batches == [3, 1, 1, 1]


def test_nan_is_an_erasure_and_still_an_answer(tmp_path):
    ours, _ = wrapped(tmp_path, "vector_handler.py")
    good, bad = ours.reply(vector(ours, "a"), vector(ours, "b", "exotic"))
    assert list(good[1]) == ["answer", "prediction"]
    assert bad[0]["erasure"] == "prediction holds NaN or Inf"
    assert list(bad[1]) == ["answer"]
    assert b"NaN" in bad[1]["answer"]


def test_predictions_travel_only_when_wanted(tmp_path):
    ours, _ = wrapped(tmp_path)
    ((_, sections),) = ours.reply(ours.raw("a", png(1), want=False))
    assert list(sections) == ["answer"]


def test_a_request_of_several_queries_says_so(tmp_path):
    ours, _ = wrapped(tmp_path, "vector_handler.py")
    ((header, sections),) = ours.reply(vector(ours, "a", "two"))
    assert header["queries"] == 2
    assert list(sections) == ["answer"]
    assert json.loads(sections["answer"]) == [[2, 4], [2, 4]]


def test_explain_and_describe_go_through_the_users_handle_alone(tmp_path):
    ours, _ = wrapped(tmp_path)
    user = ours.service._entry_point.__self__.handler
    user.get_insights = lambda inputs, _, target: [inputs.shape[0]]
    user.describe_handle = lambda: {"who": "me"}
    replies = ours.reply(
        ours.raw("a", png(1)),
        ours.raw("b", png(2), {"explain": "True"}),
        ours.raw("c", b"{}", {"describe": "True"}),
    )
    assert [json.loads(s["answer"]) for _, s in replies[1:]] == [1, {"who": "me"}]
    assert [list(s) for _, s in replies] == [["answer", "prediction"], ["answer"], ["answer"]]
