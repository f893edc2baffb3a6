"""Two servers of vLLM as somebody else starts them, by `python -m vzero.rollout.serve`.

Skipped where vLLM is not installed (`make vllm` adds it).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.rollout import Engine, Message, Request, bulk, client
from vzero.rollout.endpoints import serves
from vzero.rollout.engines import open_solver
from vzero.rollout.server import elsewhere as served_at
from vzero.runtime import checkpoints
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; `make vllm` adds it"
)
WORDS = tiny_model.vocabulary()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vllm") / "checkpoint"
    checkpoints.save(tiny_model.model(WORDS, seed=1), tiny_model.processor(WORDS), folder)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def elsewhere(checkpoint: Path) -> Iterator[Engine]:
    """Two servers as somebody else starts them: `python -m vzero.rollout.serve`, one with less context."""
    ports, started = [_free_port(), _free_port()], []
    try:
        for port, context in zip(ports, (256, 200), strict=True):
            words = [str(checkpoint), "--port", str(port), "--max-model-len", str(context)]
            command = [sys.executable, "-m", "vzero.rollout.serve", *words]
            started.append(subprocess.Popen(command, cwd=ROOT, process_group=0))
        urls = tuple(f"http://127.0.0.1:{port}" for port in ports)
        end = time.monotonic() + 1800  # a busy machine takes long
        while not all(map(serves, served_at(urls, checkpoint))):
            assert time.monotonic() < end and all(one.poll() is None for one in started)
            time.sleep(0.5)
        yield open_solver(EngineConfig(name="server", threads=1, batch_sequences=64, urls=urls), checkpoint)
    finally:
        for one in started:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()


def test_what_is_too_long_for_one_of_several_servers_is_dropped_and_counted(
    elsewhere: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them a picture (of four) belongs to; asked once, and the others are answered. 40 words
    fit in both contexts, 190 in one of them, 300 in none."""
    words = [40, 190, 300] * 4
    sent: Counter[int] = Counter()
    real = client._post

    async def counted(http: Any, endpoint: Any, body: dict[str, Any], *rest: Any) -> Any:
        sent[body["seed"]] += 1
        return await real(http, endpoint, body, *rest)

    monkeypatch.setattr(client, "_post", counted)
    replies = bulk.ask(
        elsewhere,
        range(12),
        lambda i: Request((Message("user", "red " * words[i]),), tiny_model.picture(i // 3), 100 + i),
        SamplingConfig(n=2, max_new_tokens=4),
        log=tmp_path / "log.jsonl",
        progress=Progress(tmp_path / "progress.jsonl"),
        unit="questions",
    )
    assert [len(given) for given in replies] == [2, 0, 0] * 4
    assert bulk.lost(replies, None) == {"too_long": 8}
    assert len(sent) == 12 and set(sent.values()) == {1}
