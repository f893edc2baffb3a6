"""The one HTTP client: every request has one deadline, every reply a size, counted as it comes over the wire.

A reply is asked for as it is; one that is compressed all the same is refused, since a few bytes can unpack to
gigabytes. No proxy and no .netrc of the environment is used: a request with a token and a picture goes where
it was sent. What a server says is shown on one line, without control characters and without the token.
"""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic_core import from_json

from vzero.errors import InputError

_SHOWN = 200  # characters of what a server sent
_SHORTEST_TOKEN = 4  # characters; a shorter one is no secret, and would be found in any sentence
_HUB_BYTES, _HUB_SECONDS = 1 << 26, 120.0  # of one reply of the hub that is no file
PAUSES = (1.0, 2.0)  # seconds before the attempts after the first, of `ask_again`
# Seconds within which the machine of a server must acknowledge what it is sent: its kernel does, however long
# the server thinks. One that is off, or behind a cut network, is noticed by that and by nothing else.
SILENT_SECONDS = 30
_LATER = frozenset({408, 409, 425, 429})  # refusals that pass, beside those of 500 and above


class NoReply(Exception):
    """No whole reply came, or one that says "later": asking again may help. The message is fit to print."""


class LateReply(NoReply):
    """The deadline came first."""


class BadReply(Exception):
    """A whole reply that cannot be used: asking again would bring it again. The message is fit to print."""


class TornReply(BadReply):
    """One that ends in the middle of its JSON though its framing is whole: something on the way may have cut
    it, once or always."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served: an address, the id that the model must answer by, and the bearer token (never
    shown)."""

    url: str
    model: str
    token: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Of every request.

        Raises:
            InputError: the token cannot be sent.
        """
        if self.token and not (self.token.isascii() and self.token.isprintable()):
            raise InputError(
                f"The bearer token for {self.url} holds a line break or a character that is not ASCII; "
                "set its environment variable anew."
            )
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def redacted(self, text: str) -> str:
        """`text` without the token, which servers repeat in what they refuse."""
        if self.token is None or len(self.token) < _SHORTEST_TOKEN:
            return text
        return text.replace(self.token, "[token]")

    def shown(self, text: str | bytes) -> str:
        """The beginning of what the server sent, as a message may quote it."""
        raw = text if isinstance(text, str) else text.decode("utf-8", "replace")
        line = " ".join(self.redacted(raw).split())
        return "".join(c if c.isprintable() else " " for c in line[:_SHOWN])


@dataclass(frozen=True)
class Reply:
    """A whole reply, whatever it says."""

    status: int
    data: bytes


def session(limits: httpx.Limits | None = None) -> httpx.AsyncClient:
    """What requests are sent by, to be closed at the end."""
    tcp = {"TCP_KEEPIDLE": SILENT_SECONDS // 3, "TCP_KEEPINTVL": SILENT_SECONDS // 6}
    tcp["TCP_USER_TIMEOUT"] = 1000 * SILENT_SECONDS
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    options += [(socket.IPPROTO_TCP, getattr(socket, k), v) for k, v in tcp.items() if hasattr(socket, k)]
    wire = httpx.AsyncHTTPTransport(
        verify=_tls(), trust_env=False, limits=limits or httpx.Limits(), socket_options=options
    )
    own, timeout = {"Accept-Encoding": "identity"}, httpx.Timeout(None, connect=SILENT_SECONDS)
    return httpx.AsyncClient(transport=wire, timeout=timeout, trust_env=False, headers=own)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once: reading all the authorities takes longer than a request on loopback."""
    return httpx.create_ssl_context(trust_env=False)


