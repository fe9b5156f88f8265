"""All worker well: every way in, answers byte for byte, bad input."""

import base64

import grpc
import pytest
from live_server import LATE_AFTER_MS, OWN, expected, png, same, until, v1, v2

JSON = {"content-type": "application/json"}


def test_answers_are_byte_identical_to_plain_torchserve(live):
    for number in range(20):
        coded, plain = live.post("tiny", png(number)), live.post("plain", png(number))
        assert coded.status_code == plain.status_code == 200
        assert coded.content == plain.content
        assert coded.headers["x-approxifer-outcome"] in OWN
        assert coded.json() == expected(number)


def test_grpc_predictions(live):
    for number in range(5):
        body = live.grpc.predict("tiny", png(number))
        assert body == live.grpc.predict("plain", png(number))


def test_kserve_v1_with_one_and_two_instances(live):
    for numbers in [(1,), (2, 3)]:
        reply = live.http.post("/v1/models/tiny:predict", json=v1(*numbers))
        assert reply.status_code == 200, reply.text
        predictions = reply.json()["predictions"]
        assert len(predictions) == len(numbers)
        assert all(same(p, n) for p, n in zip(predictions, numbers, strict=True))


def test_kserve_v2(live):
    reply = live.http.post("/v2/models/tiny/infer", json=v2(4))
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert (body["id"], body["model_name"]) == ("42", "tiny")
    assert len(body["outputs"]) == 1


@pytest.mark.parametrize("model", ["classic", "mending"])
def test_kserve_two_instances_are_answered_alone_where_groups_are_coded(live, model):
    reply = live.http.post(f"/v1/models/{model}:predict", json=v1(5, 6))
    assert reply.status_code == 200, reply.text
    assert all(same(p, n) for p, n in zip(reply.json()["predictions"], (5, 6), strict=True))
    assert reply.headers["x-approxifer-outcome"] in OWN


def test_a_multipart_form_and_a_base64_body(live):
    reply = live.http.post("/predictions/tiny", files={"data": ("a.png", png(7), "image/png")})
    assert same(reply.json(), 7)
    text = base64.b64encode(png(8)).decode()
    reply = live.http.post("/predictions/tiny", json={"data": text})
    # This handler does not look inside a JSON body; without the plugin it fails on it too.
    assert reply.status_code == 400
    assert live.http.post("/predictions/plain", json={"data": text}).status_code == 503


@pytest.mark.parametrize("model", ["tiny", "mending", "classic"])
def test_a_text_file_posted_as_an_image_is_that_clients_4xx_and_nobody_elses(live, load, model):
    with load(model, clients=3, pause=0) as others:
        for _ in range(5):
            reply = live.post(model, b"this is not an image")
            assert reply.status_code == 400, reply.text
            assert "cannot identify image file" in reply.json()["message"]
            assert "0x" not in reply.text
        others.wait_for(20)
    others.check_all_right()


def test_bad_input_over_grpc_is_invalid_argument(live):
    with pytest.raises(grpc.RpcError) as error:
        live.grpc.predict("tiny", b"this is not an image")
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot identify image file" in error.value.details()


def test_clients_cannot_forge_jobs(live):
    forged = {"x-approxifer-job": 'v1 00 {"kind":"decode","size":2,"available":[],"members":[]}'}
    reply = live.post("tiny", png(9), headers=forged)
    assert reply.json() == expected(9)


def test_every_answer_of_a_healthy_model_is_its_own(live, load):
    before = live.state("tiny")["counters"]
    with load("tiny", clients=3) as light:
        light.wait_for(300)
    light.check_all_right()
    after = live.quiet("tiny")["counters"]
    total = after["requests"] - before["requests"]
    assert after["reconstructed"] == before["reconstructed"]
    assert after["failed"] == before["failed"]
    assert sum(after[outcome] - before[outcome] for outcome in OWN) == total == len(light.answers)
    # Nothing is sent again that was not late, but to workers that have to show that they are well;
    # how often that is says how busy this machine is.
    hedged = [s for _, r, s in light.answers if r.headers["x-approxifer-outcome"] == "hedged"]
    early = [seconds for seconds in hedged if seconds < LATE_AFTER_MS / 1000]
    assert len(early) <= after["jobs"]["shadow"] - before["jobs"]["shadow"]
    assert after["hedges"] - before["hedges"] <= after["late"] - before["late"]


def test_classic_answers_everything_by_decoding(live, load):
    with load("classic", clients=4, pause=0) as light:
        light.wait_for(60)
    outcomes = {reply.headers["x-approxifer-outcome"] for _, reply, _ in light.answers}
    assert outcomes == {"reconstructed"}
    assert set(light.statuses) == {200}
    live.quiet("classic")


def test_state_of_coded_models(live):
    names = {model["model"] for model in live.http.get("/coded").json()["models"]}
    assert names == {"tiny", "classic", "mending"}, "plain models are left alone"
    assert live.state("tiny")["live_workers"] == 3
    until(lambda: set(live.workers("tiny")) == live.ids("tiny"))
    missing = live.http.get("/coded/nobody")
    assert missing.status_code == 404
    assert "nobody" in missing.json()["message"]


def test_describe_explain_and_the_openapi_of_a_model_still_answer(live):
    described = live.cluster.describe("tiny")[0]
    assert described.model_name == "tiny"
    # The handler has no explanations: the same refusal from both.
    explained = [live.post(m, png(1), path="/explanations/{}") for m in ("tiny", "plain")]
    assert [reply.status_code for reply in explained] == [503, 503]
    assert live.http.options("/predictions/tiny").status_code == 200
    live.quiet("tiny")
