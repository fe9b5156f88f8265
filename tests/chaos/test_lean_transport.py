"""The open loop's client: hundreds of requests under way, each with its own answer."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from approxifer_torchserve.bench.harness.transport import LeanTransport


@asynccontextmanager
async def server(answer):
    """Yields a client of a server that calls ``answer(body, writer)`` for each request."""
    opened = []

    async def serve(reader, writer):
        opened.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await answer(await reader.readexactly(length), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=500)
    port = listening.sockets[0].getsockname()[1]
    transport = LeanTransport()
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(transport=transport, base_url=url, timeout=30) as client:
        yield client, opened
    listening.close()


def reply(body, *fields):
    lines = [b"HTTP/1.1 503 Service Unavailable", b"Retry-After: 1", *fields]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def test_each_request_gets_its_own_answer_and_connections_are_used_again():
    waiting = []

    async def answer(body, writer):
        waiting.append((body, writer))
        if len(waiting) == 200:
            for asked, asker in waiting:
                asker.write(reply(asked))
            waiting.clear()

    async def run():
        async with server(answer) as (client, opened):
            for _ in range(2):
                bodies = [b"%d" % number for number in range(200)]
                replies = await asyncio.gather(*(client.post("/", content=b) for b in bodies))
                assert [one.content for one in replies] == bodies
                assert {one.status_code for one in replies} == {503}
                assert {one.headers["retry-after"] for one in replies} == {"1"}
            assert len(opened) == 200

    asyncio.run(run())


def test_a_connection_that_the_server_ends_is_not_used_again():
    async def answer(body, writer):
        last = body == b"silently"
        writer.write(reply(body) if last else reply(body, b"Connection: close"))
        writer.close()

    async def run():
        async with server(answer) as (client, opened):
            for body in (b"first", b"silently", b"third"):
                assert (await client.post("/", content=body)).content == body
                await asyncio.sleep(0.05)
            assert len(opened) == 3

    asyncio.run(run())


def test_an_answer_that_does_not_come_is_an_error_of_httpx():
    async def answer(body, writer):
        if body == b"half":
            writer.write(reply(b"12345")[:-2])
            writer.close()

    async def run():
        async with server(answer) as (client, _):
            with pytest.raises(httpx.RemoteProtocolError, match="no whole answer"):
                await client.post("/", content=b"half")
            with pytest.raises(httpx.ReadTimeout, match=r"within 0\.5 s"):
                await client.post("/", content=b"never", timeout=0.5)
        with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1:9"):
            async with httpx.AsyncClient(transport=LeanTransport()) as nobody:
                await nobody.post("http://127.0.0.1:9/", content=b"")

    asyncio.run(run())
