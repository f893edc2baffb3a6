"""Transformers engines that serve, against the same engine in this process: the same answers, whoever of them
gives them."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from harness.evals import protocol
from tests import tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError, InterruptedRun, RolloutError
from vzero.rollout import Engine, Message, Request, bulk, replica, serve
from vzero.rollout.endpoints import Replicas
from vzero.rollout.engines import open_engine
from vzero.rollout.protocol import ContextOverflow, Finished, Rollout
from vzero.rollout.streaming import answers
from vzero.runtime import checkpoints
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.slow

WORDS = tiny_model.vocabulary()
CONFIG = EngineConfig(threads=1, batch_sequences=12, retries=2)
SAMPLED = SamplingConfig(n=4, temperature=1.0, top_p=0.9, repetition_penalty=1.1, max_new_tokens=6)
GREEDY = SamplingConfig(n=3, temperature=0.0, max_new_tokens=5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replica") / "checkpoint"
    checkpoints.save(tiny_model.model(WORDS, seed=1), tiny_model.processor(WORDS), folder)
    return folder


@contextmanager
def serving(checkpoint: Path, token: str = "t", engine: Any = None) -> Iterator[str]:
    engine, processor = engine or open_engine(CONFIG, checkpoint), checkpoints.load_processor(checkpoint)
    handler = replica.handler_of(replica.Asked(engine), processor, "m", token)
    server = replica._Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def two(checkpoint: Path) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(checkpoint)) for _ in range(2)]


def opened(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, urls: list[str], token: str = "t") -> Engine:
    with monkeypatch.context() as patch:
        for name, value in Replicas(str(checkpoint), urls, "m", token).variable().items():
            patch.setenv(name, value)
        return open_engine(CONFIG, checkpoint)


def request(i: int) -> Request:
    """Pictures of different sizes, one picture thrice, prompts of different lengths, some without a picture,
    some begun."""
    text = "red green " * (1 + i % 4)
    picture = None if i % 5 == 4 else tiny_model.picture(i // 3)
    messages = (Message("system", "blue"), Message("user", text))
    return Request(messages, picture, 7 * i, "red" if i % 7 == 3 else "")


def same(found: list[Rollout], expected: list[Rollout]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.prompt_tokens == other.prompt_tokens
        for a, b in zip(one.completions, other.completions, strict=True):
            assert (a.text, a.token_ids, a.finish_reason) == (b.text, b.token_ids, b.finish_reason)


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY], ids=["sampled", "greedy"])
@pytest.mark.parametrize("others", [None, GREEDY], ids=["alike", "mixed"])
def test_two_servers_answer_as_one_engine_here(
    checkpoint: Path,
    two: list[str],
    sampling: SamplingConfig,
    others: SamplingConfig | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = [replace(request(i), sampling=others if i % 2 else None) for i in range(24)]
    expected = open_engine(CONFIG, checkpoint).generate(requests, sampling)
    same(opened(monkeypatch, checkpoint, two).generate(requests, sampling), expected)
    assert len({one.completions for one in expected}) > 12


def test_what_a_lost_server_owed_is_asked_of_the_other(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One of two stops answering after its first answer; a stage's artefact has the bytes of one engine's,
    every item once."""
    with serving(checkpoint) as sound, serving(checkpoint) as dying:
        engine = opened(monkeypatch, checkpoint, [dying, sound])
        given = threading.Event()
        real = replica.BaseHTTPRequestHandler.handle_one_request

        def one_request(self: Any) -> None:
            if self.server.server_address[1] == int(dying.rpartition(":")[2]):
                if given.is_set():
                    self.close_connection = True
                    self.connection.close()
                    return
                given.set()
            real(self)

        monkeypatch.setattr(replica.BaseHTTPRequestHandler, "handle_one_request", one_request)

        def ask(engine: Engine, name: str) -> bytes:
            bulk.ask(
                engine,
                range(24),
                request,
                SAMPLED,
                log=tmp_path / f"{name}.jsonl",
                progress=Progress(tmp_path / f"{name}.progress"),
                unit="items",
            )
            return b"\n".join(sorted((tmp_path / f"{name}.jsonl").read_bytes().splitlines()))

        assert ask(engine, "served") == ask(open_engine(CONFIG, checkpoint), "alone")
        assert given.is_set()


