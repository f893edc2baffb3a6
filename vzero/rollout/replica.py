"""Engines of one model on several machines: how a stage finds them, and a server of the transformers engine.

That server speaks the chat format of vLLM's and wants a bearer token. It is sent every request's own seed, so
an answer is the one that the engine would have given in the asking process. Requests that come without a gap
of `MORE_SECONDS` are decoded together; one that comes later waits until those have ended.
"""

from __future__ import annotations

import base64
import hmac
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from PIL import Image

from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import RolloutError, machine_failure
from vzero.rollout import template
from vzero.rollout.client import ServedEngine
from vzero.rollout.endpoints import RemoteServer, replicas_of
from vzero.rollout.protocol import Answer, ContextOverflow, Engine, Message, Request, Rollout
from vzero.rollout.server import checked
from vzero.rollout.streaming import whole
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime.http_client import Endpoint

MORE_SECONDS = 0.05  # that an engine with free slots waits for the next request
SILENT_SECONDS = 60.0  # after which a connection that sends or takes nothing is closed
_MOST = 256 << 20  # bytes of a request


class ReplicaEngine(ServedEngine):
    """Implements `Engine` over servers of the transformers engine."""

    def _body(self, request: Request, url: str | None, sampling: SamplingConfig) -> dict[str, Any]:
        return {**super()._body(request, url, sampling), "seed": request.seed}


def open_replicas(config: EngineConfig, checkpoint: Path) -> ServedEngine | None:
    """An engine over the servers that there are for `checkpoint`, None where there are none.

    Raises:
        InterruptedRun, InputError, RolloutError: see `ServedEngine.check`.
    """
    if (found := replicas_of(checkpoint)) is None:
        return None
    servers = [RemoteServer(Endpoint(url, found.model, found.token)) for url in found.urls]
    kind = ReplicaEngine if config.name == "transformers" else ServedEngine
    return checked(config, servers, read_vocabulary(checkpoint, config.thinking), kind)


@dataclass(frozen=True)
class _Job:
    request: Request
    answer: Future[Answer] = field(default_factory=Future)


class Asked:
    """An engine that many threads ask at once: a thread of its own streams what they bring."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._jobs = engine, SimpleQueue[_Job]()
        threading.Thread(target=self._serve, daemon=True).start()

    def ask(self, request: Request, sampling: SamplingConfig) -> Answer:
        """The answer to one request; returns when it is there.

        Raises:
            RolloutError: see `Engine.stream`.
        """
        job = _Job(replace(request, sampling=sampling))
        self._jobs.put(job)
        return job.answer.result()

    def _serve(self) -> None:
        while True:
            first = self._jobs.get()
            taken: list[_Job] = []

            def answered(number: int, answer: Answer, taken: list[_Job] = taken) -> None:
                taken[number].answer.set_result(answer)

            try:
                assert first.request.sampling is not None
                self._engine.stream(self._arriving(first, taken), first.request.sampling, answered)
                problem: Exception = RolloutError("The engine owed an answer.")
            except Exception as error:
                problem = error
            for job in (first, *taken):  # an engine may fail before it takes the first
                if not job.answer.done():
                    job.answer.set_exception(problem)

    def _arriving(self, job: _Job, taken: list[_Job]) -> Iterator[Request]:
        """Requests, until none comes for a moment."""
        while True:
            taken.append(job)
            yield job.request
            try:
                job = self._jobs.get(timeout=MORE_SECONDS)
            except Empty:
                return


def read_request(body: dict[str, Any]) -> tuple[Request, SamplingConfig]:
    """What a body of `chat.request_body` asks for."""
    messages, image, prefill = list[Message](), None, ""
    for turn in body["messages"]:
        text = ""
        for part in turn["content"]:
            if part["type"] == "text":
                text = part["text"]
            else:
                data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
                image = Image.open(io.BytesIO(data), formats=["PNG"]).convert("RGB")
        messages.append(Message(turn["role"], text))
    if body["continue_final_message"]:
        prefill = messages.pop().text
    names = ("n", "temperature", "top_p", "top_k", "repetition_penalty")
    sampling = SamplingConfig(max_new_tokens=body["max_completion_tokens"], **{k: body[k] for k in names})
    return Request(tuple(messages), image, body["seed"], prefill), sampling


def reply_of(processor: Any, request: Request, rollout: Rollout, model: str) -> dict[str, Any]:
    """The chat completion with `rollout`. Of a prompt with a picture only the number of ids is read."""
    ids = [0] * rollout.prompt_tokens
    if request.image is None:
        text = template.render(processor, request.messages, with_image=False, prefill=request.prefill)
        ids = template.token_ids(processor, text)
    choices = [
        {"index": i, "token_ids": list(one.token_ids), "finish_reason": one.finish_reason}
        for i, one in enumerate(rollout.completions)
    ]
    usage = {"prompt_tokens": rollout.prompt_tokens}
    return {"model": model, "choices": choices, "prompt_token_ids": ids, "usage": usage}


def _answered(asked: Asked, processor: Any, model: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and reply. 400 is of the request itself and final; after 503 the client asks another server."""
    try:
        request, sampling = read_request(json.loads(body))
    except Exception as error:
        return 503 if machine_failure(error, "a request") else 400, _told(error)
    try:
        answer = whole(asked.ask(request, sampling))
        return 200, reply_of(processor, request, answer, model)
    except ContextOverflow as error:
        return 400, {"error": f"maximum context length is exceeded: {error}"}
    except Exception as error:
        return 503, _told(error)


def _told(error: Exception) -> dict[str, Any]:
    return {"error": f"{type(error).__name__}: {error}"}


def handler_of(asked: Asked, processor: Any, model: str, token: str) -> type[BaseHTTPRequestHandler]:
    """Answers whoever has the token."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = SILENT_SECONDS

        def log_message(self, *_: object) -> None:
            """Nothing: a line a request would fill the log."""

        def do_GET(self) -> None:
            if self.path == "/health":
                self._send(200, {})
            elif self._allowed():
                self._send(200, {"data": [{"id": model}]})

        def do_POST(self) -> None:
            if not self._allowed():
                return
            size = self.headers.get("Content-Length", "")
            if not size.isdecimal():
                self._refuse(400, "no length")
            elif len(size) > len(str(_MOST)) or int(size) > _MOST:
                self._refuse(413, "too large")
            else:
                self._send(*_answered(asked, processor, model, self.rfile.read(int(size))))

        def _allowed(self) -> bool:
            given = self.headers.get("Authorization", "").encode()
            if hmac.compare_digest(given, f"Bearer {token}".encode()):
                return True
            self._refuse(401, "no")
            return False

        def _refuse(self, status: int, why: str) -> None:
            """Without reading what follows."""
            self.close_connection = True
            self._send(status, {"error": why})

        def _send(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


def serve(engine: Engine, processor: Any, host: str, port: int, model: str, token: str) -> None:
    """Answer at `host`:`port` until this process ends."""
    _Server((host, port), handler_of(Asked(engine), processor, model, token)).serve_forever()
