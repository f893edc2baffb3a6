"""Servers of one model, started here: one plain OpenAI server of vLLM a device, on loopback, looked after and
ended with this process.

Plain servers, and not one with data parallelism inside: that one spreads the n completions of a request over
its engines before it balances, so that an image is encoded on each of them. Each is a process group behind a
watchdog, which ends it when this process ends, by whatever means. It answers only to a random model name and
a random bearer token, passed by the environment: no other program can pass for it or use it.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vzero.config import EngineConfig
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.rollout.client import RetryPolicy, ServedEngine
from vzero.rollout.endpoints import TOKEN_VARIABLE, RemoteServer, Server, healthy, serves
from vzero.rollout.vllm_engine import ENVIRONMENT, engine_arguments
from vzero.rollout.vocabulary import Vocabulary, read_vocabulary
from vzero.runtime import artefacts, processes
from vzero.runtime.http_client import Endpoint
from vzero.runtime.watchdog import watchdog_command

LOOPBACK = "127.0.0.1"
GRACE = 10.0  # seconds between asking a server to end and ending it
RESTARTS = 3  # of one server by one engine
_POLL_SECONDS = 0.2  # between two looks at a server that is starting


@dataclass(frozen=True)
class Launch:
    """How a server is started: `command(model name, port)`, and what its environment has beside ours."""

    command: Callable[[str, int], Sequence[str]]
    environment: Mapping[str, str]


class LocalServer:
    """One server process; implements `Server`. Not started until `start`."""

    def __init__(self, launch: Launch, start_seconds: float) -> None:
        self._launch = launch
        self._start_seconds = start_seconds
        self._popen: subprocess.Popen[bytes] | None = None
        self._endpoint: Endpoint | None = None
        self._starts = 0

    @property
    def endpoint(self) -> Endpoint:
        """Where the server is. Each start has a port, a name and a token of its own."""
        if self._endpoint is None:
            raise InterruptedRun("A server of the Solver is not running; run the same command again.")
        return self._endpoint

    def start(self) -> None:
        """Start the process; `wait` tells when it answers. What it prints goes where this process prints."""
        port, name, token = _free_port(), f"vzero-{secrets.token_hex(6)}", secrets.token_urlsafe(32)
        command = watchdog_command([*self._launch.command(name, port)])
        environment = {**os.environ, **self._launch.environment, "VLLM_API_KEY": token}
        self._popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, process_group=0)
        self._starts += 1
        self._endpoint = Endpoint(f"http://{LOOPBACK}:{port}", name, token)

    def wait(self) -> None:
        """Return when the server is healthy and serves what it was started for.

        Raises:
            InterruptedRun: it ended, or did not get ready in time.
        """
        end = time.monotonic() + self._start_seconds
        while time.monotonic() < end:
            code = self._popen.poll() if self._popen else None
            if code is not None:
                self.stop()
                raise InterruptedRun(
                    f"A server of the Solver ended with code {code} before it answered; fix what the log "
                    "above says, then run the same command again."
                )
            if serves(self.endpoint):
                return
            time.sleep(_POLL_SECONDS)
        self.stop()
        raise InterruptedRun(
            f"A server of the Solver was not ready within {self._start_seconds:g} s; see the log above, "
            "raise engine.start_seconds, then run the same command again."
        )

    def recover(self) -> None:
        """Start the server again if it ended or no longer says that it is healthy; see `Server.recover`."""
        if self._popen is not None and self._popen.poll() is None and healthy(self.endpoint):
            return
        self.stop()
        if self._starts > RESTARTS:
            raise InterruptedRun(
                f"A server of the Solver ended or fell silent {self._starts} times; see the log, then run"
                " the same command again to resume."
            )
        self.start()
        self.wait()

    def stop(self) -> None:
        """End the server and everything it started; calling it again changes nothing."""
        popen, self._popen = self._popen, None
        if popen is None:
            return
        try:
            _signal(popen, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                popen.wait(GRACE)
        finally:
            _signal(popen, signal.SIGKILL)
            popen.wait()
            self._endpoint = None


def _signal(popen: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(popen.pid, number)


def _free_port() -> int:
    """A port that was free a moment ago. If another program takes it first, our server and the stage end."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def start_all(servers: Sequence[LocalServer]) -> None:
    """Start all, then wait for all; none is left running if one fails."""
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait()
    except BaseException:
        stop_all(servers)
        raise


def stop_all(servers: Sequence[LocalServer]) -> None:
    """End all of them."""
    for server in servers:
        server.stop()