def test_a_prompt_that_is_too_long_is_told_of_and_hinders_no_other(
    checkpoint: Path, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Request((Message("user", "red " * 600),), None, 1)
    found = answers(opened(monkeypatch, checkpoint, two), [request(1), long, request(2)], SAMPLED)
    assert [isinstance(one, ContextOverflow) for one in found] == [False, True, False]


def test_nobody_without_the_token_is_answered(
    checkpoint: Path, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="refuses the bearer token"):
        opened(monkeypatch, checkpoint, two, token="other")
    monkeypatch.delenv("VZERO_SOLVER_TOKEN", raising=False)
    with pytest.raises(InputError, match="bearer token"):
        serve.serve_transformers(checkpoint, serve.Place("127.0.0.1", 0), CONFIG)


def test_servers_of_another_model_are_not_asked(
    checkpoint: Path, two: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The intuition of the base beside a served Solver: it is opened here."""
    for name, value in Replicas(str(tmp_path), two, "m", "t").variable().items():
        monkeypatch.setenv(name, value)
    assert type(open_engine(CONFIG, checkpoint)).__name__ == "TransformersEngine"


def test_what_servers_compute_in_is_recorded_not_what_this_machine_would(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = protocol.measured(CONFIG, checkpoint)
    for on_gpu, dtype in ((False, "float32"), (True, "bfloat16")):
        told = Replicas(str(checkpoint), ["http://127.0.0.1:9"], "m", "t", on_gpu)
        with monkeypatch.context() as patch:
            for name, value in told.variable().items():
                patch.setenv(name, value)
            found = protocol.measured(CONFIG, checkpoint)
        alike = dtype == here.dtype
        device = here.device if alike else "servers"
        assert found == here.model_copy(update={"dtype": dtype, "device": device})


def test_servers_that_are_all_gone_end_the_stage_resumable(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InterruptedRun):
        opened(monkeypatch, checkpoint, ["http://127.0.0.1:9"])


class Failing:
    """An engine that answers one request, where it has an engine for that, and then fails before it takes
    another."""

    def __init__(self, error: Exception, real: Engine | None = None) -> None:
        self.error, self.real = error, real

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        real, self.real = self.real, None
        if real is None:
            raise self.error
        real.stream(requests, sampling, finished)


def test_an_engine_that_fails_before_it_takes_a_request_keeps_nobody_waiting() -> None:
    told = SimpleQueue[BaseException]()
    asked = replica.Asked(Failing(RolloutError("gone")))  # type: ignore[arg-type]

    def ask() -> None:
        try:
            asked.ask(request(0), SAMPLED)
        except RolloutError as error:
            told.put(error)

    for _ in range(2):
        threading.Thread(target=ask, daemon=True).start()
        assert str(told.get(timeout=60)) == "gone"


def test_what_one_server_fails_at_is_asked_of_the_other(
    checkpoint: Path, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: Any = Failing(RolloutError("the device is lost"), open_engine(CONFIG, checkpoint))
    requests = [request(i) for i in range(6)]
    with serving(checkpoint, engine=broken) as url:
        found = opened(monkeypatch, checkpoint, [url, two[0]]).generate(requests, SAMPLED)
    same(found, open_engine(CONFIG, checkpoint).generate(requests, SAMPLED))


def posted(url: str, body: bytes, token: str = "t", length: str | None = None) -> int:
    """The status of a request as it stands."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", str(len(body)) if length is None else length)
    connection.endheaders(body)
    with closing(connection):
        return connection.getresponse().status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RolloutError("x"), 503),
        (InterruptedRun("x"), 503),
        (OSError(errno.EMFILE, "x"), 503),
        (ContextOverflow("x"), 400),
    ],
)
def test_only_what_is_the_requests_own_fault_is_refused_for_good(
    checkpoint: Path, error: Exception, status: int
) -> None:
    said = {"role": "user", "content": [{"type": "text", "text": "red"}]}
    names = ("n", "temperature", "top_p", "top_k", "repetition_penalty")
    own = {name: getattr(SAMPLED, name) for name in names} | {"max_completion_tokens": 4, "seed": 1}
    body = {"messages": [said], "continue_final_message": False, **own}
    with serving(checkpoint, engine=Failing(error)) as url:
        assert posted(url, json.dumps(body).encode()) == status
        for bad in (b"", b"[1]", b"{}", json.dumps({**body, "n": "x"}).encode()):
            assert posted(url, bad) == 400


def test_a_request_without_a_length_is_refused_and_nobody_unknown_is_told_more(two: list[str]) -> None:
    for length, status in (
        ("x", 400),
        ("-1", 400),
        ("", 400),
        ("\xb2", 400),
        ("9" * 5000, 413),
        ("9" * 9, 413),
    ):
        assert posted(two[0], b"", length=length) == status, length
        assert posted(two[0], b"", token="other", length=length) == 401, length


def test_a_connection_that_says_nothing_is_closed(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "SILENT_SECONDS", 0.05)
    with serving(checkpoint, engine=Failing(RolloutError("x"))) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as silent:
            assert silent.recv(1) == b""
