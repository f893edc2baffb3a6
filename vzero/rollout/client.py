"""Rollouts by a model behind one or several OpenAI-compatible servers (vLLM's own): the client.

One request a question, with all its n completions; the server is chosen by the hash of the image, so that a
server which has encoded an image once meets its other questions too. A reply that cannot be believed (see
chat.py), a refused connection or an attempt that takes too long is a failed attempt. Failed attempts are
repeated a bounded number of times, on the next server where there is one; then the stage ends as interrupted
(exit 75). There is no path from a failed attempt to a vote.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from vzero.config import SamplingConfig
from vzero.errors import InterruptedRun, RolloutError, VZeroError
from vzero.rollout import encoding, template
from vzero.rollout.chat import BadReply, data_url, printable, read_reply, request_body, rollout_of
from vzero.rollout.protocol import Message, Request, Rollout
from vzero.rollout.vocabulary import Vocabulary

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
LONGEST_PAUSE = 30.0  # seconds between two attempts
_REFUSED = frozenset({400, 413, 422})  # the request itself is refused: asking again cannot help
_BYTES_A_TOKEN = 64  # of JSON, generously: id and text of one drawn token
_BYTES_BESIDE = 4_000_000  # prompt ids and everything else in a reply


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served: base address without `/v1`, the id it must answer by, and the bearer token
    (never shown)."""

    url: str
    model: str
    token: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Server(Protocol):
    """A served model, as the client sees it."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it is now; a restart may change it."""
        ...

    def recover(self) -> None:
        """Called after a failed attempt, from a thread of its own; starts the server again where that is ours
        to do.

        Raises:
            InterruptedRun: it cannot be started again.
        """
        ...


