"""What a checkpoint's own files say about its tokens.

All engines must agree on three things, or the same request means something else on each: which ids end a
turn, which are never drawn, and how drawn ids become text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vzero.config import SamplingConfig
from vzero.errors import InputError, RolloutError, VZeroError, machine_failure
from vzero.rollout import template, thinking
from vzero.rollout.protocol import Completion
from vzero.runtime.checkpoints import first_line
from vzero.runtime.seeding import derive

FORBIDDEN_BIAS = -100.0  # on the logit of a forbidden token: the lowest that OpenAI's interface allows


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one checkpoint.

    Attributes:
        processor: the checkpoint's, with its tokenizer and chat template.
        eos: ids that end a turn, by the generation config, the tokenizer and the chat template.
        forbidden: ids that are never drawn, because text holding them breaks the next prompt: vision and
            padding tokens, every special token that does not end a turn, and ids unknown to the tokenizer.
        positions: tokens that prompt and completion may have together; None where the model does not say.
        repaired: a sentence where only the chat template names an end of turn.
    """

    processor: Any
    eos: frozenset[int]
    forbidden: frozenset[int]
    positions: int | None
    repaired: str | None = None

    def completion(
        self, token_ids: Sequence[int], logprobs: Sequence[float], finish_reason: str | None
    ) -> Completion:
        """What an engine drew, its end token kept out of the text.

        Raises:
            RolloutError: an end that is none ("abort", None), a turn that ended without an end token or
                went on after one, a token that was forbidden or is none of the checkpoint's.
        """
        stopped = finish_reason == "stop"
        ended = token_ids and (token_ids[-1] in self.eos if stopped else finish_reason == "length")
        if not ended:
            raise RolloutError(
                f"A completion of {len(token_ids)} tokens ended with {finish_reason!r}: no end of a turn."
            )
        drawn = token_ids[:-1] if stopped else token_ids
        if not self.eos.isdisjoint(drawn):
            raise RolloutError("The engine drew tokens after the end of a turn.")
        if not self._known.issuperset(drawn):
            raise RolloutError("The engine drew a token that is not in the checkpoint's vocabulary.")
        if not self.forbidden.isdisjoint(token_ids):
            raise RolloutError(
                f"The engine drew a token that was forbidden ({min(self.forbidden.intersection(token_ids))})."
            )
        text = self.processor.tokenizer.decode(
            drawn,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        answer = thinking.after_thought(text) if self._thinks else text
        thought = text.removesuffix(answer)
        end: Literal["stop", "length"] = "stop" if stopped else "length"
        return Completion(answer, tuple(token_ids), tuple(logprobs), end, thought)

    @cached_property
    def _thinks(self) -> bool:
        return bool(thinking.switched(self.processor))

    @cached_property
    def _known(self) -> frozenset[int]:
        """Ids of which the tokenizer knows the text, and those that are forbidden."""
        return self.forbidden.union(self.processor.tokenizer.get_vocab().values())

    def breaks_prompt(self, text: str) -> bool:
        """Whether the tokenizer reads in `text` a token by which it marks turns, pictures or calls: a model
        wrote the text, and it is to become part of a prompt."""
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return not self._structural.isdisjoint(ids)

    @cached_property
    def _structural(self) -> frozenset[int]:
        """Ids of added tokens that are special or look like it: `<tool_call>`, but no word, blank or dots,
        which some families add because they are frequent."""
        tokenizer = self.processor.tokenizer
        found = set()
        for i, token in tokenizer.added_tokens_decoder.items():
            text = token.content.strip(" \n\r\t\u2581")
            edged = text and not text[0].isalnum() and not text[-1].isalnum()
            if text and (token.special or (edged and any(map(str.isalnum, text)))):
                found.add(i)
        return frozenset(found - {tokenizer.unk_token_id})  # of an unknown word, which marks nothing

    def vllm_sampling(self, sampling: SamplingConfig, seed: int) -> dict[str, Any]:
        """One request's sampling by vLLM's names, the same in its Python and its HTTP interface.

        Greedy completions are all alike, so one is drawn. vLLM seeds completion i with seed + i: the seed is
        hashed, or neighbouring ones would draw each other's completions.
        """
        greedy = sampling.temperature == 0
        return {
            "n": sampling.drawn,
            "temperature": sampling.temperature,
            "top_p": 1.0 if greedy else sampling.top_p,
            "top_k": 0 if greedy else sampling.top_k,
            "repetition_penalty": sampling.repetition_penalty,
            "seed": derive(seed, "vllm"),
            "stop_token_ids": sorted(self.eos),
            "logit_bias": dict.fromkeys(sorted(self.forbidden), FORBIDDEN_BIAS),
        }


def vocabulary_of(config: Any, generation_config: Any, processor: Any) -> Vocabulary:
    """The vocabulary that a model's two configs and its processor declare.

    Raises:
        InputError: none of them names an end of turn, or nothing says what becomes of thoughts.
    """
    tokenizer, text = processor.tokenizer, config.get_text_config()
    if thinking.switched(processor) is None and thinking.opens_thought(processor):
        raise InputError(
            "The checkpoint's chat template opens a thought: say engine.thinking=true, with room for it in"
            " engine.thought_tokens (--thinking --thought-tokens N), or engine.thinking=false."
        )
    special = {i: one.content for i, one in tokenizer.added_tokens_decoder.items() if one.special}
    if thinking.switched(processor) and thinking.END in special.values():
        raise InputError(
            "The checkpoint ends thoughts by a special token, which no text holds: not supported."
        )
    eos, repaired = _ends(generation_config, processor, text.vocab_size)
    kinds = ("image", "video", "vision_start", "vision_end")
    named = [getattr(config, f"{kind}_token_id", None) for kind in kinds]
    named += [getattr(one, f"{kind}_token_id", None) for one in (text, tokenizer) for kind in ("bos", "pad")]
    unknown = range(len(tokenizer), text.vocab_size)
    structural = {int(one) for one in named if one is not None}
    forbidden = frozenset(structural.union(tokenizer.all_special_ids, special, unknown) - eos)
    return Vocabulary(processor, eos, forbidden, getattr(text, "max_position_embeddings", None), repaired)


def _ends(generation_config: Any, processor: Any, size: int) -> tuple[frozenset[int], str | None]:
    """The ids below `size` that end a turn, and a sentence where the chat template alone knows of one.

    A merged or converted checkpoint often has no generation_config.json, or names the end of a document in
    it: every answer would then run to the token limit.
    """
    configured = getattr(generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, (list, tuple)) else [configured]
    named = (*several, processor.tokenizer.eos_token_id)
    eos = frozenset(int(one) for one in named if one is not None and 0 <= int(one) < size)
    end = template.end_of_turn(processor)
    if end is not None and end < size and end not in eos:
        token = processor.tokenizer.convert_ids_to_tokens(end)
        return eos | {end}, (
            f"The checkpoint's chat template ends an answer with {token}, which neither its "
            "generation_config.json nor its tokenizer names as an end: answers end there too."
        )
    if not eos:
        raise InputError(
            "The checkpoint has no end of turn, and every answer would run to its limit: its chat template, "
            "tokenizer and generation_config.json name none; copy that file from the model it came from."
        )
    return eos, None


def read_vocabulary(checkpoint: Path, thinks: bool | None = None) -> Vocabulary:
    """The vocabulary of a checkpoint folder, without its weights; `thinks` is `EngineConfig.thinking`.

    Raises:
        InputError: the folder has no processor, or a config that cannot be read.
    """
    processor = thinking.load_processor(checkpoint, thinks)
    from transformers import AutoConfig, GenerationConfig

    try:
        config = AutoConfig.from_pretrained(str(checkpoint), local_files_only=True, trust_remote_code=False)
        if (checkpoint / "generation_config.json").exists():
            generation = GenerationConfig.from_pretrained(str(checkpoint))
        else:
            generation = GenerationConfig.from_model_config(config)
        return vocabulary_of(config, generation, processor)
    except VZeroError:
        raise
    except Exception as error:  # of damaged files transformers raises nearly anything
        reason = f"{checkpoint} has a config that cannot be read: {first_line(error)}."
        raise machine_failure(error, checkpoint) or InputError(reason) from error
