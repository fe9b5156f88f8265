"""HTTP/1.1 for an open loop under overload: hundreds of requests wait, each must cost little.

The pool of httpx looks at all its connections whenever a request comes or goes. With hundreds under
way that takes milliseconds for each, and the load that was to be offered waits in the client.
"""

from __future__ import annotations

import asyncio
from http.client import parse_headers
from io import BytesIO

import httpx

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LeanTransport(httpx.AsyncBaseTransport):
    """Sends requests to one server, each on an idle connection or on a new one.

    It reads answers that have a ``Content-Length``, as TorchServe's have.
    """

    def __init__(self) -> None:
        self._idle: list[Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and reads its whole answer.

        Raises:
            httpx.ConnectError: Nobody listens.
            httpx.ReadTimeout: The whole took longer than the client's timeout for reading.
            httpx.RemoteProtocolError: The connection ended before the answer did.
        """
        limit_s = request.extensions.get("timeout", {}).get("read")
        try:
            return await asyncio.wait_for(self._exchange(request), limit_s)
        except asyncio.TimeoutError as error:
            raise httpx.ReadTimeout(f"no answer within {limit_s:g} s") from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise httpx.RemoteProtocolError(f"no whole answer: {error}") from error

    async def aclose(self) -> None:
        """Closes the connections."""
        for _, writer in self._idle:
            writer.close()

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        reader, writer = await self._connection(request.url)
        whole = False
        try:
            lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
            lines += [b"%s: %s" % pair for pair in request.headers.raw]
            writer.write(b"\r\n".join([*lines, b"", await request.aread()]))
            head = await reader.readuntil(b"\r\n\r\n")
            status, _, fields = head.partition(b"\r\n")
            headers = parse_headers(BytesIO(fields))
            content = await reader.readexactly(int(headers.get("Content-Length", 0)))
            whole = headers.get("Connection", "").lower() != "close"
            return httpx.Response(int(status.split()[1]), headers=headers.items(), content=content)
        finally:
            if whole:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _connection(self, url: httpx.URL) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        try:
            return await asyncio.open_connection(url.host, url.port)
        except OSError as error:
            raise httpx.ConnectError(f"{url.host}:{url.port}: {error}") from error
