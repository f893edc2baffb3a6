"""Ask an engine about many things, a chunk at a time, so that a killed stage continues at the chunk it was
in.

Chunks are cut by position, so a resumed stage makes the same batches, and draws the same, as an undisturbed
one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vzero.config import SamplingConfig
from vzero.rollout.protocol import Engine, Request
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """One completion as an artefact keeps it; `tokens` is how many were drawn, the end of turn included."""

    text: str
    finish_reason: str
    tokens: int


def ask(
    engine: Engine,
    items: Sequence[T],
    request: Callable[[T], Request],
    sampling: SamplingConfig,
    *,
    chunk: int,
    log: Path,
    progress: Progress,
    unit: str,
) -> list[tuple[Reply, ...]]:
    """The `sampling.n` replies to each item, in order.

    Args:
        request: the request for an item; called only for chunks not yet in `log`, so images are opened when
            needed.
        chunk: items asked together.
        log: scratch file, one row a finished chunk; what a killed attempt left in it is used.
        unit: what an item is called in `progress`, in the plural.
    """
    rows = artefacts.read_jsonl(log) if log.exists() else []
    artefacts.write_jsonl(log, rows)  # without the torn row that a kill may have left
    replies = [tuple(Reply(**reply) for reply in item) for row in rows for item in row["replies"]]
    while len(replies) < len(items):
        start = time.perf_counter()
        requests = [request(item) for item in items[len(replies) : len(replies) + chunk]]
        fresh = [
            tuple(Reply(one.text, one.finish_reason, len(one.token_ids)) for one in rollout.completions)
            for rollout in engine.generate(requests, sampling)
        ]
        artefacts.append_jsonl(log, {"replies": [[vars(reply) for reply in item] for item in fresh]})
        replies += fresh
        tokens = sum(reply.tokens for item in fresh for reply in item)
        speed = {"tokens_per_second": tokens / (time.perf_counter() - start)}
        progress.update(len(replies), len(items), unit, speed)
    return replies
