"""The client of served models against a real HTTP server on loopback that can fail in every way a server
does."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpcore
import pytest
from PIL import Image

from tests import fake_server, tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError, InterruptedRun, RolloutError, VZeroError
from vzero.presets import content_differences, load_preset
from vzero.rollout import ContextOverflow, Message, Request, endpoints, serve, server
from vzero.rollout.client import RetryPolicy, ServedEngine
from vzero.rollout.endpoints import RemoteServer
from vzero.rollout.server import elsewhere, model_name
from vzero.rollout.vocabulary import Vocabulary
from vzero.runtime.http_client import Endpoint
from vzero.runtime.seeding import derive
from vzero.selfplay import plan

WORDS = tiny_model.vocabulary()
VOTES = SamplingConfig(n=10, temperature=1.0, top_p=0.9, top_k=40, repetition_penalty=1.1, max_new_tokens=40)
CALM = RetryPolicy(
    attempt_seconds=60, retries=1, pause_seconds=0.01
)  # on a busy machine a good server may be slow
HASTY = RetryPolicy(attempt_seconds=0.6, retries=1, pause_seconds=0.01)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    eos = WORDS.index("<eos>")
    forbidden = frozenset(WORDS.index(word) for word in tiny_model.SPECIAL) - {eos}
    return Vocabulary(tiny_model.processor(WORDS), frozenset({eos}), forbidden, 256)


def request(image: int, seed: int, text: str = "how many red ?") -> Request:
    return Request((Message("system", "solve"), Message("user", text)), tiny_model.picture(image), seed)


def engine(
    vocabulary: Vocabulary,
    *urls: str,
    model: str = "m",
    token: str | None = "t",
    retry: RetryPolicy = CALM,
) -> ServedEngine:
    return ServedEngine([RemoteServer(Endpoint(url, model, token)) for url in urls], vocabulary, retry)


def test_ten_completions_of_one_request_with_every_parameter_said(vocabulary: Vocabulary) -> None:
    with fake_server.serving() as (url, seen):
        rollouts = engine(vocabulary, url).generate([request(0, 5), request(1, 6)], VOTES)
    assert len(seen) == 2  # one request a question
    body = next(one for one in seen if one["seed"] == derive(5, "vllm"))
    assert (body["n"], body["temperature"], body["top_p"], body["top_k"], body["repetition_penalty"]) == (
        10,
        1.0,
        0.9,
        40,
        1.1,
    )
    assert (body["max_completion_tokens"], body["model"], body["stream"], body["stop_token_ids"]) == (
        40,
        "m",
        False,
        [2],
    )
    assert body["logit_bias"] == {str(i): -100.0 for i in range(10) if i != 2}
    system, user = body["messages"]
    assert system == {"role": "system", "content": [{"type": "text", "text": "solve"}]}
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    data = base64.b64decode(user["content"][0]["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).tobytes() == tiny_model.picture(0).tobytes()
    for one, rollout in zip((5, 6), rollouts, strict=True):
        assert rollout.prompt_tokens == 13
        expected = sorted(
            fake_server.reply({**body, "seed": derive(one, "vllm")})["choices"],
            key=lambda choice: choice["index"],
        )
        assert [list(c.token_ids) for c in rollout.completions] == [
            choice["token_ids"] for choice in expected
        ]
        for completion in rollout.completions:
            assert completion.text == " ".join(WORDS[i] for i in completion.token_ids[:-1])
            assert completion.finish_reason == "stop" and completion.logprobs == ()


def test_a_request_is_sent_its_own_sampling(vocabulary: Vocabulary) -> None:
    """And a server is given as many requests as fill it: of one and of ten in turn, 16 sequences and a
    quarter more are four."""
    own, let = SamplingConfig(temperature=0.0, max_new_tokens=3), threading.Semaphore(0)
    requests = [replace(request(i, i), sampling=None if i % 2 else own) for i in range(8)]

    def held(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        assert let.acquire(timeout=30)
        return False

    told: dict[int, Any] = {}
    with fake_server.serving(fault=held) as (url, seen):
        asking = engine(vocabulary, url, retry=RetryPolicy(60, 0, 0.01, sequences=16))
        thread = threading.Thread(target=asking.stream, args=(requests, VOTES, told.__setitem__))
        thread.start()
        deadline = time.monotonic() + 30
        while len(seen) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(seen) == 4
        for _ in requests:
            let.release()
        thread.join(30)
    by_seed = {body["seed"]: body for body in seen}
    for i in range(8):
        body, drawn = by_seed[derive(i, "vllm")], told[i].completions
        assert (body["n"], body["temperature"], body["max_completion_tokens"]) == (
            (10, 1.0, 40) if i % 2 else (1, 0.0, 3)
        )
        assert len(drawn) == body["n"]


def test_greedy_asks_for_one_and_gives_n_alike(vocabulary: Vocabulary) -> None:
    with fake_server.serving() as (url, seen):
        (rollout,) = engine(vocabulary, url).generate(
            [request(0, 5)], SamplingConfig(n=3, temperature=0.0, max_new_tokens=2)
        )
    assert seen[0]["n"] == 1 and len(rollout.completions) == 3
    assert len({c.token_ids for c in rollout.completions}) == 1
    assert {c.finish_reason for c in rollout.completions} == {"length"}


def test_the_image_alone_chooses_the_server(vocabulary: Vocabulary) -> None:
    with fake_server.serving() as (one, seen_one), fake_server.serving() as (other, seen_other):
        engine(vocabulary, one, other).generate([request(i % 8, i) for i in range(32)], VOTES)
    pictures = [
        {body["messages"][1]["content"][0]["image_url"]["url"] for body in seen}
        for seen in (seen_one, seen_other)
    ]
    assert len(seen_one) + len(seen_other) == 32 and all(pictures)
    assert not pictures[0] & pictures[1]


def test_a_server_that_did_not_reply_holds_up_one_request_at_a_time(vocabulary: Vocabulary) -> None:
    """One server drops a connection and is silent from then on: one request waits for it, the other server
    answers all others."""
    held, came = threading.Event(), list[int]()

    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        came.append(body["seed"])
        if len(came) == 1:
            handler.close_connection = True
            return True
        return not held.wait(30)

    told: dict[int, Any] = {}
    with fake_server.serving(fault=fault) as (bad, _), fake_server.serving() as (good, _):
        asking = engine(vocabulary, bad, good, retry=RetryPolicy(60, 3, 0.01, sequences=16))
        requests = [request(i % 8, i) for i in range(24)]
        thread = threading.Thread(target=asking.stream, args=(requests, VOTES, told.__setitem__), daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while len(told) < 23 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(told) == 23 and len(came) == 2
        held.set()
        thread.join(30)
        alone = engine(vocabulary, good).generate(requests, VOTES)
    assert [told[i] for i in range(24)] == alone


def test_servers_are_kept_full_though_one_picture_would_go_to_one_of_them(vocabulary: Vocabulary) -> None:
    """All questions are about one picture. Each server takes two requests at a time; when both are full the
    next is not read, and whichever gets free takes it."""
    busy, most, read, held = [0, 0], [0, 0], [], threading.Semaphore(0)

    def of(number: int) -> fake_server.Fault:
        def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
            busy[number] += 1
            most[number] = max(most[number], busy[number])
            assert held.acquire(timeout=30)
            busy[number] -= 1
            return False

        return fault

    def source() -> Iterator[Request]:
        for i in range(12):
            read.append(i)
            yield request(0, i)

    told: dict[int, Any] = {}
    with fake_server.serving(fault=of(0)) as (one, seen_one), fake_server.serving(fault=of(1)) as (two, seen):
        calm = RetryPolicy(60, 0, 0.01, sequences=16)  # of ten each, and a quarter more: two requests
        asking = engine(vocabulary, one, two, retry=calm)
        thread = threading.Thread(target=asking.stream, args=(source(), VOTES, told.__setitem__))
        thread.start()
        deadline = time.monotonic() + 30
        while sum(busy) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert busy == [2, 2] and len(read) <= 5 and not told
        for _ in range(12):
            held.release()
        thread.join(30)
        alone = ServedEngine([RemoteServer(Endpoint(one, "m", "t"))], vocabulary, CALM)
        for _ in range(12):
            held.release()
        expected = alone.generate([request(0, i) for i in range(12)], VOTES)
    assert [told[i] for i in range(12)] == expected and most == [2, 2] and len(seen) >= 2 and seen_one


def test_what_a_reply_costs_does_not_grow_with_the_connections(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each request and each reply httpcore looks at every connection of a session, and for each free one
    at all of them again. 200 are open here at first, then fewer and fewer."""
    looks, is_idle = [], httpcore.AsyncHTTPConnection.is_idle
    monkeypatch.setattr(httpcore.AsyncHTTPConnection, "is_idle", lambda one: looks.append(1) or is_idle(one))
    open_now, all_open = [], threading.Event()

    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        open_now.append(1)
        if len(open_now) >= 200:
            all_open.set()
        return not all_open.wait(60)

    with fake_server.serving(fault=fault) as (url, _):
        asking = engine(vocabulary, url, retry=RetryPolicy(60, 0, 0.01, sequences=2000))
        asking.generate([request(i % 5, i) for i in range(200)], VOTES)
    assert len(looks) / 200 < 1000  # about 110; in one session 20,000