@dataclass(frozen=True)
class RemoteServer:
    """A server that somebody else runs: all one can do is ask again."""

    endpoint: Endpoint

    def recover(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class RetryPolicy:
    """How patiently servers are asked.

    Attributes:
        attempt_seconds: from the first byte of an attempt to the last of its reply.
        retries: attempts after the first.
        pause_seconds: between the first two attempts; it doubles from one to the next.
        concurrency: requests open at one server.
    """

    attempt_seconds: float
    retries: int
    pause_seconds: float = 1.0
    concurrency: int = 64


Reader = Callable[[bytes, str], Rollout]  # (body of a reply, model that was asked); raises BadReply


@dataclass
class _Slot:
    """One server during one `generate`: how many requests it takes, and how often it was recovered."""

    server: Server
    gate: asyncio.Semaphore
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    recoveries: int = 0

    async def recover(self, seen: int) -> None:
        """Once for all requests that failed on it together: `seen` recoveries when they were sent."""
        async with self.lock:
            if self.recoveries == seen:
                await asyncio.to_thread(self.server.recover)
                self.recoveries += 1


class ServedEngine:
    """Implements `Engine` for servers of one model."""

    def __init__(self, servers: Sequence[Server], vocabulary: Vocabulary, retry: RetryPolicy) -> None:
        """Nothing is asked yet; see `check`."""
        self._servers, self._vocabulary, self._retry = tuple(servers), vocabulary, retry

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """Answer every request, in order; see `Engine.generate`.

        Raises:
            RolloutError: a server refuses a request as such.
            InterruptedRun: a request was not answered in all its attempts.
        """
        if not requests:
            return []
        work = encoding.collect(self._vocabulary.processor, requests)
        pictures = [data_url(image) for image in work.images]
        bodies, homes = [], []
        for request, number in zip(requests, work.of_request, strict=True):
            image = work.prompts[number].image
            url = None if image is None else pictures[image]
            bodies.append(request_body(request, url, sampling, self._vocabulary))
            homes.append(home_of(url or work.prompts[number].text, len(self._servers)))

        def read(data: bytes, model: str) -> Rollout:
            return rollout_of(read_reply(data), model, sampling, self._vocabulary)

        return self._run(self._servers, bodies, homes, read)

    def check(self) -> None:
        """Ask every server for one token, and compare the prompt that it read with the checkpoint's own, id
        by id.

        Raises:
            InterruptedRun: one does not answer, serves another model or renders prompts otherwise.
        """
        request, greedy = (
            Request((Message("user", "A"),), None, 0),
            SamplingConfig(temperature=0.0, max_new_tokens=1),
        )
        text = template.render(self._vocabulary.processor, request.messages, with_image=False)
        wanted = template.token_ids(self._vocabulary.processor, text)
        body = request_body(request, None, greedy, self._vocabulary)

        def read(data: bytes, model: str) -> Rollout:
            reply = read_reply(data)
            rollout = rollout_of(reply, model, greedy, self._vocabulary)
            if reply.prompt_token_ids != wanted:
                raise InterruptedRun(
                    "A server reads another prompt than the checkpoint's chat template writes; start it with"
                    " that template and --chat-template-content-format openai, then run the command again."
                )
            return rollout

        for server in self._servers:
            self._run([server], [body], [0], read)

    def _run(
        self, servers: Sequence[Server], bodies: Sequence[dict[str, Any]], homes: Sequence[int], read: Reader
    ) -> list[Rollout]:
        try:
            return asyncio.run(self._ask_all(servers, bodies, homes, read))
        except BaseExceptionGroup as group:  # of the task group; the first is as good as any
            first: BaseException = group
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            if isinstance(first, VZeroError):
                raise first from None
            reason = f"{type(first).__name__}: {printable(str(first))}"
            raise RolloutError(f"The servers could not be asked: {reason}.") from first

    async def _ask_all(
        self, servers: Sequence[Server], bodies: Sequence[dict[str, Any]], homes: Sequence[int], read: Reader
    ) -> list[Rollout]:
        most = self._retry.concurrency
        slots = [_Slot(server, asyncio.Semaphore(most)) for server in servers]
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=most * len(slots))
        # No proxy and no .netrc from the environment: a request with a token and a picture goes where it was
        # sent.
        async with (
            httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as http,
            asyncio.TaskGroup() as group,
        ):
            tasks = [
                group.create_task(self._ask(http, slots, home, body, read))
                for body, home in zip(bodies, homes, strict=True)
            ]
        return [task.result() for task in tasks]

    async def _ask(
        self, http: httpx.AsyncClient, slots: Sequence[_Slot], home: int, body: dict[str, Any], read: Reader
    ) -> Rollout:
        retry, reason = self._retry, ""
        for attempt in range(retry.retries + 1):
            slot = slots[(home + attempt) % len(slots)]
            try:
                async with slot.gate:
                    async with slot.lock:  # not while it is being recovered
                        seen, endpoint = slot.recoveries, slot.server.endpoint
                    async with asyncio.timeout(retry.attempt_seconds):
                        return read(await _post(http, endpoint, body), endpoint.model)
            except TimeoutError:
                reason = f"no whole reply within {retry.attempt_seconds:g} s"
            except httpx.HTTPError as error:
                reason = f"{type(error).__name__}: {printable(str(error))}".removesuffix(": ")
            except BadReply as error:
                reason = str(error)
            if attempt < retry.retries:
                await slot.recover(seen)
                await asyncio.sleep(min(retry.pause_seconds * 2**attempt, LONGEST_PAUSE))
        raise InterruptedRun(
            f"The Solver's server {endpoint.url} gave no usable answer in {retry.retries + 1} attempts: "
            f"{reason}; see that it runs, then run the same command again to resume."
        )


async def _post(http: httpx.AsyncClient, endpoint: Endpoint, body: dict[str, Any]) -> bytes:
    """One request's reply, whole."""
    most = _BYTES_BESIDE + _BYTES_A_TOKEN * body["n"] * body["max_completion_tokens"]
    data = bytearray()
    sent = {**body, "model": endpoint.model}
    async with http.stream("POST", endpoint.url + CHAT, json=sent, headers=endpoint.headers) as response:
        async for part in response.aiter_bytes():
            data += part
            if len(data) > most:
                raise BadReply(f"a reply of more than {most} bytes")
    status = response.status_code
    if status in (401, 403):
        raise InterruptedRun(
            f"The server {endpoint.url} refuses the bearer token (HTTP {status}); put the right one into the "
            "environment variable VZERO_SOLVER_TOKEN, then run the same command again."
        )
    if status in _REFUSED:
        raise RolloutError(f"The server {endpoint.url} refuses a request (HTTP {status}): {printable(data)}.")
    if status != 200:
        raise BadReply(f"HTTP {status}: {printable(data)}")
    return bytes(data)


def home_of(content: str, servers: int) -> int:
    """The server that questions about an image (given as its data URL) are sent to first: the same for the
    same picture, everywhere."""
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") % servers
