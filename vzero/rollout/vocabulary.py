"""What a checkpoint's own files say about its tokens, without its weights: for engines that hold the model
elsewhere.

All engines must agree on three things, or the same request means something else on each: which ids end a
turn, which are never drawn, and how drawn ids become text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from vzero.errors import InputError, RolloutError
from vzero.rollout.protocol import Completion
from vzero.runtime.checkpoints import load_processor

FORBIDDEN_BIAS = (
    -100.0
)  # added to the logit of a token that is never drawn: the lowest value OpenAI's interface allows


@dataclass(frozen=True)
class Vocabulary:
    """Attributes:
    processor: the checkpoint's, with its tokenizer and chat template.
    eos: ids that end a turn.
    forbidden: ids that are never drawn; see `TransformersEngine.forbidden`.
    positions: tokens that prompt and completion may have together; None where the model does not say.
    """

    processor: Any
    eos: frozenset[int]
    forbidden: frozenset[int]
    positions: int | None

    @property
    def bias(self) -> dict[int, float]:
        """What to add to logits so that no forbidden token is drawn."""
        return dict.fromkeys(sorted(self.forbidden), FORBIDDEN_BIAS)

    def completion(
        self, token_ids: Sequence[int], logprobs: Sequence[float], finish_reason: str | None
    ) -> Completion:
        """What an engine drew, its end token kept out of the text.

        Raises:
            RolloutError: an end that is none ("abort", None), a turn that ended without an end token, or a
                token that was forbidden.
        """
        stopped = finish_reason == "stop"
        if (
            not token_ids
            or (not stopped and finish_reason != "length")
            or (stopped and token_ids[-1] not in self.eos)
        ):
            raise RolloutError(
                f"A completion of {len(token_ids)} tokens ended with {finish_reason!r}, which is no end of a turn."
            )
        if not self.forbidden.isdisjoint(token_ids):
            raise RolloutError(
                f"The engine drew a token that was forbidden ({min(self.forbidden.intersection(token_ids))})."
            )
        body = token_ids[:-1] if stopped else token_ids
        text = self.processor.tokenizer.decode(
            body, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        end: Literal["stop", "length"] = "stop" if stopped else "length"
        return Completion(text, tuple(token_ids), tuple(logprobs), end)


def read_vocabulary(checkpoint: Path) -> Vocabulary:
    """The vocabulary of a checkpoint folder.

    Raises:
        InputError: the folder has no processor, or a config that cannot be read.
    """
    processor = load_processor(checkpoint)
    from transformers import AutoConfig, GenerationConfig

    from vzero.rollout.transformers_engine import end_tokens, structural_tokens

    try:
        config = AutoConfig.from_pretrained(str(checkpoint), local_files_only=True, trust_remote_code=False)
        written = (checkpoint / "generation_config.json").exists()
        generation = (
            GenerationConfig.from_pretrained(str(checkpoint))
            if written
            else GenerationConfig.from_model_config(config)
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{checkpoint} has a config that cannot be read: {str(error).splitlines()[0].rstrip('.')}."
        ) from error
    declared = SimpleNamespace(config=config, generation_config=generation)
    eos = end_tokens(declared, processor.tokenizer)
    forbidden = structural_tokens(declared, processor.tokenizer, eos)
    return Vocabulary(
        processor, eos, forbidden, getattr(config.get_text_config(), "max_position_embeddings", None)
    )
