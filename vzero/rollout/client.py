"""Rollouts by a model behind one or several OpenAI-compatible servers (vLLM's own): the client.

One request a question, with all its n completions. Requests are read as the servers get free, and each goes
to the server chosen by the hash of its image, which then meets the image's other questions too, or, if that
one is full, to any that is not: no server waits while there is work. A refused connection, an attempt that
takes too long or a server that says "later" is a failed attempt. Failed attempts are repeated a bounded
number of times, on the next server where there is one; then the stage ends as interrupted (exit 75). A whole
reply that cannot be believed (see chat.py) would come again, and ends the stage as failed at once; one whose
JSON ends too early is asked for once more. There is no path from any of them to a vote.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from statistics import fmean
from typing import Any

import httpx

from vzero.config import SamplingConfig
from vzero.errors import InputError, InterruptedRun, RolloutError, VZeroError, machine_failure
from vzero.rollout import template
from vzero.rollout.chat import read_reply, request_body, rollout_of
from vzero.rollout.endpoints import Server, context_of
from vzero.rollout.outgoing import Pictures, Prepared
from vzero.rollout.protocol import (
    Answer,
    ContextOverflow,
    Finished,
    Message,
    Request,
    Rollout,
)
from vzero.rollout.slots import Slot
from vzero.rollout.streaming import StreamingEngine
from vzero.rollout.vllm_engine import open_requests, says_overflow
from vzero.rollout.vocabulary import Vocabulary
from vzero.runtime import http_client
from vzero.runtime.http_client import BadReply, Endpoint, LateReply, NoReply, Reply, TornReply

CHAT = "/v1/chat/completions"
LONGEST_PAUSE = 30.0  # seconds between two attempts
_REFUSED = frozenset({400, 413, 422})  # the request itself is refused
_LOOKED_AT = 2  # first requests of a call, which say how many completions one has: an item's two
_FEWEST = 8  # requests that a slow server is still given at a time
# Requests at a time by one session: httpcore looks at all its connections once for each free one.
POOL = 16
_UNLIMITED = 1 << 20
_BYTES_A_TOKEN = 64  # of JSON, generously: id and text of one drawn token
_BYTES_BESIDE = 4_000_000  # prompt ids and everything else in a reply


@dataclass(frozen=True)
class RetryPolicy:
    """How patiently servers are asked.

    Attributes:
        attempt_seconds: from the first byte of an attempt to the last of its reply.
        retries: attempts after the first.
        pause_seconds: between the first two attempts; it doubles from one to the next.
        sequences: completions that a server decodes together; it has a few more open.
    """

    attempt_seconds: float
    retries: int
    pause_seconds: float = 1.0
    sequences: int = 512


# (body of a reply, model that was asked, how it was drawn); raises BadReply
Reader = Callable[[bytes, str, SamplingConfig], Rollout]


@dataclass(frozen=True)
class _Call:
    """What one `stream` asks for, and who is told."""

    sampling: SamplingConfig
    read: Reader
    finished: Finished


Body = Callable[[], Coroutine[Any, Any, dict[str, Any]]]  # made when it is sent: with a picture it is large


class ServedEngine(StreamingEngine):
    """Implements `Engine` for servers of one model."""

    def __init__(self, servers: Sequence[Server], vocabulary: Vocabulary, retry: RetryPolicy) -> None:
        """Nothing is asked yet; see `check`."""
        self._servers, self._vocabulary, self._retry = tuple(servers), vocabulary, retry

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """See `Engine.stream`.

        Raises:
            RolloutError: a server refuses a request as such, or answers what cannot be believed.
            InputError: it refuses the token, or has no such model or address.
            InterruptedRun: a request was not answered in all its attempts.
        """

        def read(data: bytes, model: str, drawn: SamplingConfig) -> Rollout:
            return rollout_of(read_reply(data), model, drawn, self._vocabulary)

        prepared = (Prepared.of(self._vocabulary.processor, one) for one in requests)
        self._run(self._servers, prepared, _Call(sampling, read, finished))

    def check(self) -> None:
        """Ask every server for one token, and compare the prompt that it read with the checkpoint's own, id
        by id.

        Raises:
            InputError, RolloutError: one serves another model or renders prompts otherwise.
            InterruptedRun: one does not answer.
        """
        request, greedy = (
            Request((Message("user", "A"),), None, 0),
            SamplingConfig(temperature=0.0, max_new_tokens=1),
        )
        text = template.render(self._vocabulary.processor, request.messages, with_image=False)
        wanted = template.token_ids(self._vocabulary.processor, text)

        def read(data: bytes, model: str, drawn: SamplingConfig) -> Rollout:
            reply = read_reply(data)
            rollout = rollout_of(reply, model, drawn, self._vocabulary)
            if reply.prompt_token_ids != wanted:
                raise InputError(
                    "A server reads another prompt than the checkpoint's chat template writes; start it with"
                    " that template and --chat-template-content-format openai, then run the command again."
                )
            return rollout

        for server in self._servers:
            prepared = Prepared.of(self._vocabulary.processor, request)
            self._run([server], iter([prepared]), _Call(greedy, read, lambda i, answer: None))
        self.learn_context()

    def learn_context(self) -> None:
        """From here on know what exceeds the servers' context, where they say how long it is."""
        contexts = [self._vocabulary.positions, *(context_of(one.endpoint) for one in self._servers)]
        known = [one for one in contexts if one is not None]
        self._vocabulary = replace(self._vocabulary, positions=min(known, default=None))

    def _run(self, servers: Sequence[Server], requests: Iterator[Prepared], call: _Call) -> None:
        looked_at = list(islice(requests, _LOOKED_AT))
        completions = fmean([one.request.sampled_by(call.sampling).drawn for one in looked_at] or [1])
        requests = chain(looked_at, requests)
        most = open_requests(self._retry.sequences, completions)
        most = min(most, max(1, _sockets() // len(servers)))
        slots = [Slot(server, asyncio.Semaphore(most), most) for server in servers]
        try:
            asyncio.run(self._ask_all(slots, requests, call))
        except BaseExceptionGroup as group:  # of the task group; the first is as good as any
            first: BaseException = group
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            if isinstance(first, VZeroError):
                raise first from None
            if failure := machine_failure(first, "the answers"):
                raise failure from first
            raise RolloutError(
                f"The servers could not be asked ({type(first).__name__}: {first})."
            ) from first

    async def _ask_all(self, slots: Sequence[Slot], requests: Iterator[Prepared], call: _Call) -> None:
        """Hand every request to a server that is not full, as soon as there is one."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=POOL)
        room, pictures = asyncio.Event(), Pictures()
        # Of each server: sessions, made as they are needed, each once for every request it may take now.
        free = [list[httpx.AsyncClient]() for _ in slots]

        async def answered(http: httpx.AsyncClient, number: int, home: int, request: Prepared) -> None:
            sampling = request.request.sampled_by(call.sampling)

            async def body() -> dict[str, Any]:
                url = None if request.picture is None else await pictures.url(request)
                return self._body(request.request, url, sampling)

            def read(data: bytes, model: str) -> Rollout:
                return call.read(data, model, sampling)

            try:
                answer: Answer = await self._ask(http, slots, home, body, read)
            except ContextOverflow as error:
                answer = error
            free[home].append(http)
            slots[home].count(request.request, -1)
            room.set()
            call.finished(number, answer)

        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            number = 0
            while (request := await asyncio.to_thread(next, requests, None)) is not None:
                while all(slot.full for slot in slots):
                    room.clear()
                    await room.wait()
                home = home_of(request.digest, len(slots))
                if slots[home].full:
                    others = (i for i, slot in enumerate(slots) if not slot.full)
                    home = min(others, key=lambda i: slots[i].open - slots[i].most)
                slots[home].count(request.request, 1)
                if not free[home]:
                    free[home] += [await stack.enter_async_context(http_client.session(limits))] * POOL
                group.create_task(answered(free[home].pop(), number, home, request))
                number += 1

    def _body(self, request: Request, url: str | None, sampling: SamplingConfig) -> dict[str, Any]:
        return request_body(request, url, sampling, self._vocabulary)

    async def _ask(
        self,
        http: httpx.AsyncClient,
        slots: Sequence[Slot],
        home: int,
        body: Body,
        read: Callable[[bytes, str], Rollout],
    ) -> Rollout:
        retry, reason, torn = self._retry, "", False
        attempt = 0
        while attempt <= retry.retries:
            slot = slots[(home + attempt) % len(slots)]
            try:
                async with slot.gate:
                    async with slot.lock:  # not while it is being recovered
                        seen, endpoint = slot.recoveries, slot.server.endpoint
                    sent, answered, most = await body(), slot.answered, slot.most
                    data = await _post(http, endpoint, sent, retry.attempt_seconds)
                    rollout = read(data, endpoint.model)
                    slot.answered, slot.lost = slot.answered + 1, False
                    return rollout
            except LateReply as error:
                reason = str(error)
                slot.most = min(slot.most, max(most // 2, min(most, _FEWEST)))  # once for all that waited
                if slot.answered > answered:  # it was busy with the others: fewer at a time, and again
                    continue
            except NoReply as error:
                reason, slot.lost = str(error), True
            except BadReply as error:
                if torn or not isinstance(error, TornReply) or attempt == retry.retries:
                    raise RolloutError(
                        f"The Solver's server {endpoint.url} answers what cannot be a vote: "
                        f"{endpoint.shown(str(error))}; see docs/engines.md for the server that it must be."
                    ) from None
                torn = True
            if attempt < retry.retries:
                await slot.recover(seen)
                await asyncio.sleep(min(retry.pause_seconds * 2**attempt, LONGEST_PAUSE))
            attempt += 1
        raise InterruptedRun(
            f"The Solver's server {endpoint.url} gave no usable answer in {retry.retries + 1} attempts: "
            f"{reason}; see that it runs, then run the same command again to resume."
        )


def _sockets() -> int:
    """How many connections this process may have, beside 200 other files; its limit is raised first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _UNLIMITED if hard == resource.RLIM_INFINITY else max(1, hard - 200)


async def _post(http: httpx.AsyncClient, endpoint: Endpoint, body: dict[str, Any], seconds: float) -> bytes:
    """One request's reply, whole."""
    most = _BYTES_BESIDE + _BYTES_A_TOKEN * body["n"] * body["max_completion_tokens"]
    sent = {**body, "model": endpoint.model}
    reply = await http_client.send(http, endpoint, CHAT, most, seconds, sent)
    if reply.status == 200:
        return reply.data
    raise _refusal(endpoint, reply)


def _refusal(endpoint: Endpoint, reply: Reply) -> VZeroError:
    said = f"HTTP {reply.status}: {endpoint.shown(reply.data)}"
    if reply.status in (401, 403):
        return InputError(
            f"The server {endpoint.url} refuses the bearer token (HTTP {reply.status}); put the right one "
            "into the environment variable VZERO_SOLVER_TOKEN, then run the same command again."
        )
    if reply.status in _REFUSED and says_overflow(reply.data[:10_000].decode("utf-8", "replace")):
        return ContextOverflow(f"The server {endpoint.url} refuses a request ({said}).")
    if reply.status in _REFUSED:
        return RolloutError(f"The server {endpoint.url} refuses a request ({said}).")
    return InputError(
        f"There is no model {endpoint.model} at {endpoint.url} ({said}); give the address of a server that "
        "serves it."
    )


def home_of(digest: bytes, servers: int) -> int:
    """The server that questions about an image (given by its hash) are sent to first: the same for the same
    picture, everywhere."""
    return int.from_bytes(digest[:8], "big") % servers
