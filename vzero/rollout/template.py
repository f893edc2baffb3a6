"""Conversations made into text by a checkpoint's chat template, and text into what its model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from PIL import Image

from vzero.errors import RolloutError
from vzero.rollout.protocol import Message

if TYPE_CHECKING:
    from torch import Tensor


def render(processor: Any, messages: Sequence[Message], with_image: bool, prefill: str = "") -> str:
    """The text of a conversation by the checkpoint's own chat template, up to where the answer goes on.

    Raises:
        RolloutError: it has no user turn to put its image in.
    """
    if with_image and all(message.role != "user" for message in messages):
        raise RolloutError(
            "A request has an image and no user turn to show it in; give every conversation a user message."
        )
    ending = {"continue_final_message": True} if prefill else {"add_generation_prompt": True}
    turns = conversation((*messages, *answer_begun(prefill)), with_image)
    return str(processor.apply_chat_template(turns, tokenize=False, **ending))


def answer_begun(prefill: str) -> tuple[Message, ...]:
    """The turn that a prefill leaves open; none where nothing is prefilled."""
    return (Message("assistant", prefill),) if prefill else ()


def conversation(messages: Sequence[Message], with_image: bool) -> list[dict[str, Any]]:
    """Messages as a chat template takes them: parts, the image before the text of the first user turn, no
    part for an empty text."""
    turns = []
    for message in messages:
        parts: list[dict[str, str]] = [{"type": "text", "text": message.text}] if message.text else []
        if with_image and message.role == "user":
            parts.insert(0, {"type": "image"})
            with_image = False
        turns.append({"role": message.role, "content": parts})
    return turns


def end_of_turn(processor: Any) -> int | None:
    """Id of the token that the chat template writes behind an answer: what a model trained with it ends its
    turns by. None where it writes text alone."""
    marker = "ANSWER"
    turns = (Message("user", "Q"), Message("assistant", marker), Message("user", "Q"))
    added = processor.tokenizer.added_tokens_decoder.items()
    for asked in (turns[:2], turns):  # some end a turn by the head of the next one
        try:
            text = processor.apply_chat_template(conversation(asked, with_image=False), tokenize=False)
        except (TemplateError, TypeError, ValueError):  # it knows no turns of the assistant's
            continue
        behind = text.partition(marker)[2].lstrip()
        written = {i: one.content for i, one in added if one.content.strip() and one.content in behind}
        if written:
            first = min(written, key=lambda i: (behind.find(written[i]), -len(written[i])))
            if len(asked) == 2 or behind.startswith(written[first]):
                return int(first)
    return None


def processed(processor: Any, texts: Sequence[str], images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """What the model's own forward takes for rendered prompts, padded on the left: `input_ids`,
    `attention_mask`, pictures and whatever else its family needs.

    Args:
        images: one for each text, or none at all: processors disagree on how to take a mixture.
    """
    return dict(
        processor(
            text=list(texts),
            images=[[image] for image in images] or None,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            **special_tokens(processor, texts[0]),
        )
    )


def token_ids(processor: Any, text: str) -> list[int]:
    """Token ids of a rendered prompt; an image token is one id, which only vLLM expands itself."""
    return list(processor.tokenizer(text, **special_tokens(processor, text))["input_ids"])


def special_tokens(processor: Any, text: str) -> dict[str, bool]:
    """A template that wrote the first token itself must not get a second one (the rule of
    `apply_chat_template`)."""
    bos = processor.tokenizer.bos_token
    return {"add_special_tokens": False} if bos is not None and text.startswith(bos) else {}
