"""No reply is longer than TorchServe's max_response_size."""

import logging
import os

import pytest
import torch
from serving_harness import png, wrapped

from approxifer_torchserve.serving.worker.infinities import MIN_SEEN, Infinities
from approxifer_torchserve.serving.worker.limits import (
    DEFAULT_BYTES,
    config_file,
    configured,
    max_response_bytes,
)

CLASSIC = {"code": {"name": "approxifer", "queries": 2, "stragglers": 1, "systematic": False}}
PAIR = {"code": {"name": "approxifer", "queries": 2, "stragglers": 1}, "policy": {"verify": "pair"}}
COMMAND = ["java", "-f", "no", "org.pytorch.serve.ModelServer", "--python", "p", "-f", "a.conf"]


@pytest.mark.parametrize(
    ("text", "environment", "size"),
    [
        ("", {}, DEFAULT_BYTES),
        ("# max_response_size=1\nmax_response_size = 70\n", {}, 70),
        ("max_response_size=70", {"TS_MAX_RESPONSE_SIZE": "80"}, 70),
        ("enable_envvars_config=true\nmax_response_size=70", {"TS_MAX_RESPONSE_SIZE": "80"}, 80),
        ("enable_envvars_config=true\nmax_response_size=70", {}, 70),
        ("max_response_size=much", {}, DEFAULT_BYTES),
    ],
)
def test_the_limit_is_read_as_torchserve_reads_it(tmp_path, text, environment, size):
    path = tmp_path / "config.properties"
    path.write_text(text)
    assert configured(path, environment) == size


def test_the_configuration_is_the_one_the_frontend_has_read(tmp_path):
    assert config_file(COMMAND, "/home/ts", {}) == config_file(COMMAND[3:], "/home/ts", {})
    assert str(config_file(COMMAND, "/home/ts", {})) == "/home/ts/a.conf"
    assert str(config_file(COMMAND[:4], "/home/ts", {})) == "/home/ts/config.properties"
    assert str(config_file(COMMAND, "/", {"TS_CONFIG_FILE": "/x.conf"})) == "/x.conf"
    assert configured(tmp_path / "none", {}) == DEFAULT_BYTES
    assert max_response_bytes(os.getpid(), {}) == DEFAULT_BYTES  # no frontend above


def limit(ours, size):
    ours.service._entry_point.__self__.coded.replies.limit = size


def test_an_encode_reply_that_is_too_long_is_an_error_and_logged_once(tmp_path, caplog):
    ours, _ = wrapped(tmp_path, approxifer=CLASSIC)
    limit(ours, 900)
    jobs = [ours.job(f"e{n}", "encode", {0: png(1), 1: png(2)}) for n in range(2)]
    with caplog.at_level(logging.WARNING):
        replies = ours.reply(*jobs)
    for header, sections in replies:
        assert header["error"]["status"] == 500
        assert "max_response_size is 900" in header["error"]["message"]
        assert sections == {}
    assert caplog.text.count("max_response_size") == 1


def test_a_prediction_that_is_too_long_is_left_out_and_an_answer_is_refused(tmp_path):
    ours, _ = wrapped(tmp_path, approxifer=PAIR)
    ((header, sections),) = ours.reply(ours.raw("a", png(1)))
    assert set(sections) == {"answer", "prediction"}
    limit(ours, len(sections["answer"]) + 520)
    ((header, fewer),) = ours.reply(ours.raw("a", png(1)))
    assert fewer == {"answer": sections["answer"]}
    assert "error" not in header
    limit(ours, 500)
    ((header, none),) = ours.reply(ours.raw("a", png(1)))
    assert (header["error"]["status"], none) == (507, {})


INF = torch.inf


@pytest.mark.parametrize(
    ("odd", "usual"),
    [
        ([1.0, -INF], True),
        ([-INF, -INF], False),
        ([1.0, INF], False),
        ([1.0, torch.nan], False),
        ([-INF, torch.nan], False),
    ],
)
def test_only_minus_infinity_beside_numbers_becomes_usual(odd, usual):
    found = Infinities()
    first = [found.usual(torch.tensor([odd])) for _ in range(MIN_SEEN)]
    assert first == [False] * MIN_SEEN
    assert found.usual(torch.tensor([odd])) is usual


def test_what_is_rare_among_a_workers_answers_does_not_become_usual():
    found = Infinities()
    for _ in range(1000):
        found.finite()
    assert not any(found.usual(torch.tensor([[0.0, -INF]])) for _ in range(50))
