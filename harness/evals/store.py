"""Answers of a checkpoint, kept as they are drawn: one synced line an item, found again by what determines
them.

The key covers the checkpoint's content, the engine, the conversation, the pixels shown, the sampling
parameters and the seed. So a killed evaluation goes on at the next item, scoring needs no model, and no
checkpoint is ever answered by another's responses. lmms-eval's own cache is never used: its key knows neither
the image nor the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.evals.answers import Answer, image_sha256, prompt_sha256
from vzero.config import SamplingConfig
from vzero.errors import VZeroError
from vzero.rollout.protocol import Request
from vzero.runtime import artefacts

_ANSWER = {"text", "finish_reason", "tokens"}


def key_of(identity: Mapping[str, Any], request: Request, sampling: SamplingConfig) -> str:
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


class Responses:
    """One suite's answers in one file.

    Attributes:
        path: JSON Lines, a row an item and purpose: key, suite, id, purpose, image and prompt hashes,
            answers.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there. A torn last line, left by a kill, is dropped."""
        self.path = path
        self._rows = {row["key"]: row for row in read_rows(path)}

    def get(self, key: str) -> list[Answer] | None:
        """The answers under `key`."""
        row = self._rows.get(key)
        return None if row is None else row["answers"]

    def put(self, key: str, about: Mapping[str, Any], answers: Sequence[Answer]) -> None:
        """Keep answers; on the disk before this returns."""
        row = {"key": key, **about, "answers": list(answers)}
        artefacts.append_jsonl(self.path, row)
        self._rows[key] = row


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a file of responses, none where there is no file.

    Raises:
        VZeroError: a row (but the last, which a kill may have torn) is damaged.
    """
    if not path.exists():
        return []
    try:
        rows = artefacts.read_jsonl(path)
        if all(
            isinstance(row, dict)
            and isinstance(row["key"], str)
            and all(set(one) >= _ANSWER for one in row["answers"])
            for row in rows
        ):
            return rows
    except (ValueError, KeyError, TypeError):
        pass
    raise VZeroError(f"{path} is damaged; delete it, and the evaluation draws its answers again.")
