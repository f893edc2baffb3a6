"""Models that think before they answer: the switch of their chat templates, and what is read of a completion.

A template may leave a thought open where the answer goes on (Qwen3.5, Qwen3-VL-Thinking): a completion then
begins inside it, so that no tag in it says which boxes were only considered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vzero.errors import InputError
from vzero.rollout.protocol import Message
from vzero.rollout.template import render
from vzero.runtime import chat_templates, checkpoints

BEGIN, END = "<think>", "</think>"
_SWITCHES = {True: "{%- set enable_thinking = true %}", False: "{%- set enable_thinking = false %}"}


def load_processor(checkpoint: Path, thinking: bool | None) -> Any:
    """The processor of a checkpoint, its template switched as `EngineConfig.thinking` says.

    Raises:
        InputError: there is none, or its template cannot be switched so.
    """
    processor = checkpoints.load_processor(checkpoint)
    if thinking is None:
        return processor
    template = processor.chat_template
    if not isinstance(template, str):
        raise InputError(f"{checkpoint} has several chat templates; leave engine.thinking out.")
    processor.chat_template = _SWITCHES[thinking] + template
    chat_templates.check(processor, checkpoint)  # switched, it may be another program
    if not thinking and opens_thought(processor):
        raise InputError(
            f"The chat template of {checkpoint} opens a thought in any case; set engine.thinking=true, or "
            "take the edition of the model that does not think."
        )
    if thinking and "enable_thinking" not in template and not opens_thought(processor):
        raise InputError(
            f"The chat template of {checkpoint} has no enable_thinking and opens no thought; leave "
            "engine.thinking out: reasoning that a prompt asks for needs no switch."
        )
    return processor


def switched(processor: Any) -> bool | None:
    """How `load_processor` has switched this template."""
    template = str(getattr(processor, "chat_template", None))
    return next((way for way, text in _SWITCHES.items() if template.startswith(text)), None)


def opens_thought(processor: Any) -> bool:
    """Whether the template begins an answer by a thought that it does not end."""
    if BEGIN not in str(getattr(processor, "chat_template", None)):
        return False
    text = render(processor, (Message("user", "Q"),), with_image=False)
    return text.rfind(BEGIN) > text.rfind(END)


def after_thought(text: str) -> str:
    """From the last end of a thought on; nothing where none ended, or another one began."""
    _, end, rest = text.rpartition(END)
    return end + rest if end and BEGIN not in rest else ""
