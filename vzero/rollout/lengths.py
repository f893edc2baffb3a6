"""How long prompts are, before anything is drawn: what leaves a completion no room is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from vzero.config import EngineConfig, RolloutsConfig
from vzero.rollout.protocol import Message
from vzero.rollout.template import render, token_ids
from vzero.rollout.vocabulary import Vocabulary

Prompt = tuple[tuple[Message, ...], tuple[int, int]]  # a conversation, width and height of its picture


def policy_context(rollouts: RolloutsConfig, engine: EngineConfig, positions: int | None) -> int | None:
    """Tokens that prompt and completion of a policy may have together; None where nothing limits them."""
    told = engine.max_model_len if rollouts.engine == "vllm" else None
    return min((one for one in (told, positions) if one is not None), default=None)


def fitting(
    vocabulary: Vocabulary, prompts: Sequence[Prompt], max_new_tokens: int, context: int | None
) -> list[bool]:
    """Whether prompt and completion fit into `context` tokens, for each prompt. True of processors that
    cannot count a picture's tokens by its size (Qwen-VL's can): there an engine finds out."""
    processor = vocabulary.processor
    count = getattr(processor.image_processor, "get_number_of_image_patches", None)
    merge = getattr(processor.image_processor, "merge_size", None)
    if context is None or count is None or merge is None:
        return [True] * len(prompts)

    @lru_cache(maxsize=1024)
    def picture(width: int, height: int) -> int:
        return int(count(height, width) // merge**2)

    @lru_cache(maxsize=1024)
    def text(messages: tuple[Message, ...]) -> int:
        return len(token_ids(processor, render(processor, messages, with_image=True))) - 1

    return [text(one) + picture(*size) + max_new_tokens <= context for one, size in prompts]