async def send(
    http: httpx.AsyncClient,
    endpoint: Endpoint,
    path: str,
    most: int,
    seconds: float,
    body: Mapping[str, Any] | None = None,
) -> Reply:
    """One attempt: GET, or POST with `body`, at `endpoint.url + path`.

    Args:
        most: bytes that a reply may have.
        seconds: from the attempt's first byte to the last of its reply.

    Raises:
        NoReply: none came within `seconds`, or the server asks to come again.
        BadReply: it is compressed, or has more than `most` bytes.
        InputError: see `Endpoint.headers`.
    """
    content = None if body is None else json.dumps(body).encode()
    headers = endpoint.headers | ({} if body is None else {"Content-Type": "application/json"})
    method = "GET" if body is None else "POST"
    data = bytearray()
    try:
        async with (
            asyncio.timeout(seconds),
            http.stream(method, endpoint.url + path, content=content, headers=headers) as response,
        ):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise BadReply("a compressed reply, which was not asked for")
            async for part in response.aiter_raw():
                data += part
                if len(data) > most:
                    raise BadReply(f"a reply of more than {most} bytes")
    except TimeoutError:
        raise LateReply(f"no whole reply within {seconds:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = f"{type(error).__name__}: {endpoint.shown(str(error))}".removesuffix(": ")
        raise NoReply(reason) from None
    status = response.status_code
    if status >= 500 or status in _LATER:
        raise NoReply(f"HTTP {status}: {endpoint.shown(bytes(data))}")
    return Reply(status, bytes(data))


def ask(
    endpoint: Endpoint, path: str, most: int, seconds: float, body: Mapping[str, Any] | None = None
) -> Reply:
    """`send` from code that is not asynchronous, on a connection of its own."""

    async def attempt() -> Reply:
        async with session() as http:
            return await send(http, endpoint, path, most, seconds, body)

    return asyncio.run(attempt())


def ask_again(
    endpoint: Endpoint, path: str, most: int, seconds: float, body: Mapping[str, Any] | None = None
) -> Reply:
    """As `ask`, of a server that answers in JSON: what passes (no reply, "later", a torn one) is asked again,
    after each of `PAUSES`, within `seconds` for all attempts together."""
    end = time.monotonic() + seconds
    for pause in (*PAUSES, None):
        try:
            reply = ask(endpoint, path, most, end - time.monotonic(), body)
            if reply.status == 200 and torn(reply.data):
                raise NoReply("a reply that ends in the middle of its JSON")
            return reply
        except LateReply:
            raise LateReply(f"no whole reply within {seconds:g} s") from None
        except NoReply:
            if pause is None or time.monotonic() + pause >= end:
                raise
            time.sleep(pause)
    raise AssertionError


def torn(data: bytes) -> bool:
    """Whether a reply is the beginning of a JSON text."""
    try:
        from_json(data)
    except ValueError as error:
        return "EOF while parsing" in str(error)
    return False


def loads(data: bytes) -> Any:
    """The JSON in a reply.

    Raises:
        ValueError: it is none, is nested too deeply or holds a number of thousands of digits.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def hub_session() -> httpx.Client:
    """The hub's client (`huggingface_hub.set_client_factory`) with the same limits: no compressed reply, and
    what it says, files aside, bounded in bytes and seconds. The environment's proxies hold here."""
    from huggingface_hub.utils._http import default_client_factory

    def plain(request: httpx.Request) -> None:
        request.headers["Accept-Encoding"] = "identity"

    def bounded(response: httpx.Response) -> None:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise httpx.DecodingError("a compressed reply, which was not asked for", request=response.request)
        if response.request.url.path.startswith("/api/"):
            response.stream = _Bounded(response.stream)

    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = {"request": [*hooks["request"], plain], "response": [*hooks["response"], bounded]}
    return client


@dataclass
class _Bounded(httpx.SyncByteStream):
    """What the hub says of a dataset, as it comes."""

    source: Any

    def __iter__(self) -> Iterator[bytes]:
        end, size = time.monotonic() + _HUB_SECONDS, 0
        for part in self.source:
            size += len(part)
            if size > _HUB_BYTES or time.monotonic() > end:
                raise httpx.ReadError(f"more than {_HUB_BYTES} bytes or {_HUB_SECONDS:g} s")
            yield part

    def close(self) -> None:
        self.source.close()
