"""Ask an engine about many things; each reply is logged as it ends, so that a killed stage loses what was
being drawn and nothing else.

Each reply is drawn by its own request's seed. What is asked beside it moves probabilities in their last bits
alone, which very rarely shows: in ten runs of `smoke` one answer changed with the order of the requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vzero.config import SamplingConfig
from vzero.rollout.protocol import Answer, Engine, Request, Rollout
from vzero.runtime import scratch
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
    log: Path,
    progress: Progress,
    unit: str,
) -> list[tuple[Reply, ...]]:
    """The `sampling.n` replies to each item, in order; none to an item that exceeds the model's context.

    Args:
        request: the request for an item; called when the engine gets to it, so that images are opened when
            needed.
        log: scratch file, one row a finished item; what a killed attempt left in it is used.
        unit: what an item is called in `progress`, in the plural.
    """
    spec = scratch.made_for(log.parent)
    rows = scratch.recover(log, lambda row: row.get("spec") == spec and "item" in row and "replies" in row)
    replies = {row["item"]: tuple(Reply(**reply) for reply in row["replies"]) for row in rows}
    missing = [i for i in range(len(items)) if i not in replies]
    progress.update(len(replies), len(items), unit)  # work begins; its rate is counted from here
    speed = Speed()

    def finished(number: int, answer: Answer) -> None:
        i = missing[number]
        drawn = answer.completions if isinstance(answer, Rollout) else ()
        replies[i] = tuple(Reply(one.text, one.finish_reason, len(one.token_ids)) for one in drawn)
        rate = speed.add(sum(reply.tokens for reply in replies[i]), last=len(replies) == len(items))
        row = {"spec": spec, "item": i, "replies": [vars(reply) for reply in replies[i]]}
        scratch.append(log, row, sync=rate is not None)
        if rate is not None:
            progress.update(len(replies), len(items), unit, {"tokens_per_second": rate})

    engine.stream((request(items[i]) for i in missing), sampling, finished)
    return [replies[i] for i in range(len(items))]


def lost(replies: Sequence[Sequence[Reply]], thinking: bool | None) -> dict[str, int]:
    """How many items exceeded the context, and of a model that thinks how many replies end inside a thought,
    of which nothing is read; as a stage's facts, where there are any."""
    unfinished = sum(not reply.text for given in replies for reply in given) if thinking else 0
    counts = {"too_long": sum(not given for given in replies), "unfinished_thoughts": unfinished}
    return {name: count for name, count in counts.items() if count}


class Speed:
    """Tokens a second, said about once a second."""

    def __init__(self) -> None:
        self._since, self._tokens = time.monotonic(), 0

    def add(self, tokens: int, last: bool = False) -> float | None:
        """Count some; the speed since it was last said, None where that is less than a second ago and these
        are not the last."""
        self._tokens += tokens
        seconds = time.monotonic() - self._since
        if seconds < 1 and not last:
            return None
        rate, self._tokens, self._since = self._tokens / max(seconds, 1e-9), 0, time.monotonic()
        return rate
