"""One id through every log: what the client got as x-request-id is found in both logs."""

import json
import re
import time

import pytest
from live_server import png, until


def lines(live, file, request_id, *words):
    """The lines of a log that carry an id, once one of them has each of some words."""

    def found():
        text = (live.server.log_dir / file).read_text(errors="replace")
        carry = [line for line in text.splitlines() if request_id in line]
        return carry if all(any(w in line for line in carry) for w in words) and carry else None

    return until(found)


@pytest.mark.parametrize("model", ["tiny", "classic", "mending"])
def test_a_refused_request_is_in_both_logs_by_its_id(live, load, model):
    with load(model, clients=2, pause=0) as others:
        others.wait_for(4)
        reply = live.post(model, b"not an image")
    assert reply.status_code == 400
    request_id = reply.headers["x-request-id"]
    (line,) = lines(live, "ts_log.log", request_id)
    assert f"{model} version 1.0: request {request_id} answered 400: preprocess refused" in line
    worker = lines(live, "model_log.log", request_id, "Traceback", "UnidentifiedImageError:")
    assert "preprocess of the user's handler failed" in worker[0]
    # Lines of the step that failed for one client alone carry no other's id.
    alone = re.compile(rf"\[{request_id}\] \S*(PIL\.)?UnidentifiedImageError")
    assert any(alone.search(line) for line in worker), worker


def test_a_death_is_in_both_logs_by_its_id(live):
    reply = live.post("tiny", b"POISON")
    assert reply.status_code == 500
    live.recovered("tiny", 3)
    request_id = reply.headers["x-request-id"]
    found = lines(live, "ts_log.log", request_id, "answered 500: Worker died.")
    deaths = [
        line for line in found if re.search(rf"worker \d+ died with a \w+ job .*{request_id}", line)
    ]
    # It is not sent again after two deaths; what was late then may have been with a third worker.
    assert 2 <= len(deaths) <= 3
    assert lines(live, "model_log.log", request_id, "poisoned")[0].endswith("poisoned")


def test_nothing_is_logged_for_requests_that_go_well(live):
    live.quiet("tiny")
    logs = [live.server.log_dir / name for name in ("ts_log.log", "model_log.log")]

    def silent():
        """Nobody writes to the logs any more about what other tests did."""
        sizes = [log.stat().st_size for log in logs]
        time.sleep(1)
        return sizes == [log.stat().st_size for log in logs] and sizes

    sizes = until(silent)
    replies = [live.post("tiny", png(number)) for number in range(20)]
    assert {reply.status_code for reply in replies} == {200}
    live.quiet("tiny")
    for log, size in zip(logs, sizes, strict=True):
        with log.open("rb") as file:
            file.seek(size)
            new = file.read().decode(errors="replace")
        assert not any(reply.headers["x-request-id"] in new for reply in replies), new
        assert len(new.splitlines()) < len(replies), "a line for each request, without its id"


def test_what_a_client_says_makes_no_line_of_its_own(live):
    said = {"instances": [{"data": "aGk=\n2099-01-01 ERROR forged"}]}
    reply = live.post("tiny", json.dumps(said), "/v1/models/{}:predict")
    assert reply.status_code == 400
    lines(live, "ts_log.log", reply.headers["x-request-id"])
    text = (live.server.log_dir / "ts_log.log").read_text()
    assert not re.search(r"^2099", text, re.M)
