"""Answers of a checkpoint, kept as they are drawn: one line per item, found again by what determines them.

The key covers the checkpoint's content, the engine, the conversation, the pixels shown, the sampling
parameters and the seed. So a killed evaluation goes on at the next item, scoring needs no model, and no
checkpoint is ever answered by another's responses. lmms-eval's own cache is never used: its key knows neither
the image nor the weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image

from vzero.config import SamplingConfig
from vzero.errors import VZeroError
from vzero.rollout.protocol import Message, Request
from vzero.runtime import artefacts, owned, scratch


class StoredAnswer(TypedDict):
    """One completion, as it is stored."""

    text: str
    finish_reason: str
    tokens: int


class Response(TypedDict):
    """A line of the store: `sampling.n` answers to one item."""

    key: str
    suite: str
    id: str
    purpose: str
    image_sha256: str
    prompt_sha256: str
    answers: list[StoredAnswer]


def image_sha256(image: Image.Image) -> str:
    """Hex SHA-256 of mode, size and pixels: what the model is shown, however the file was encoded."""
    head = f"{image.mode} {image.width}x{image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def prompt_sha256(messages: Sequence[Message]) -> str:
    """Hex SHA-256 of the conversation (roles and texts, in order), before any chat template."""
    return artefacts.digest([[message.role, message.text] for message in messages])


def key_of(identity: Mapping[str, str], request: Request, sampling: SamplingConfig) -> str:
    """Hex SHA-256 of everything that determines the answers to one request.

    Args:
        identity: what, beside request and sampling, determines them (digest of the checkpoint, engine).
    """
    return artefacts.digest(
        {
            "identity": dict(identity),
            "sampling": sampling.model_dump(),
            "prompt": prompt_sha256(request.messages),
            "image": image_sha256(request.image) if request.image is not None else None,
            "seed": request.seed,
        }
    )


class Store:
    """One suite's answers in one file of JSON Lines."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a row that is damaged, or torn by a kill, is not."""
        self._path = path
        rows = scratch.recover(path, _whole, unmarked=True)
        self._answers = {row["key"]: row["answers"] for row in rows}

    def get(self, key: str) -> list[StoredAnswer] | None:
        """The answers under `key`."""
        return self._answers.get(key)

    def put(self, responses: Iterable[Response], sync: bool = True) -> None:
        """Keep answers; see `artefacts.append_jsonl` for `sync`."""
        rows = list(responses)
        scratch.append(self._path, *rows, sync=sync)
        self._answers.update({row["key"]: row["answers"] for row in rows})


def read(path: Path) -> list[Response]:
    """All rows of a file of responses, none where there is no file.

    Raises:
        VZeroError: a row (but the last, which a kill may have torn) is damaged.
    """
    if not path.exists():
        return []
    *lines, last = owned.read_bytes(path).split(b"\n")
    rows = [scratch.row_of(line, unmarked=True) for line in lines if line]
    if last and (row := scratch.row_of(last, unmarked=True)):  # of another program; else torn
        rows.append(row)
    if all(row is not None and _whole(row) for row in rows):
        return rows  # type: ignore[return-value]  # checked right above
    raise damaged(path)


def damaged(path: Path) -> VZeroError:
    """What to say of a file of responses that is not as it was written."""
    return VZeroError(f"{path} is damaged; run its evaluation again, which draws what is lost.")


def _whole(row: Mapping[str, Any]) -> bool:
    try:
        return isinstance(row["key"], str) and all(
            set(one) >= StoredAnswer.__required_keys__ for one in row["answers"]
        )
    except (KeyError, TypeError):
        return False
