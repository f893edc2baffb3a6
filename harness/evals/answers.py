"""Drawing answers from an engine, chunk by chunk, with finished chunks kept so that a killed evaluation does
not draw them again.

A chunk is what the engine decodes as one batch. It is stored whole under a digest of everything that
determines it (checkpoint, engine, sampling parameters, every request with its image and seed), so a resumed
evaluation meets the same batches as an undisturbed one and nothing stale can answer. lmms-eval's own response
cache is never used: its key knows neither the image nor the weights.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from harness.evals.pocket_tasks import SENT
from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError
from vzero.rollout.protocol import Engine, Message, Request, Rollout
from vzero.runtime import artefacts

IGNORED = (
    "until",
)  # lmms-eval puts until: ["\n\n"] into every task; it would cut the reasoning at its first blank line
Answer = dict[str, Any]  # {"text", "finish_reason", "tokens"}
Report = Callable[
    [int, int, float], None
]  # (answers, tokens, seconds) of a finished chunk; seconds 0 where it was kept from before


def image_sha256(image: Image.Image) -> str:
    """Hex SHA-256 of mode, size and pixels: what the model is shown, however the file was encoded."""
    return hashlib.sha256(
        f"{image.mode} {image.width}x{image.height}\n".encode() + image.tobytes()
    ).hexdigest()


def prompt_sha256(messages: Sequence[Message]) -> str:
    """Hex SHA-256 of the conversation (roles and texts, in order), before any chat template."""
    return artefacts.digest([[message.role, message.text] for message in messages])


def sampling_of(generation_kwargs: Mapping[str, Any], n: int) -> SamplingConfig:
    """The sampling parameters lmms-eval hands over, every one of them.

    Raises:
        VZeroError: one is missing, or there is one that would not be sent.
    """
    given = {key: value for key, value in generation_kwargs.items() if key not in IGNORED}
    if set(given) != set(SENT):
        raise VZeroError(
            f"lmms-eval handed over the sampling parameters {sorted(given)}, expected {sorted(SENT)}: the task file and "
            "the adapter do not fit each other."
        )
    return SamplingConfig(n=n, **given)


def request_of(chat: Sequence[Mapping[str, Any]], seed: int) -> Request:
    """One engine request from lmms-eval's chat messages.

    Raises:
        VZeroError: more than one image, or an image anywhere but before the text of the first user turn.
    """
    messages: list[Message] = []
    image: Image.Image | None = None
    for turn in chat:
        texts = []
        for part in turn["content"]:
            if part["type"] == "text":
                texts.append(part["text"])
                continue
            first = (
                turn["role"] == "user"
                and not texts
                and not any(message.role == "user" for message in messages)
            )
            if part["type"] != "image" or image is not None or not first:
                raise VZeroError(
                    "An evaluation prompt may hold one image, before the text of its first user turn."
                )
            image = part["url"]
        messages.append(Message(turn["role"], "".join(texts)))
    return Request(tuple(messages), image, seed)


@dataclass(frozen=True)
class Answerer:
    """Asks `engine`, and keeps finished chunks in `store`.

    Attributes:
        identity: what, beside the requests and the sampling, determines the answers (checkpoint digest,
            engine config).
        batch_sequences: how many sequences the engine decodes together.
        report: told of each finished chunk.
    """

    engine: Engine
    store: Path
    identity: Mapping[str, Any]
    batch_sequences: int
    report: Report

    def chunk_size(self, sampling: SamplingConfig) -> int:
        """Requests in one chunk: as many as fill the engine's batch."""
        return max(1, self.batch_sequences // sampling.n)

    def draw(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[list[Answer]]:
        """`sampling.n` answers for each request of one chunk, in order.

        Raises:
            RolloutError: the engine could not answer all of it.
        """
        path = self.store / f"{self._key(requests, sampling)}.json"
        seconds = 0.0
        answers = _kept(path, len(requests), sampling.n)
        if answers is None:
            start = time.monotonic()
            answers = _checked(self.engine.generate(requests, sampling), len(requests), sampling.n)
            seconds = time.monotonic() - start
            artefacts.write_json(path, answers)
        self.report(
            len(requests) * sampling.n,
            sum(answer["tokens"] for drawn in answers for answer in drawn),
            seconds,
        )
        return answers

    def _key(self, requests: Sequence[Request], sampling: SamplingConfig) -> str:
        asked = [
            [prompt_sha256(one.messages), image_sha256(one.image) if one.image else None, one.seed]
            for one in requests
        ]
        return artefacts.digest(
            {"identity": dict(self.identity), "sampling": sampling.model_dump(), "requests": asked}
        )


def _kept(path: Path, requests: int, n: int) -> list[list[Answer]] | None:
    """The answers of a finished chunk; None where there are none, or a failing disk tore them."""
    try:
        answers = artefacts.read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    whole = (
        isinstance(answers, list) and len(answers) == requests and all(len(drawn) == n for drawn in answers)
    )
    return answers if whole else None


def _checked(rollouts: Sequence[Rollout], requests: int, n: int) -> list[list[Answer]]:
    if len(rollouts) != requests or any(len(rollout.completions) != n for rollout in rollouts):
        raise RolloutError(
            f"The engine owed {n} answers to each of {requests} requests and gave "
            f"{sorted({len(rollout.completions) for rollout in rollouts})} to {len(rollouts)}; nothing was scored."
        )
    return [
        [
            {"text": one.text, "finish_reason": one.finish_reason, "tokens": len(one.token_ids)}
            for one in rollout.completions
        ]
        for rollout in rollouts
    ]
