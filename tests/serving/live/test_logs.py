"""One id through every log: what the client got as x-request-id is found in both logs."""

import json
import re
import time

import pytest
from live_server import png


def lines(live, file, request_id, wanted=1, seconds=5):
    """The lines of a log that carry an id; waits for the first ones."""
    end = time.monotonic() + seconds
    while True:
        text = (live.server.log_dir / file).read_text(errors="replace")
        found = [line for line in text.splitlines() if request_id in line]
        if len(found) >= wanted:
            return found
        assert time.monotonic() < end, f"{request_id} is not in {file}:\n{text[-2000:]}"
        time.sleep(0.1)


@pytest.mark.parametrize("model", ["tiny", "classic", "mending"])
def test_a_refused_request_is_in_both_logs_by_its_id(live, load, model):
    with load(model, clients=2, pause=0):
        time.sleep(0.2)
        reply = live.post(model, b"not an image")
    assert reply.status_code == 400
    request_id = reply.headers["x-request-id"]
    (line,) = lines(live, "ts_log.log", request_id)
    assert f"{model} version 1.0: request {request_id} answered 400: preprocess refused" in line
    worker = lines(live, "model_log.log", request_id, wanted=3)
    assert "preprocess of the user's handler failed" in worker[0]
    assert any("Traceback" in line for line in worker)
    # Lines of the step that failed for one client alone carry no other's id.
    alone = re.compile(rf"\[{request_id}\] \S*(PIL\.)?UnidentifiedImageError")
    assert any(alone.search(line) for line in worker), worker


def test_a_death_is_in_both_logs_by_its_id(live):
    reply = live.post("tiny", b"POISON")
    assert reply.status_code == 500
    live.recovered("tiny", 3)
    request_id = reply.headers["x-request-id"]
    found = lines(live, "ts_log.log", request_id, wanted=3)
    deaths = [
        line for line in found if re.search(rf"worker \d+ died with a \w+ job .*{request_id}", line)
    ]
    assert len(deaths) == 2
    assert "answered 500: Worker died." in found[-1]
    assert lines(live, "model_log.log", request_id, wanted=2)[0].endswith("poisoned")


def test_nothing_is_logged_for_requests_that_go_well(live):
    live.quiet("tiny")
    sizes = [(live.server.log_dir / f).stat().st_size for f in ("ts_log.log", "model_log.log")]
    for number in range(20):
        assert live.post("tiny", png(number)).status_code == 200
    assert sizes == [
        (live.server.log_dir / f).stat().st_size for f in ("ts_log.log", "model_log.log")
    ]


def test_what_a_client_says_makes_no_line_of_its_own(live):
    said = {"instances": [{"data": "aGk=\n2099-01-01 ERROR forged"}]}
    reply = live.post("tiny", json.dumps(said), "/v1/models/{}:predict")
    assert reply.status_code == 400
    lines(live, "ts_log.log", reply.headers["x-request-id"])
    text = (live.server.log_dir / "ts_log.log").read_text()
    assert not re.search(r"^2099", text, re.M)
