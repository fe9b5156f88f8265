"""Every line that a worker logs carries the ids of the requests at work; metrics lines do not."""

import io
import logging
import threading

import pytest

from approxifer_torchserve.serving.worker import request_ids


@pytest.fixture
def log():
    """The root logger as TorchServe's worker sets it up, writing to a string."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    before, level = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    request_ids.install()
    request_ids.install()  # twice does no harm
    yield stream
    request_ids.working_on(())
    root.handlers = before
    root.setLevel(level)


def test_each_line_of_a_traceback_carries_the_ids(log):
    request_ids.working_on(["a", "b", "a"])
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("some.handler").exception("it failed")
    lines = log.getvalue().splitlines()
    assert lines[0] == "[a b] it failed"
    assert lines[-1] == "[a b] lines"
    assert all(line.startswith("[a b] ") for line in lines)


def test_threads_of_a_handler_log_with_the_ids_too(log):
    request_ids.working_on(["a"])
    thread = threading.Thread(target=logging.warning, args=("from a thread",))
    thread.start()
    thread.join()
    assert log.getvalue() == "[a] from a thread\n"


def test_lines_between_requests_and_metrics_stay_as_they_are(log):
    logging.info("loaded")
    request_ids.working_on(["a"])
    logging.info("[METRICS]HandlerTime.ms:1.0|#ModelName:tiny")
    request_ids.working_on(())
    logging.info("idle")
    assert log.getvalue().splitlines() == [
        "loaded",
        "[METRICS]HandlerTime.ms:1.0|#ModelName:tiny",
        "idle",
    ]
