"""How many pictures are in memory while an engine answers work without end, counted by the pictures' own
ends."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from PIL import Image

from tests import fake_server, tiny_model
from vzero.config import SamplingConfig
from vzero.rollout import Message, Request, outgoing, slots, vllm_engine
from vzero.rollout.client import RetryPolicy, ServedEngine
from vzero.rollout.endpoints import Endpoint, RemoteServer
from vzero.rollout.outgoing import Pictures, Prepared
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.rollout.vllm_engine import VllmEngine
from vzero.rollout.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

WORDS = tiny_model.vocabulary()
SIDE = 70
EACH = 3 * SIDE * SIDE
VOTES = SamplingConfig(n=2, max_new_tokens=4)


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    gc.freeze()  # what the libraries made is looked through no more
    yield
    gc.unfreeze()


class Source:
    """Requests with a picture each; `most` bytes of their pictures, and `open` requests, were ever there."""

    def __init__(self, count: int, mode: str = "RGB") -> None:
        self.count, self.mode, self.most, self.open, self._alive = count, mode, 0, 0, 0

    def _picture(self, i: int) -> Image.Image:
        made = tiny_model.picture(i, (SIDE, SIDE)).convert(self.mode)
        self._alive += EACH
        weakref.finalize(made, self._ended)
        return made

    def _ended(self) -> None:
        self._alive -= EACH

    def __iter__(self) -> Iterator[Request]:
        for i in range(self.count):
            one = Request((Message("user", "how many red"),), self._picture(i), i)
            gc.collect()
            self.most = max(self.most, self._alive)
            self.open = self.most // EACH
            yield one
            del one


def patience() -> RetryPolicy:
    return RetryPolicy(attempt_seconds=60, retries=1, pause_seconds=0.01, sequences=64)


def vocabulary() -> Vocabulary:
    eos = WORDS.index("<eos>")
    forbidden = frozenset(WORDS.index(word) for word in tiny_model.SPECIAL) - {eos}
    return Vocabulary(tiny_model.processor(WORDS), frozenset({eos}), forbidden, 256)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_model_in_this_process_reads_pictures_of_so_many_bytes(
    mode: str,
) -> None:
    model, processor = tiny_model.model(WORDS, seed=1), tiny_model.processor(WORDS)
    found = {}
    for budget in (4 * EACH, 8 * EACH, 1000 * EACH):
        engine = TransformersEngine(model, processor, 64, budget)
        source, told = Source(80, mode), dict[int, Any]()
        engine.stream(iter(source), VOTES, told.__setitem__)
        assert sorted(told) == list(range(80))
        found[budget // EACH] = source.open
    # The budget, one that goes beyond it, the next to be read; without a budget the 32 of the slots.
    assert found[4] <= 6 and found[8] <= 10 and found[1000] >= 32


def test_servers_are_sent_pictures_of_so_many_bytes_each(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[int] = []
    let, due = threading.Event(), {"requests": 0}

    def wait(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> bool:
        came.append(body["seed"])
        if len(came) >= due["requests"]:
            let.set()
        assert let.wait(60), f"{len(came)} requests came together where {due} were due"
        return False

    found = {}
    with fake_server.serving(fault=wait) as (one, _), fake_server.serving(fault=wait) as (two, _):
        servers = [RemoteServer(Endpoint(url, "m", "t")) for url in (one, two)]
        engine = ServedEngine(servers, vocabulary(), patience())
        for budget, due["requests"] in ((4 * EACH, 8), (1000 * EACH, 70)):
            came.clear()
            let.clear()
            monkeypatch.setattr(slots, "PICTURE_BYTES", budget)
            monkeypatch.setattr(outgoing, "_KEPT", (64, budget))
            source, told = Source(120), dict[int, Any]()
            engine.stream(iter(source), VOTES, told.__setitem__)
            assert sorted(told) == list(range(120))
            found[budget // EACH] = source.open
    # At each server the budget; one waits for a server, the next is read, another just ended.
    assert found[4] <= 2 * 4 + 3 and found[1000] >= 70


def test_a_picture_larger_than_the_budget_is_still_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PICTURE_BYTES", 10)
    local = TransformersEngine(tiny_model.model(WORDS, seed=1), tiny_model.processor(WORDS), 64, 10)
    with fake_server.serving() as (url, seen):
        for engine in (
            local,
            ServedEngine([RemoteServer(Endpoint(url, "m", "t"))], vocabulary(), patience()),
        ):
            source, told = Source(5), dict[int, Any]()
            engine.stream(iter(source), VOTES, told.__setitem__)
            assert sorted(told) == list(range(5)) and source.open <= 4
    assert len(seen) == 5


def test_pictures_as_text_are_kept_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "_KEPT", (64, 3 * EACH))
    processor, made = tiny_model.processor(WORDS), list[int]()
    real = outgoing.data_url
    monkeypatch.setattr(outgoing, "data_url", lambda image: made.append(1) or real(image))
    prepared = [Prepared.of(processor, one) for one in Source(6)]

    async def ask(numbers: list[int]) -> int:
        made.clear()
        pictures = Pictures()
        for i in numbers:
            await pictures.url(prepared[i])
        return len(made)

    assert asyncio.run(ask([0, 1, 2, 0, 1, 2])) == 3
    assert asyncio.run(ask([0, 1, 2, 3, 1, 2, 3, 0])) == 5  # the first had to go


def test_vllm_holds_pictures_of_so_many_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed: make vllm")
    from tests.unit.test_vllm_engine import config
    from vzero.rollout.engines import open_engine
    from vzero.runtime import checkpoints

    folder = tmp_path_factory.mktemp("vllm") / "checkpoint"
    checkpoints.save(tiny_model.model(WORDS, seed=1), tiny_model.processor(WORDS), folder)
    engine = open_engine(config("vllm"), folder)
    assert isinstance(engine, VllmEngine)
    found = {}
    for budget in (4 * EACH, 1000 * EACH):
        monkeypatch.setattr(vllm_engine, "PICTURE_BYTES", budget)
        source, told = Source(80), dict[int, Any]()
        engine.stream(iter(source), VOTES, told.__setitem__)
        assert sorted(told) == list(range(80))
        found[budget // EACH] = source.open
    assert found[4] <= 6 and found[1000] >= 32
