"""Servers that a stage starts: real processes, killed, frozen, left by a parent that dies. A small fake takes
the place of vLLM."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tests import fake_server, tiny_model
from tests.warm import Warm
from vzero.config import SamplingConfig
from vzero.errors import InterruptedRun
from vzero.rollout import Message, Request, endpoints, server
from vzero.rollout.client import RetryPolicy, ServedEngine
from vzero.rollout.server import Launch, LocalServer, start_all, stop_all
from vzero.rollout.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
WORDS = tiny_model.vocabulary()
VOTES = SamplingConfig(n=10, max_new_tokens=8)
RETRY = RetryPolicy(attempt_seconds=60, retries=3, pause_seconds=0.01)


def fake(tmp_path: Path, *more: str) -> Launch:
    """The fake as a process; the folder on its command line is what tests find it by."""
    return Launch(
        lambda name, port: [
            sys.executable,
            fake_server.__file__,
            name,
            str(port),
            *(more or ("0",)),
            str(tmp_path),
        ],
        {},
    )


@pytest.fixture
def vocabulary() -> Vocabulary:
    eos = WORDS.index("<eos>")
    return Vocabulary(tiny_model.processor(WORDS), frozenset({eos}), frozenset(range(10)) - {eos}, 256)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[LocalServer]]:
    made = [LocalServer(fake(tmp_path), start_seconds=60) for _ in range(2)]
    start_all(made)
    yield made
    stop_all(made)


def requests() -> list[Request]:
    return [Request((Message("user", "red ?"),), tiny_model.picture(i), i) for i in range(6)]


def of_fake(tools: SimpleNamespace, folder: Path) -> list[int]:
    """Processes of servers started for `folder` (watchdogs included)."""
    return tools.processes_of(folder)


def fakes(tools: SimpleNamespace, folder: Path) -> list[int]:
    """Without the watchdogs."""
    return [
        pid for pid in of_fake(tools, folder) if b"watchdog" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_two_servers_on_loopback_with_tokens_of_their_own(
    servers: list[LocalServer], vocabulary: Vocabulary
) -> None:
    one, other = (each.endpoint for each in servers)
    assert (
        one.url.startswith("http://127.0.0.1:")
        and one.url != other.url
        and one.model != other.model
        and one.token != other.token
    )
    assert httpx.get(one.url + "/v1/models", trust_env=False).status_code == 401
    assert httpx.get(one.url + "/v1/models", headers=other.headers, trust_env=False).status_code == 401
    assert len(ServedEngine(servers, vocabulary, RETRY).generate(requests(), VOTES)) == 6


def test_the_token_is_on_no_command_line(
    servers: list[LocalServer], tools: SimpleNamespace, tmp_path: Path
) -> None:
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in of_fake(tools, tmp_path)]
    assert len(lines) == 4
    assert not any(each.endpoint.token.encode() in line for each in servers for line in lines)


@pytest.mark.parametrize(
    ("number", "together"), [(signal.SIGKILL, 64), (signal.SIGKILL, 1), (signal.SIGSTOP, 64)]
)
def test_a_server_that_dies_or_freezes_is_started_again(
    servers: list[LocalServer],
    vocabulary: Vocabulary,
    tools: SimpleNamespace,
    tmp_path: Path,
    number: signal.Signals,
    together: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoints, "HEALTH_TIMEOUT", 0.5)
    monkeypatch.setattr(server, "GRACE", 0.5)
    engine = ServedEngine(servers[:1], vocabulary, RetryPolicy(1, 3, 0.01, sequences=8 * together))
    before = engine.generate(requests(), VOTES)
    (pid,) = [
        pid
        for pid in fakes(tools, tmp_path)
        if servers[0].endpoint.model in Path(f"/proc/{pid}/cmdline").read_text()
    ]
    place = servers[0].endpoint
    os.kill(pid, number)
    assert engine.generate(requests(), VOTES) == before  # the same draws, from the new process
    assert servers[0].endpoint != place
    tools.wait_for(
        lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes(),
        "the old one's end",
    )


def test_restarts_are_bounded(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RESTARTS", 1)
    once = LocalServer(fake(tmp_path), start_seconds=60)
    once.start()
    once.wait()
    try:
        for _ in range(2):
            os.killpg(once._popen.pid, signal.SIGKILL)
            once._popen.wait()
            if _ == 0:
                once.recover()
        with pytest.raises(InterruptedRun, match="2 times"):
            once.recover()
    finally:
        once.stop()


def test_a_server_that_ends_before_it_answers_is_one_sentence(tmp_path: Path) -> None:
    broken = LocalServer(
        Launch(lambda name, port: [sys.executable, "-c", "raise SystemExit(7)"], {}), start_seconds=60
    )
    with pytest.raises(InterruptedRun, match="ended with code 7"):
        start_all([broken])


def test_a_server_that_never_gets_ready_is_ended(tools: SimpleNamespace, tmp_path: Path) -> None:
    slow = LocalServer(fake(tmp_path, "60"), start_seconds=0.5)
    with pytest.raises(InterruptedRun, match=r"not ready within 0\.5 s"):
        start_all([slow])
    assert not of_fake(tools, tmp_path)


def test_servers_end_with_the_engine(
    servers: list[LocalServer], vocabulary: Vocabulary, tools: SimpleNamespace, tmp_path: Path
) -> None:
    engine = ServedEngine(servers, vocabulary, RETRY)
    weakref.finalize(engine, stop_all, servers)
    assert len(of_fake(tools, tmp_path)) == 4
    del engine
    gc.collect()
    assert not of_fake(tools, tmp_path)


PARENT = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from vzero.rollout.server import Launch, LocalServer, start_all
command = lambda name, port: [sys.executable, {fake_server.__file__!r}, name, str(port), "0", sys.argv[1]]
made = [LocalServer(Launch(command, {{}}), 60) for _ in "ab"]
start_all(made)
print("ready", flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_servers_end_with_their_parent(
    launch: Callable[..., subprocess.Popen[str]],
    tools: SimpleNamespace,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    parent = launch(PARENT, str(tmp_path))
    assert parent.stdout.readline() == "ready\n"
    assert len(of_fake(tools, tmp_path)) == 5  # two watchdogs, two servers, their parent
    parent.send_signal(number)
    parent.wait(60)
    tools.wait_for(lambda: not of_fake(tools, tmp_path), "the end of the servers")
    time.sleep(0.05)
    assert not of_fake(tools, tmp_path)


SHARED = f"""
import json, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
import time
import fake_server, tiny_model
from vzero.runtime import processes
from vzero.config import EngineConfig, SamplingConfig
from vzero.rollout import Message, Request, server
from vzero.rollout.vocabulary import Vocabulary
command = lambda name, port: [sys.executable, fake_server.__file__, name, str(port), "0", sys.argv[1]]
words = tiny_model.vocabulary()
eos = words.index("<eos>")
requests = [Request((Message("user", "red ?"),), tiny_model.picture(i), i) for i in range(6)]
server.find_spec = lambda name: True
server.vllm_launch = lambda *_: server.Launch(command, {{}})
found = Vocabulary(tiny_model.processor(words), frozenset({{eos}}), frozenset(range(10)) - {{eos}}, 256)
server.read_vocabulary = lambda folder, thinking: found
server.ServedEngine.check = lambda self: None
processes.join()
engine = server.open_local(EngineConfig(name="server", servers=2), Path(sys.argv[1]))
answers = engine.generate(requests, SamplingConfig(n=10, max_new_tokens=8))
drawn = [[list(one.token_ids) for one in answer.completions] for answer in answers]
everyone = processes.all_gather_object(drawn)
if processes.world().first:
    print(json.dumps(everyone), flush=True)
    while not Path(sys.argv[1], "go on").exists():
        time.sleep(0.02)
processes.wait()
"""


def test_two_processes_share_the_servers_of_the_first(
    tools: SimpleNamespace, warm: Warm, tmp_path: Path
) -> None:
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        environment["MASTER_PORT"] = str(probe.getsockname()[1])
    ranks = [
        warm.start("-c", SHARED, str(tmp_path), RANK=rank, LOCAL_RANK=rank, **environment) for rank in "01"
    ]
    try:
        tools.wait_for(lambda: ranks[0].out.read_text().endswith("\n"), "the answers")
        one, other = json.loads(ranks[0].out.read_text())
        assert one == other and len(one) == 6 and len(one[0]) == 10
        assert len(of_fake(tools, tmp_path)) == 4  # two watchdogs, two servers
        (tmp_path / "go on").touch()
        for rank in ranks:
            assert rank.communicate(60) and rank.returncode == 0
        tools.wait_for(lambda: not of_fake(tools, tmp_path), "the end of the servers")
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(signal.SIGKILL)
