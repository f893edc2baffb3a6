"""A checkpoint's chat template: a program of whoever made it, tried before it is used."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from vzero.errors import InputError, machine_failure
from vzero.runtime import limits

SECONDS, BYTES = 10, 1 << 30  # processor time, memory; ordinary ones take a thousandth


def check(processor: Any, folder: Path) -> None:
    """Refuse a chat template that does not end on a plain conversation, or takes all memory: a program in the
    checkpoint, though one that can only write.

    Raises:
        InputError: it does.
    """
    text = {"type": "text", "text": "A"}
    turns = [{"role": role, "content": [text]} for role in ("system", "user", "assistant", "user")]
    turns[1]["content"] = [{"type": "image"}, text]
    for asked in (turns, turns[1:2]):
        render = partial(processor.apply_chat_template, asked, tokenize=False, add_generation_prompt=True)
        try:
            ended = limits.ends(render, SECONDS, BYTES)
        except OSError as error:
            reason = f"The chat template of {folder} cannot be tried: {error}."
            raise machine_failure(error, folder) or InputError(reason) from error
        if not ended:
            raise InputError(
                f"The chat template of {folder} does not end within {SECONDS} s and "
                f"{BYTES >> 20} MB; do not use it."
            )
