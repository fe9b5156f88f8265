"""TorchServe's tokens: sent with every request, read again from the key file when refused.

TorchServe writes ``key_file.json`` into the folder it was started in. Its management and inference
keys expire (after 60 minutes unless ``token_expiration_min`` says otherwise); whoever holds the API
key of the same file has new ones written with ``GET /token?type=management`` (or ``inference``) on
the management port.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Literal

import httpx

Kind = Literal["management", "inference"]
REFUSED = "Token Auth"


class KeyFileError(ValueError):
    """The key file cannot be read, or holds no such key."""


def read_key(key_file: str | Path, kind: Kind) -> str:
    """Reads one key of TorchServe's key file.

    Args:
        key_file: ``key_file.json`` of the server's folder.
        kind: "management" or "inference".

    Raises:
        KeyFileError: The file cannot be read or is not one of TorchServe's.
    """
    try:
        return str(json.loads(Path(key_file).read_text())[kind]["key"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise KeyFileError(f"key file {key_file} holds no {kind} key ({error!r})") from error


def is_refusal(reply: httpx.Response) -> bool:
    """Tells whether TorchServe refused the token; it says so with status 400."""
    return reply.status_code in (400, 401, 403) and REFUSED in reply.text


class Token:
    """A token that is sent with requests, and read anew when the server has refused it.

    Args:
        given: What the user gave; sent as it is, and the key file is not looked at.
        key_file: Where the token comes from otherwise; None for servers without authorization.
        kind: Which of its keys, "management" or "inference".
    """

    def __init__(self, given: str | None, key_file: str | Path | None, kind: Kind) -> None:
        self._value = given
        self._key_file = key_file if given is None else None
        self._kind = kind

    def value(self) -> str | None:
        """Returns the token, or None where there is none.

        Raises:
            KeyFileError: The key file cannot be read.
        """
        if self._value is None:
            self.renew()
        return self._value

    def renew(self) -> bool:
        """Reads the key file again; tells whether there is a newer token now.

        Raises:
            KeyFileError: The key file cannot be read.
        """
        before = self._value
        if self._key_file is not None:
            self._value = read_key(self._key_file, self._kind)
        return self._value != before


class TokenAuth(httpx.Auth):
    """Sends a token; takes it anew from the key file, once per request, when it was refused.

    Args:
        token: See `Token`.
        key_file: See `Token`.
        kind: See `Token`.

    Example:
        >>> auth = TokenAuth(key_file="run/key_file.json", kind="inference")
        >>> httpx.get("http://127.0.0.1:8080/coded", auth=auth)  # doctest: +SKIP
        <Response [200 OK]>
    """

    requires_response_body = True

    def __init__(
        self,
        token: str | None = None,
        key_file: str | Path | None = None,
        kind: Kind = "management",
    ) -> None:
        self.token = Token(token, key_file, kind)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sends the request, and a second time if a newer key has been written meanwhile.

        Raises:
            KeyFileError: The key file cannot be read.
        """
        reply = yield self._signed(request)
        if is_refusal(reply) and self.token.renew():
            yield self._signed(request)

    def _signed(self, request: httpx.Request) -> httpx.Request:
        if token := self.token.value():
            request.headers["Authorization"] = f"Bearer {token}"
        return request
