"""A checkpoint's chat template: a program of whoever made it, tried before it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
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
    tokens = repr(getattr(processor.tokenizer, "special_tokens_map", None))
    try:
        ended = _ends(_Program(repr(processor.chat_template), tokens, processor))
    except OSError as error:
        reason = f"The chat template of {folder} cannot be tried: {error}."
        raise machine_failure(error, folder) or InputError(reason) from error
    if not ended:
        raise InputError(
            f"The chat template of {folder} does not end within {SECONDS} s and "
            f"{BYTES >> 20} MB; do not use it."
        )


@dataclass(frozen=True)
class _Program:
    """A template, and all that it reads but the conversation."""

    template: str
    tokens: str
    processor: Any = field(compare=False)

    def render(self) -> None:
        """A conversation of all roles, and one turn by itself; a template may refuse either."""
        text = {"type": "text", "text": "A"}
        turns = [{"role": role, "content": [text]} for role in ("system", "user", "assistant", "user")]
        turns[1]["content"] = [{"type": "image"}, text]
        for asked in (turns, turns[1:2]):
            try:
                self.processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            except MemoryError:
                raise
            except Exception:
                continue


@lru_cache(maxsize=8)  # the policy, the reference and the engine of a stage are of one checkpoint
def _ends(program: _Program) -> bool:
    return limits.ends(program.render, SECONDS, BYTES)