def test_a_slow_server_is_given_fewer_at_a_time(vocabulary: Vocabulary) -> None:
    """It takes one request at a time, .15 s each: of 24 handed to it together most wait longer than an
    attempt may, behind others that are answered. That is no fault, so no retry is spent on it."""
    one_by_one = threading.Lock()

    def slow(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        with one_by_one, suppress(OSError):
            handler.connection.setblocking(False)
            with suppress(BlockingIOError):  # still there, and says nothing
                if not handler.connection.recv(1, socket.MSG_PEEK):
                    return True  # whoever asked is gone; vLLM stops then as well
            handler.connection.setblocking(True)
            time.sleep(0.15)
            fake_server.send(handler, fake_server.reply(body))
        return True

    requests = [request(i, i) for i in range(24)]
    with fake_server.serving(fault=slow) as (url, seen):
        once = RetryPolicy(1.5, 0, 0.01, sequences=300)
        found = engine(vocabulary, url, retry=once).generate(requests, VOTES)
    assert len(found) == 24 and len(seen) > 24
    with fake_server.serving() as (url, _):
        assert found == engine(vocabulary, url).generate(requests, VOTES)


OVERFLOWS = {
    "before pictures are counted": "This model's maximum context length is 6144 tokens. However, you "
    "requested 4096 output tokens and your prompt contains at least 2200 input tokens.",
    "after": "The decoder prompt (length 16400) is longer than the maximum model length of 6144. Make sure "
    "that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
}


@pytest.mark.parametrize("said", OVERFLOWS.values(), ids=OVERFLOWS)
def test_a_request_that_exceeds_the_servers_context_is_told_and_never_repeated(
    vocabulary: Vocabulary, said: str
) -> None:
    poison = derive(3, "vllm")

    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        if body["seed"] == poison:
            fake_server.send(handler, {"error": {"message": said, "code": 400}}, 400)
        return body["seed"] == poison

    told: dict[int, Any] = {}
    with fake_server.serving(fault=fault) as (url, seen):
        engine(vocabulary, url).stream(iter([request(0, i) for i in range(6)]), VOTES, told.__setitem__)
        with pytest.raises(ContextOverflow) as error:
            engine(vocabulary, url).generate([request(0, 3)], VOTES)
    assert [isinstance(told[i], ContextOverflow) for i in range(6)] == [i == 3 for i in range(6)]
    assert len(seen) == 7 and error.value.exit_code == 1


def test_an_answer_cut_short_by_the_servers_context_is_an_overflow(vocabulary: Vocabulary) -> None:
    """vLLM takes a prompt that fits and ends its completion where the context ends; how long that is, its
    list of models says. The tiny prompt has 13 tokens, an answer may have 40."""

    def cut(reply: dict[str, Any]) -> None:
        for one in reply["choices"]:
            one.update(finish_reason="length", token_ids=one["token_ids"][:2])

    for context, overflows in ((52, True), (53, False)):
        with fake_server.serving(fault=_changed(cut), context=context) as (url, seen):
            found = ServedEngine(
                [RemoteServer(Endpoint(url, "m", "t"))], replace(vocabulary, positions=None), CALM
            )
            found.learn_context()
            with pytest.raises(ContextOverflow if overflows else RolloutError):
                found.generate([request(0, 1)], VOTES)
            assert len(seen) == 1


def _status(code: int) -> fake_server.Fault:
    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        handler.send_response(code)
        handler.send_header("Content-Length", "11")
        handler.end_headers()
        handler.wfile.write(b"no \x1b[31mway")
        return True

    return fault


def _changed(change: Callable[[dict[str, Any]], None]) -> fake_server.Fault:
    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        value = fake_server.reply(body)
        change(value)
        fake_server.send(handler, value)
        return True

    return fault


def _hang(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
    time.sleep(1.5)
    return True


def _trickle(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
    """A byte now and then: no single read ever waits for long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    try:
        for _ in range(30):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass
    handler.close_connection = True
    return True


def _torn(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
    data = json.dumps(fake_server.reply(body)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True
    return True


def _flood(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**12))
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b" " * 100_000)
    except OSError:
        pass
    handler.close_connection = True
    return True


def _raw(data: bytes, **headers: str) -> fake_server.Fault:
    """A whole reply of these very bytes."""

    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        handler.send_response(200)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(data)
        handler.close_connection = True
        return True

    return fault


def _slow_headers(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(60):
            handler.wfile.write(b"X-%d: 1\r\n" % number)
            handler.wfile.flush()
            time.sleep(0.05)
    handler.close_connection = True
    return True


def _first(reply: dict[str, Any]) -> dict[str, Any]:
    return reply["choices"][0]


PASSING = {
    "HTTP 500": (_status(500), r"HTTP 500: no  \[31mway"),
    "HTTP 429": (_status(429), "HTTP 429"),
    "hangs": (_hang, "no whole reply within 0.6 s"),
    "trickles": (_trickle, "no whole reply within 0.6 s"),
    "trickles its headers": (_slow_headers, "no whole reply within 0.6 s"),
    "tears the reply": (_torn, "RemoteProtocolError"),
    "gives up": (_changed(lambda reply: _first(reply).update(finish_reason="abort")), "gave up"),
}
LASTING = {
    "HTTP 404": (_status(404), "HTTP 404"),
    "a redirect": (_status(302), "HTTP 302"),
    "compressed": (_raw(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"), "a compressed reply"),
    "compressed twice": (_raw(b"x", Content_Encoding="identity, br"), "a compressed reply"),
    "nested deeply": (_raw(b'{"model":' + b"[" * 200_000), "not a whole chat completion"),
    "an id of 5000 digits": (
        _raw(b'{"choices": [{"token_ids": [' + b"9" * 5000 + b"]}]}"),
        "not a whole chat completion",
    ),
    "a huge id": (_changed(lambda reply: _first(reply).update(token_ids=[2**70, 2])), "vocabulary"),
    "an id beyond the vocabulary": (
        _changed(lambda reply: _first(reply).update(token_ids=[144, 2])),
        "vocab",
    ),
    "an end inside": (
        _changed(lambda reply: _first(reply).update(token_ids=[20, 2, 20, 2])),
        "after the end",
    ),
    "ends alone": (_changed(lambda reply: _first(reply).update(token_ids=[2, 2])), "after the end"),
    "an end in a truncated one": (
        _changed(lambda reply: _first(reply).update(token_ids=[20] * 39 + [2], finish_reason="length")),
        "after the end",
    ),
    "floods": (_flood, "more than .* bytes"),
    "no choices": (_changed(lambda reply: reply.update(choices=[])), "0 completions where 10"),
    "nine choices": (_changed(lambda reply: reply["choices"].pop()), "9 completions where 10"),
    "one choice twice": (
        _changed(lambda reply: reply["choices"].append(_first(reply))),
        "11 completions where 10",
    ),
    "another model": (_changed(lambda reply: reply.update(model="other")), "from the model other where m"),
    "no model": (_changed(lambda reply: reply.pop("model")), "model: Field required"),
    "a list": (_changed(lambda reply: [reply.pop(key) for key in list(reply)]), "model: Field required"),
    "no token ids": (
        _changed(lambda reply: _first(reply).update(token_ids=None)),
        "token_ids: .*valid array",
    ),
    "words for ids": (
        _changed(lambda reply: _first(reply).update(token_ids=["A"])),
        "token_ids.0: .*valid integer",
    ),
    "an empty completion": (_changed(lambda reply: _first(reply).update(token_ids=[])), "no end of a turn"),
    "an end that is none": (
        _changed(lambda reply: _first(reply).update(finish_reason="tool_calls")),
        "no end of a turn",
    ),
    "an end without its token": (
        _changed(lambda reply: _first(reply).update(token_ids=[20])),
        "no end of a turn",
    ),
    "truncated early": (
        _changed(lambda reply: _first(reply).update(finish_reason="length")),
        "max_model_len",
    ),
    "a number below zero": (_changed(lambda reply: _first(reply).update(token_ids=[-1])), "token_ids.0: "),
    "true for an id": (_changed(lambda reply: _first(reply).update(token_ids=[True])), "token_ids.0: "),
    "too long": (_changed(lambda reply: _first(reply).update(token_ids=[20] * 41)), "41 tokens"),
    "an image token": (_changed(lambda reply: _first(reply).update(token_ids=[3, 2])), "forbidden"),
    "a wrong count": (_changed(lambda reply: reply["usage"].update(prompt_tokens=1)), "disagree"),
    "no usage": (_changed(lambda reply: reply.update(usage=None)), "usage: "),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_may_pass_ends_in_an_interruption_and_never_in_votes(
    vocabulary: Vocabulary, name: str
) -> None:
    fault, said = PASSING[name]
    with fake_server.serving(fault=fault) as (url, seen):
        with pytest.raises(InterruptedRun, match=said) as caught:
            engine(vocabulary, url, retry=HASTY if "within" in said else CALM).generate(
                [request(0, 1)], VOTES
            )
        assert 1 <= len(seen) <= 2  # bounded: one attempt and one retry
    assert caught.value.exit_code == 75
    assert url in str(caught.value) and "run the same command again" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", LASTING)
def test_a_reply_that_would_come_again_ends_at_once_as_failed(vocabulary: Vocabulary, name: str) -> None:
    fault, said = LASTING[name]
    with fake_server.serving(fault=fault) as (url, seen):
        with pytest.raises(VZeroError, match=said) as caught:
            engine(vocabulary, url).generate([request(0, 1)], VOTES)
        assert len(seen) == 1
    assert caught.value.exit_code in (1, 2) and type(caught.value) in (RolloutError, InputError)
    assert url in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("cut", [0, 1, 20, 200])
@pytest.mark.parametrize("framed", [True, False])
def test_a_reply_cut_within_its_json_is_asked_for_once_more(
    vocabulary: Vocabulary, cut: int, framed: bool
) -> None:
    """With a Content-Length of what is left, or none at all (the end of the connection ends it): HTTP itself
    cannot tell. 0 is an empty reply."""
    torn: list[int] = []

    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        if len(torn) == times:
            return False
        torn.append(1)
        data = json.dumps(fake_server.reply(body)).encode()
        data = data[:-cut] if cut else b""
        handler.send_response(200)
        if framed:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True
        return True

    times = 1
    with fake_server.serving(fault=fault) as (url, seen):
        [answered] = engine(vocabulary, url).generate([request(0, 1)], VOTES)
        assert len(seen) == 2
    with fake_server.serving() as (url, _):
        assert [answered] == engine(vocabulary, url).generate([request(0, 1)], VOTES)
    times, torn[:] = 9, []
    with fake_server.serving(fault=fault) as (url, seen):
        with pytest.raises(RolloutError, match="Invalid JSON"):
            engine(vocabulary, url).generate([request(0, 1)], VOTES)
        assert len(seen) == 2


ESCAPED = "".join(f"\\u{ord(c):04x}" for c in "very-secret")  # as JSON may write it


def _refusal(status: int) -> fake_server.Fault:
    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        assert handler.headers["Accept-Encoding"] == "identity"
        said = {"error": f"not with {handler.headers['Authorization']}" + "x" * 1000}
        fake_server.send(handler, said, status)
        return True

    return fault


ECHOES = {
    "its model": _changed(lambda reply: reply.update(model="x very-secret")),
    "its end": _changed(lambda reply: _first(reply).update(finish_reason="very-secret")),
    "escaped": _raw(
        b'{"model": "%s", "choices": [], "usage": {"prompt_tokens": 0}, "prompt_token_ids": []}'
        % ESCAPED.encode()
    ),
    "a header": _raw(b"", Transfer_Encoding="very-secret"),
    **{f"HTTP {status}": _refusal(status) for status in (400, 404, 500)},
}


@pytest.mark.parametrize("name", ECHOES)
def test_a_token_that_a_server_repeats_is_in_no_message(vocabulary: Vocabulary, name: str) -> None:
    with (
        fake_server.serving(token="very-secret", fault=ECHOES[name]) as (url, _),
        pytest.raises(VZeroError) as caught,
    ):
        engine(vocabulary, url, token="very-secret").generate([request(0, 1)], VOTES)
    assert "secret" not in str(caught.value)


def test_a_token_that_cannot_be_sent_is_wrong_input(vocabulary: Vocabulary) -> None:
    for token in ("very-secret\n", "schlüssel-secret"):
        with fake_server.serving() as (url, seen), pytest.raises(InputError, match="bearer token") as caught:
            engine(vocabulary, url, token=token).generate([request(0, 1)], VOTES)
        assert "secret" not in str(caught.value) and not seen


@pytest.mark.parametrize(
    "listed", [b"[" * 200_000, b'{"data": [7]}', b'{"data": [{"id": "m", "max_model_len": 0}]}']
)
def test_a_list_of_models_that_is_none_says_no_context(vocabulary: Vocabulary, listed: bytes) -> None:
    class Lists(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _raw(listed)(self, {})

        def log_message(self, *_: object) -> None: ...

    with fake_server.listening(Lists) as url:
        assert endpoints.context_of(Endpoint(url, "m", "t")) is None
        assert not endpoints.serves(Endpoint(url, "other", "t"))


def test_a_server_that_is_not_there(vocabulary: Vocabulary) -> None:
    with fake_server.serving() as (url, _):
        pass
    with pytest.raises(InterruptedRun, match=r"ConnectError.*2 attempts|2 attempts: ConnectError"):
        engine(vocabulary, url).generate([request(0, 1)], VOTES)


def test_one_bad_request_among_many_leaves_no_partial_result(vocabulary: Vocabulary) -> None:
    poison = derive(3, "vllm")
    fault = lambda handler, body: body["seed"] == poison and _status(500)(handler, body)  # noqa: E731
    with fake_server.serving(fault=fault) as (url, _), pytest.raises(InterruptedRun, match="HTTP 500"):
        engine(vocabulary, url).generate([request(0, i) for i in range(8)], VOTES)


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_request_that_is_refused_is_not_repeated(vocabulary: Vocabulary, code: int) -> None:
    with (
        fake_server.serving(fault=_status(code)) as (url, seen),
        pytest.raises(RolloutError, match=f"HTTP {code}"),
    ):
        engine(vocabulary, url).generate([request(0, 1)], VOTES)
    assert len(seen) == 1


def test_a_wrong_token_is_said_and_never_shown(vocabulary: Vocabulary) -> None:
    with (
        fake_server.serving(token="right") as (url, seen),
        pytest.raises(InputError, match="VZERO_SOLVER_TOKEN") as caught,
    ):
        engine(vocabulary, url, token="very-wrong").generate([request(0, 1)], VOTES)
    assert len(seen) == 1
    assert "very-wrong" not in str(caught.value)
    assert "very-wrong" not in repr(Endpoint(url, "m", "very-wrong"))


def test_a_server_that_comes_back_is_picked_up(vocabulary: Vocabulary) -> None:
    failed: list[int] = []

    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        failed.append(1)
        return len(failed) <= 2 and _status(503)(handler, body)

    with fake_server.serving(fault=fault) as (url, _):
        (rollout,) = engine(vocabulary, url, retry=RetryPolicy(60, 3, 0.01)).generate([request(0, 1)], VOTES)
        assert len(failed) == 3
    with fake_server.serving() as (url, _):
        assert engine(vocabulary, url).generate([request(0, 1)], VOTES) == [
            rollout
        ]  # a retry draws what a first attempt draws


class Restarting:
    """A server that has no address while it is brought back."""

    def __init__(self, url: str) -> None:
        self._url, self._down, self.recoveries = url, False, 0

    @property
    def endpoint(self) -> Endpoint:
        assert not self._down, "asked for its address while it was being brought back"
        return Endpoint(self._url, "m", "t")

    def recover(self) -> None:
        self._down, self.recoveries = True, self.recoveries + 1
        time.sleep(0.3)
        self._down = False


def test_requests_that_wait_are_not_sent_to_a_server_that_is_being_brought_back(
    vocabulary: Vocabulary,
) -> None:
    asked: list[int] = []

    def fault(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        asked.append(1)
        return len(asked) == 1 and _status(503)(handler, body)

    with fake_server.serving(fault=fault) as (url, _):
        server = Restarting(url)
        rollouts = ServedEngine([server], vocabulary, RetryPolicy(60, 1, 0.01, sequences=1)).generate(
            [request(0, i) for i in range(8)], VOTES
        )
    assert len(rollouts) == 8 and len(asked) == 9 and server.recoveries == 1


def test_the_next_server_answers_for_a_dead_one(vocabulary: Vocabulary) -> None:
    requests = [request(i, i) for i in range(8)]
    with fake_server.serving() as (alive, _):
        expected = engine(vocabulary, alive).generate(requests, VOTES)
        with fake_server.serving() as (dead, _):
            pass
        assert engine(vocabulary, dead, alive).generate(requests, VOTES) == expected


@pytest.mark.parametrize("text", ["what is <img> ?", "<vid> red"])
def test_control_tokens_in_a_question_are_refused_before_anything_is_sent(
    vocabulary: Vocabulary, text: str
) -> None:
    with fake_server.serving() as (url, seen), pytest.raises(RolloutError, match="control tokens"):
        engine(vocabulary, url).generate([request(0, 1, text)], VOTES)
    assert not seen


def test_the_check_wants_the_checkpoints_own_template_and_a_model_that_is_there(
    vocabulary: Vocabulary,
) -> None:
    # The fake says that it read four unknown tokens; the template makes three: <user> A <go>.
    with (
        fake_server.serving() as (url, seen),
        pytest.raises(InputError, match="another prompt than the checkpoint"),
    ):
        engine(vocabulary, url).check()
    assert seen[0]["max_completion_tokens"] == 1 and "image_url" not in json.dumps(seen)
    swapped = _changed(lambda reply: reply.update(prompt_token_ids=[9, 24, 8], usage={"prompt_tokens": 3}))
    with (
        fake_server.serving(fault=swapped) as (url, _),
        pytest.raises(InputError, match="another prompt than the checkpoint"),
    ):
        engine(vocabulary, url).check()
    good = _changed(lambda reply: reply.update(prompt_token_ids=[8, 24, 9], usage={"prompt_tokens": 3}))
    with fake_server.serving(fault=good) as (url, _):
        engine(vocabulary, url).check()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_servers_elsewhere_are_named_by_the_content_of_the_checkpoint(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VZERO_SOLVER_TOKEN", "hush")
    (one, other) = elsewhere(EngineConfig(urls=("http://a:8000/v1/", "https://b/x")).urls, checkpoint)
    assert (one.url, other.url) == ("http://a:8000", "https://b/x")
    assert one.headers == {"Authorization": "Bearer hush"}
    before = model_name(checkpoint)
    assert one.model == before and "hush" not in repr(one)
    (checkpoint / "config.json").write_text("{ }")
    assert model_name(checkpoint) != before


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://a", "http://", "http://me:secret@a", "http://a?x=1", ""]
)
def test_what_is_no_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="http://HOST:PORT") as caught:
        load_preset("smoke", changes={"engine.urls": [url]})
    assert "secret" not in str(caught.value)


def test_where_servers_are_does_not_determine_what_a_run_answers() -> None:
    one = load_preset("smoke", changes={"engine.urls": ["http://a"], "engine.retries": 9})
    other = load_preset("smoke")
    assert [stage.config for stage in plan(one)] == [stage.config for stage in plan(other)]
    assert content_differences(one.model_dump(mode="json"), other.model_dump(mode="json")) == []
    third = load_preset("smoke", changes={"engine.name": "server", "engine.servers": 2})
    assert content_differences(third.model_dump(mode="json"), other.model_dump(mode="json")) == [
        "engine.name"
    ]
    assert plan(third)[1].config != plan(other)[1].config


@pytest.mark.parametrize(
    ("visible", "settings", "devices"),
    [
        (None, {"servers": 2}, ["0", "1"]),
        ("4,5", {"servers": 2}, ["4", "5"]),
        (None, {"servers": 2, "gpus": (2, 3)}, ["2", "3"]),
        ("a,b,c,d", {"servers": 2, "gpus": (2, 3)}, ["c", "d"]),
    ],
)
def test_servers_stand_on_their_gpus(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, settings: dict[str, Any], devices: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = EngineConfig(name="server", **settings)
    assert [
        server._device(config, number, on_gpu=True)["CUDA_VISIBLE_DEVICES"] for number in (0, 1)
    ] == devices
    if visible:
        with pytest.raises(InputError, match="are visible"):
            server._device(config.model_copy(update={"gpus": (7, 8)}), 0, on_gpu=True)


def test_without_vllm_the_fix_is_said(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="make vllm"):
        server.open_local(EngineConfig(name="server"), checkpoint)


def test_a_public_address_needs_a_token(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VZERO_SOLVER_TOKEN", raising=False)
    with pytest.raises(InputError, match="VZERO_SOLVER_TOKEN"):
        serve.command(checkpoint, serve.Place("0.0.0.0", 8000), EngineConfig())


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="one GPU for each"):
        EngineConfig(servers=2, gpus=(0,))