def open_local(config: EngineConfig, checkpoint: Path) -> ServedEngine:
    """An engine over `config.servers` servers of `checkpoint`, started here; they end with the engine.

    Of several processes, which must all come here, the first starts them and tells the others where they are.
    Only it can start one again, on another port: the others then end the stage, which resumes.

    Raises:
        InputError: vLLM is not installed.
        InterruptedRun: a server does not start, or answers otherwise than the checkpoint should.
    """
    if find_spec("vllm") is None:
        raise InputError(
            'engine.name = "server" starts servers of vLLM, which is not installed; run `make vllm`, or '
            "choose another engine."
        )
    vocabulary = read_vocabulary(checkpoint, config.thinking)
    servers = [
        LocalServer(vllm_launch(config, checkpoint, vocabulary, number), config.start_seconds)
        for number in range(config.servers)
    ]

    def started() -> list[Endpoint]:
        start_all(servers)
        return [server.endpoint for server in servers]

    endpoints = processes.broadcast(started)
    if not processes.world().first:
        return checked(config, [RemoteServer(endpoint) for endpoint in endpoints], vocabulary)
    try:
        engine = checked(config, servers, vocabulary)
    except BaseException:
        stop_all(servers)
        raise
    weakref.finalize(engine, stop_all, servers)  # at the interpreter's exit too; kills are the watchdog's
    return engine


def open_elsewhere(config: EngineConfig, checkpoint: Path) -> ServedEngine:
    """An engine over the servers of `config.urls`, which somebody else runs.

    Raises:
        InterruptedRun: a server does not answer.
        InputError, RolloutError: one does not serve this checkpoint.
    """
    servers = [RemoteServer(one) for one in elsewhere(config.urls, checkpoint)]
    try:
        return checked(config, servers, read_vocabulary(checkpoint, config.thinking))
    except VZeroError as error:
        raise type(error)(
            f"{error} This stage asks for {checkpoint}, which a server offers as {model_name(checkpoint)} "
            f"when it is started by `python -m vzero.rollout.serve {checkpoint}`."
        ) from None


def checked(
    config: EngineConfig,
    servers: Sequence[Server],
    vocabulary: Vocabulary,
    kind: type[ServedEngine] = ServedEngine,
) -> ServedEngine:
    """An engine over `servers`, which have answered."""
    retry = RetryPolicy(config.request_seconds, config.retries, sequences=config.batch_sequences)
    engine = kind(servers, vocabulary, retry)
    engine.check()
    return engine


def elsewhere(urls: Sequence[str], checkpoint: Path) -> list[Endpoint]:
    """Servers that somebody else runs, which must serve the checkpoint as `model_name`."""
    name, token = model_name(checkpoint), os.environ.get(TOKEN_VARIABLE)
    return [Endpoint(url, name, token) for url in urls]


def model_name(checkpoint: Path) -> str:
    """A checkpoint's name by the hash of its files, so that another iteration's is not taken for it."""
    return f"vzero-{artefacts.digest(artefacts.folder_hashes(checkpoint))[:12]}"


def vllm_launch(config: EngineConfig, checkpoint: Path, vocabulary: Vocabulary, number: int) -> Launch:
    """vLLM's OpenAI server for the `number`-th device."""
    import torch

    arguments = {
        "model": str(checkpoint),
        "host": LOOPBACK,
        **engine_arguments(config, vocabulary),
        "chat_template_content_format": "openai",
        "uvicorn_log_level": "warning",
        "disable_uvicorn_access_log": True,
    }

    def command(name: str, port: int) -> list[str]:
        words = _flags({**arguments, "served_model_name": name, "port": port})
        return [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server", *words]

    return Launch(command, {**ENVIRONMENT, **_device(config, number, torch.cuda.is_available())})


def _flags(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as words of vLLM's command line."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return words


def _device(config: EngineConfig, number: int, on_gpu: bool) -> dict[str, str]:
    if not (config.gpus or on_gpu):
        return {}
    visible = os.environ.get(processes.ALL_GPUS) or os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = config.gpus[number] if config.gpus else number
    devices = visible.split(",") if visible else [str(i) for i in range(wanted + 1)]
    if wanted >= len(devices):
        raise InputError(
            f"A server is to run on GPU {wanted}, counted from 0, and {len(devices)} are visible; lower "
            "engine.servers or gpus."
        )
    return {"CUDA_VISIBLE_DEVICES": devices[wanted]}
