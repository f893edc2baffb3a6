"""A small real HTTP server that speaks as much of OpenAI's interface as the client uses, and can fail in many
ways.

As a process: `python fake_server.py MODEL PORT`, the token in VLLM_API_KEY. In a thread: `serving(...)`.
Standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EOS = 2  # of tests.tiny_model
WORD = 20  # the first of the words it answers with
Fault = Callable[[BaseHTTPRequestHandler, dict[str, Any]], bool]  # whether it took over


def reply(body: dict[str, Any]) -> dict[str, Any]:
    """What a right server says: every completion depends on the seed and its index alone."""
    choices = []
    for index in range(body["n"]):
        drawn = hashlib.sha256(f"{body['seed']} {index}".encode()).digest()
        ids = [WORD + byte % 8 for byte in drawn[:3]] + [EOS]
        cut = ids[: body["max_completion_tokens"]]
        choices.append(
            {
                "index": index,
                "finish_reason": "stop" if cut == ids else "length",
                "token_ids": cut,
                "message": {"content": "x"},
            }
        )
    prompt = [1] * (4 if "image_url" not in json.dumps(body["messages"]) else 13)
    return {
        "model": body["model"],
        "choices": choices[::-1],
        "prompt_token_ids": prompt,
        "usage": {"prompt_tokens": len(prompt)},
    }


def send(handler: BaseHTTPRequestHandler, value: Any, status: int = 200) -> None:
    """One JSON reply."""
    data = json.dumps(value).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def handler_for(
    model: str, token: str, fault: Fault | None, seen: list[dict[str, Any]], context: int | None = None
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/health":
                send(self, {})
            elif self.headers.get("Authorization") != f"Bearer {token}":
                send(self, {"error": "who are you"}, 401)
            else:
                send(self, {"data": [{"id": model, **({"max_model_len": context} if context else {})}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body)
            if self.headers.get("Authorization") != f"Bearer {token}":
                send(self, {"error": "who are you"}, 401)
            elif fault is None or not fault(self, body):
                send(self, reply(body))

    return Handler


class Server(ThreadingHTTPServer):
    """Takes all connections of a test at once; with the usual five in the queue a busy machine turns some
    away."""

    daemon_threads = True
    request_queue_size = 128


@contextmanager
def serving(
    model: str = "m",
    token: str = "t",
    fault: Fault | None = None,
    port: int = 0,
    context: int | None = None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server in a thread: its address and the bodies it was sent."""
    seen: list[dict[str, Any]] = []
    with listening(handler_for(model, token, fault, seen, context), port) as url:
        yield url, seen


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[str]:
    """The address at which `handler` answers, from a thread."""
    server = Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    if len(sys.argv) > 3:
        time.sleep(float(sys.argv[3]))
    Server(
        ("127.0.0.1", int(sys.argv[2])), handler_for(sys.argv[1], os.environ["VLLM_API_KEY"], None, [])
    ).serve_forever()
