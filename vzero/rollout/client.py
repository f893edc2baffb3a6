"""Rollouts by a model behind one or several OpenAI-compatible servers (vLLM's own): the client.

One request a question, with all its n completions; the server is chosen by the hash of the image, so that a
server which has encoded an image once meets its other questions too. An answer is believed only when it is
whole and from the model that was asked: right model id, n choices with token ids, each ended, no forbidden
token. Anything else, a refused connection or an attempt that takes too long is a failed attempt. Failed
attempts are repeated a bounded number of times, on the next server where there is one; then the stage ends as
interrupted (exit 75). There is no path from a failed attempt to a vote.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from PIL import Image

from vzero.config import SamplingConfig
from vzero.errors import InterruptedRun, RolloutError, VZeroError
from vzero.rollout import encoding
from vzero.rollout.protocol import Message, Request, Rollout
from vzero.rollout.vocabulary import Vocabulary
from vzero.runtime.seeding import derive

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
LONGEST_PAUSE = 30.0  # seconds between two attempts
_NOT_OURS = frozenset({400, 413, 422})  # the request itself is refused: asking again cannot help
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
    """`attempt_seconds` bounds one attempt from its first byte to the last of its reply, `retries` the
    attempts after the first, `pause_seconds` the first pause between two (it doubles), `together` the
    requests open at one server."""

    attempt_seconds: float
    retries: int
    pause_seconds: float = 1.0
    together: int = 64


Reader = Callable[[bytes, str], Rollout]  # (body of a reply, model that was asked); raises BadReply


class BadReply(Exception):
    """A reply that cannot be believed; the message says why."""


@dataclass
class _Line:
    """One server during one `generate`: its gate, and how often it was brought back."""

    server: Server
    gate: asyncio.Semaphore
    lock: asyncio.Lock
    recoveries: int = 0


class ServedEngine:
    """Implements `Engine` for servers of one model."""

    def __init__(self, servers: Sequence[Server], vocabulary: Vocabulary, patience: RetryPolicy) -> None:
        """Nothing is asked yet; see `check`."""
        self._servers = tuple(servers)
        self._vocabulary = vocabulary
        self._patience = patience

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """Answer every request, in order; see `Engine.generate`. `Completion.logprobs` are empty: nobody
        reads those of votes.

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
            bodies.append(_body(request, url, sampling, self._vocabulary))
            homes.append(home_of(url or work.prompts[number].text, len(self._servers)))
        return self._run(
            self._servers,
            bodies,
            homes,
            lambda data, model: read_reply(data, model, sampling, self._vocabulary),
        )

    def check(self) -> None:
        """Ask every server for one token, and compare the prompt that it read with the checkpoint's own, id
        by id.

        Raises:
            InterruptedRun: one does not answer, serves another model or renders prompts otherwise.
        """
        messages = (Message("user", "A"),)
        one = SamplingConfig(temperature=0.0, max_new_tokens=1)
        request = Request(messages, None, 0)
        text = encoding.collect(self._vocabulary.processor, [request]).prompts[0].text
        processor = self._vocabulary.processor
        wanted = processor.tokenizer(text, **encoding.special_tokens(processor, text))["input_ids"]
        body = _body(request, None, one, self._vocabulary)

        def read(data: bytes, model: str) -> Rollout:
            rollout = read_reply(data, model, one, self._vocabulary)
            if json.loads(data)["prompt_token_ids"] != wanted:
                raise InterruptedRun(
                    "A server reads another prompt than the checkpoint's chat template writes; start it with that template and "
                    "--chat-template-content-format openai, then run the same command again."
                )
            return rollout

        for server in self._servers:
            self._run([server], [body], [0], read)

    def _run(
        self, servers: Sequence[Server], bodies: Sequence[dict[str, Any]], homes: Sequence[int], read: Reader
    ) -> list[Rollout]:
        try:
            return asyncio.run(self._all(servers, bodies, homes, read))
        except BaseExceptionGroup as group:  # of the task group; the first is as good as any
            first: BaseException = group
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            if isinstance(first, VZeroError):
                raise first from None
            raise RolloutError(
                f"The servers could not be asked: {type(first).__name__}: {shown(str(first))}."
            ) from first

    async def _all(
        self, servers: Sequence[Server], bodies: Sequence[dict[str, Any]], homes: Sequence[int], read: Reader
    ) -> list[Rollout]:
        together = self._patience.together
        lines = [_Line(server, asyncio.Semaphore(together), asyncio.Lock()) for server in servers]
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=together * len(lines))
        # No proxy and no .netrc from the environment: a request with a token and a picture goes where it was
        # sent.
        async with (
            httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as http,
            asyncio.TaskGroup() as group,
        ):
            tasks = [
                group.create_task(self._answer(http, lines, home, body, read))
                for body, home in zip(bodies, homes, strict=True)
            ]
        return [task.result() for task in tasks]

    async def _answer(
        self, http: httpx.AsyncClient, lines: Sequence[_Line], home: int, body: dict[str, Any], read: Reader
    ) -> Rollout:
        patience, reason = self._patience, ""
        for attempt in range(patience.retries + 1):
            line = lines[(home + attempt) % len(lines)]
            try:
                async with line.gate:
                    async with line.lock:  # not while it is being brought back
                        seen, endpoint = line.recoveries, line.server.endpoint
                    async with asyncio.timeout(patience.attempt_seconds):
                        return read(await _post(http, endpoint, body), endpoint.model)
            except TimeoutError:
                reason = f"no whole reply within {patience.attempt_seconds:g} s"
            except httpx.HTTPError as error:
                reason = (
                    f"{type(error).__name__}: {shown(str(error))}" if str(error) else type(error).__name__
                )
            except BadReply as error:
                reason = str(error)
            if attempt < patience.retries:
                await _recover(line, seen)
                await asyncio.sleep(min(patience.pause_seconds * 2**attempt, LONGEST_PAUSE))
        raise InterruptedRun(
            f"The Solver's server {endpoint.url} gave no usable answer in {patience.retries + 1} attempts: {reason}; "
            "see that it runs, then run the same command again to resume."
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
    if response.status_code in (401, 403):
        raise InterruptedRun(
            f"The server {endpoint.url} refuses the bearer token (HTTP {response.status_code}); put the right one into the environment "
            "variable VZERO_SOLVER_TOKEN, then run the same command again."
        )
    if response.status_code in _NOT_OURS:
        raise RolloutError(
            f"The server {endpoint.url} refuses a request (HTTP {response.status_code}): {shown(data)}."
        )
    if response.status_code != 200:
        raise BadReply(f"HTTP {response.status_code}: {shown(data)}")
    return bytes(data)


async def _recover(line: _Line, seen: int) -> None:
    """Bring a server back once for all requests that failed on it together."""
    async with line.lock:
        if line.recoveries == seen:
            await asyncio.to_thread(line.server.recover)
            line.recoveries += 1


def read_reply(data: bytes, model: str, sampling: SamplingConfig, vocabulary: Vocabulary) -> Rollout:
    """The rollout in the body of a chat completion.

    Raises:
        BadReply: it is not JSON, not of `model`, not of n completions, or a completion is not whole.
    """
    try:
        reply = json.loads(data)
    except ValueError:
        raise BadReply(f"a reply of {len(data)} bytes that is not JSON") from None
    try:
        if reply["model"] != model:
            raise BadReply(f"a reply from the model {shown(str(reply['model']))} where {model} was asked")
        n = 1 if sampling.temperature == 0 else sampling.n
        choices = {choice["index"]: choice for choice in reply["choices"]}
        if sorted(choices) != list(range(n)) or len(reply["choices"]) != n:
            raise BadReply(f"a reply of {len(reply['choices'])} completions where {n} were asked")
        completions = [_completion(choices[i], sampling, vocabulary) for i in range(n)]
        prompt_tokens = reply["usage"]["prompt_tokens"]
        if type(prompt_tokens) is not int or prompt_tokens != len(reply["prompt_token_ids"]):
            raise BadReply("a reply whose prompt ids and token count disagree")
    except (KeyError, TypeError, AttributeError, RolloutError) as error:
        raise BadReply(
            f"a reply that is not a whole chat completion with token ids ({type(error).__name__}: {shown(str(error))})"
        ) from None
    return Rollout(prompt_tokens, tuple(completions * (sampling.n if n == 1 else 1)))


def _completion(choice: dict[str, Any], sampling: SamplingConfig, vocabulary: Vocabulary) -> Any:
    ids, end = choice["token_ids"], choice["finish_reason"]
    if not isinstance(ids, list) or any(type(one) is not int or one < 0 for one in ids):
        raise BadReply("a completion without token ids")
    if len(ids) > sampling.max_new_tokens:
        raise BadReply(f"a completion of {len(ids)} tokens where {sampling.max_new_tokens} were the limit")
    if end == "length" and len(ids) < sampling.max_new_tokens:
        raise RolloutError(
            "cut off early: prompt and completion exceed the server's context (engine.max_model_len)"
        )
    return vocabulary.completion(ids, (), end)


def _body(
    request: Request, url: str | None, sampling: SamplingConfig, vocabulary: Vocabulary
) -> dict[str, Any]:
    """A chat request without its model, its picture at `url`. Every sampling parameter is said, so that no
    default of the server's enters. A prefill answer is a last turn that the server leaves open."""
    picture = {"type": "image_url", "image_url": {"url": url}}
    turns = encoding.conversation(
        (*request.messages, *encoding.answer_begun(request.prefill)), url is not None
    )
    for turn in turns:
        turn["content"] = [picture if part["type"] == "image" else part for part in turn["content"]]
    greedy = sampling.temperature == 0
    return {
        "messages": turns,
        "n": 1 if greedy else sampling.n,
        "temperature": sampling.temperature,
        "top_p": 1.0 if greedy else sampling.top_p,
        "top_k": 0 if greedy else sampling.top_k,
        "min_p": 0.0,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_completion_tokens": sampling.max_new_tokens,
        "seed": derive(request.seed, "vllm"),
        "stop_token_ids": sorted(vocabulary.eos),
        "logit_bias": {str(token): bias for token, bias in vocabulary.bias.items()},
        "add_generation_prompt": not request.prefill,
        "continue_final_message": bool(request.prefill),
        "return_token_ids": True,
        "stream": False,
    }


def data_url(image: Image.Image) -> str:
    """An image as a lossless data URL."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def home_of(content: str, servers: int) -> int:
    """The server that questions about an image (given as its data URL) are sent to first: the same for the
    same picture, everywhere."""
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") % servers


def shown(text: str | bytes | bytearray) -> str:
    """The beginning of what a server sent, on one line and without control characters."""
    raw = text if isinstance(text, str) else bytes(text[:1000]).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in " ".join(raw.split()))[:200]
