"""The reader of the frontend's messages against TorchServe's own."""

import random
import socket
import struct
import threading

import pytest
from ts.protocol import otf_message_handler

from approxifer_torchserve.serving.worker import reader
from approxifer_torchserve.serving.worker.reader import PIECE, PieceReader


def field(raw):
    return struct.pack("!i", len(raw)) + raw


def message(draw, requests):
    """A batch as the frontend's encoder writes it."""
    parts = [b"I"]
    for number in range(requests):
        parts.append(field(f"request-{number}".encode()))
        for name in ("Host", "content-type", "x-approxifer-job"):
            parts += [
                field(name.encode()),
                field(draw.randbytes(draw.randrange(200)).hex().encode()),
            ]
        parts.append(struct.pack("!i", -1))
        size = draw.choice([0, 1, 5000, PIECE - 1, PIECE, PIECE + 1, 600_000])
        body = field(draw.randbytes(size))
        parts += [field(b"body"), field(b"application/octet-stream"), body, struct.pack("!i", -1)]
    return b"".join([*parts, struct.pack("!i", -1)])


def received(monkeypatch, messages, read=None):
    """What TorchServe's parser makes of messages that come over a socket."""
    if read is not None:
        monkeypatch.setattr(otf_message_handler, reader.NAME, read)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=theirs.sendall, args=(b"".join(messages),))
        sender.start()
        found = [otf_message_handler.retrieve_msg(ours) for _ in messages]
        sender.join()
    return found


@pytest.mark.parametrize("seed", range(6))
def test_messages_are_read_as_torchserve_reads_them(monkeypatch, seed):
    draw = random.Random(seed)
    messages = [message(draw, draw.randrange(1, 5)) for _ in range(6)]
    expected = received(monkeypatch, messages)
    found = received(monkeypatch, messages, PieceReader())
    assert found == expected
    value = found[0][1][0]["parameters"][0]["value"]
    assert type(value) is type(expected[0][1][0]["parameters"][0]["value"])


def test_small_fields_cost_no_call_each():
    calls = []

    class Frontend:
        def recv(self, size):
            calls.append(size)
            return b"x" * 1000

        def recv_into(self, view):
            raise AssertionError("small fields are not read in place")

    frontend, read = Frontend(), PieceReader()
    assert [bytes(read(frontend, 4)) for _ in range(250)] == [b"xxxx"] * 250
    assert len(calls) == 1


def test_what_is_left_of_one_connection_is_not_anothers():
    one, other, read = *(socket.socketpair() for _ in range(2)), PieceReader()
    with one[0], one[1], other[0], other[1]:
        one[1].sendall(b"abcdef")
        other[1].sendall(b"uvwxyz")
        assert read(one[0], 2) == b"ab"
        assert read(other[0], 2) == b"uv"


@pytest.mark.parametrize("length", [4, PIECE + 1])
def test_a_frontend_that_is_gone_ends_the_worker(length):
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"ab")
        theirs.close()
        with pytest.raises(SystemExit) as gone:
            PieceReader()(ours, length)
    assert gone.value.code == 0


def test_a_torchserve_without_that_function_keeps_its_own(monkeypatch, caplog):
    monkeypatch.delattr(otf_message_handler, reader.NAME)
    reader.install(otf_message_handler)
    assert not hasattr(otf_message_handler, reader.NAME)
    assert reader.NAME in caplog.text


def test_installing_twice_keeps_what_was_read_already(monkeypatch):
    monkeypatch.setattr(otf_message_handler, reader.NAME, object())
    reader.install(otf_message_handler)
    first = getattr(otf_message_handler, reader.NAME)
    reader.install(otf_message_handler)
    assert getattr(otf_message_handler, reader.NAME) is first
