"""Servers of a model, one for each share of a cluster that was reserved for them.

A stage asks all of them, and so do all processes of a training. What one that is lost had not answered is
asked of the others by the client (vzero/rollout/client.py); what was answered is in the stage's own log.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cluster.part import Place, end_of
from harness.cluster.placement import ASKED
from harness.runs.environment import threads_of
from vzero.config import EngineConfig, Preset
from vzero.errors import InterruptedRun
from vzero.rollout.endpoints import TOKEN_VARIABLE, Replicas, serves
from vzero.runtime.http_client import Endpoint
from vzero.runtime.stage import input_folder
from vzero.selfplay import Stage


@dataclass(frozen=True)
class Served:
    """What is served: a checkpoint's folder that all machines see, by `engine` with its threads at each
    server; the servers print into files in `logs` that begin with `name`."""

    checkpoint: Path
    engine: EngineConfig
    logs: Path
    name: str


def of_stage(
    run: Path,
    preset: Preset,
    stage: Stage,
    parts: Sequence[Any],
    places: Sequence[Place],
    runs: dict[Any, Any],
) -> dict[str, str]:
    """As `started`, of the model that a stage asks; what tells the stage of the servers."""
    if not parts:
        return {}
    role = ASKED[stage.kind]
    checkpoint = input_folder(run, preset, role, stage.inputs[role]).absolute()
    engine = preset.placed_engine() if stage.kind.startswith("train-") else preset.bulk_engine()
    threads = max(1, threads_of(preset, stage))
    engine = engine.model_copy(update={"threads": threads})
    return started(Served(checkpoint, engine, run / "logs", stage.name), parts, places, runs).variable()


def started(served: Served, parts: Sequence[Any], places: Sequence[Place], runs: dict[Any, Any]) -> Replicas:
    """Start a server by each of `parts` and wait until all answer.

    Args:
        runs: gets their results to come, of which part each.

    Raises:
        InterruptedRun: one does not start.
    """
    model, token, engine = f"vzero-{secrets.token_hex(6)}", secrets.token_urlsafe(32), served.engine
    alone = engine.model_copy(update={"servers": 1, "gpus": (), "urls": ()})
    for number, (part, place) in enumerate(zip(parts, places, strict=True)):
        where = ["--host", place.address, "--port", str(place.port), "--name", model]
        words = [str(served.checkpoint), *where, "--settings", alone.model_dump_json()]
        given = {TOKEN_VARIABLE: token, "HF_HUB_OFFLINE": "1"}  # the checkpoint is a folder
        log = served.logs.absolute() / f"{served.name}.replica-{number}.log"
        runs[part.serve.remote(words, engine.threads, log, given)] = part
    endpoints = [Endpoint(f"http://{place.address}:{place.port}", model, token) for place in places]
    _await([*runs], endpoints, places, engine.start_seconds)
    urls = [one.url for one in endpoints]
    return Replicas(str(served.checkpoint), urls, model, token, all(place.on_gpu for place in places))


def _await(
    runs: Sequence[Any], endpoints: Sequence[Endpoint], places: Sequence[Place], seconds: float
) -> None:
    import ray

    until = time.monotonic() + seconds
    while not all(map(serves, endpoints)):
        for done in ray.wait([*runs], timeout=0.5)[0]:
            end, place = end_of(done), places[runs.index(done)]
            raise InterruptedRun(f"A server on {place.host} ended before it answered: {end.reason}")
        if time.monotonic() > until:
            raise InterruptedRun(
                f"Not all of {len(runs)} servers answered within {seconds:g} s; see their logs, "
                "raise engine.start_seconds, then run the same command again."
            )
