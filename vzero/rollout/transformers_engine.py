"""Rollouts by a Hugging Face vision-language model in this process.

One call encodes each distinct image once and computes each distinct prompt once; the prompt's keys and values
are then repeated for all of its completions (see decoding.py). The model may be one that is being trained:
nothing is kept between calls, and its modules are left in the mode they were in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError
from vzero.rollout import encoding
from vzero.rollout.decoding import Drawn, Rules, Unit, decode
from vzero.rollout.protocol import Completion, Finished, Request, Rollout


class TransformersEngine:
    """Implements `Engine` for a model and processor of Hugging Face's.

    Attributes:
        eos: ids that end a turn, from the model's generation config and the tokenizer.
        forbidden: ids that are never drawn: vision and padding tokens, every special token that does not end
            a turn, and ids that the tokenizer does not know.
    """

    def __init__(self, model: Any, processor: Any, batch_sequences: int) -> None:
        """Wrap `model` without copying it; at most `batch_sequences` completions decode together."""
        self._model = unwrap(model)
        self._processor = processor
        self._batch_sequences = batch_sequences
        self.eos = end_tokens(self._model, processor.tokenizer)
        self.forbidden = structural_tokens(self._model, processor.tokenizer, self.eos)

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """Answer every request, in order; see `Engine.generate`."""
        return self.stream(requests, sampling, lambda i, rollout: None)

    def stream(
        self, requests: Sequence[Request], sampling: SamplingConfig, finished: Finished
    ) -> list[Rollout]:
        """As `generate`; `finished` is told of each request, by its number, when the last of its completions
        has ended.

        Raises:
            RolloutError: also for what `finished` raises.
        """
        if not requests:
            return []
        with _asked(self._model):
            try:
                return self._generate(requests, sampling, finished)
            except VZeroError:
                raise
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise RolloutError(
                    f"No memory for {self._batch_sequences} sequences together; lower engine.batch_sequences."
                ) from error
            except Exception as error:  # a template, an image decoder, a kernel: whatever fails, callers must meet one kind of error
                raise RolloutError(
                    f"The model could not be asked: {type(error).__name__}: {str(error).rstrip('.')}."
                ) from error

    def _generate(
        self, requests: Sequence[Request], sampling: SamplingConfig, finished: Finished
    ) -> list[Rollout]:
        work = encoding.collect(self._processor, requests)
        encoded = encoding.encode(self._model, self._processor, work, sampling.max_new_tokens)
        # By length of the prompt, so that padding is short; a request that is too large for the slots is cut.
        order = sorted(
            range(len(requests)), key=lambda i: (encoded.sizes[work.of_request[i]], work.of_request[i])
        )
        parts = [
            (
                i,
                Unit(
                    work.of_request[i],
                    requests[i].seed,
                    first,
                    min(self._batch_sequences, sampling.n - first),
                ),
            )
            for i in order
            for first in range(0, sampling.n, self._batch_sequences)
        ]
        vocabulary = self._model.config.get_text_config().vocab_size
        rules = Rules(
            sampling, *(_flags(ids, vocabulary).to(self._model.device) for ids in (self.forbidden, self.eos))
        )
        drawn: list[dict[int, Drawn]] = [{} for _ in requests]
        rollouts: dict[int, Rollout] = {}

        def part_finished(number: int, completions: Sequence[Drawn], prompt_tokens: int) -> None:
            i, unit = parts[number]
            drawn[i] |= dict(enumerate(completions, unit.first))
            if len(drawn[i]) == sampling.n:
                rollouts[i] = self._rollout([drawn[i][index] for index in range(sampling.n)], prompt_tokens)
                finished(i, rollouts[i])

        decode(
            self._model,
            [unit for _, unit in parts],
            encoded.prefill,
            rules,
            self._batch_sequences,
            part_finished,
        )
        return [rollouts[i] for i in range(len(requests))]

    def _rollout(self, drawn: Sequence[Drawn], prompt_tokens: int) -> Rollout:
        texts = self._processor.tokenizer.batch_decode(
            [one.token_ids[:-1] if one.stopped else one.token_ids for one in drawn],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        completions = (
            Completion(text, tuple(one.token_ids), tuple(one.logprobs), "stop" if one.stopped else "length")
            for text, one in zip(texts, drawn, strict=True)
        )
        return Rollout(prompt_tokens, tuple(completions))


def unwrap(model: Any) -> Any:
    """The Hugging Face model inside wrappers that keep its weights in place (distributed data parallel, PEFT
    adapters)."""
    while hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end a turn."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, (list, tuple)) else [configured]
    return frozenset(int(one) for one in (*several, tokenizer.eos_token_id) if one is not None)


def structural_tokens(model: Any, tokenizer: Any, eos: frozenset[int]) -> frozenset[int]:
    """Ids that must never be drawn, because text holding them breaks the next prompt (see
    `TransformersEngine.forbidden`)."""
    config = model.config
    text = config.get_text_config()
    named = [
        getattr(config, f"{name}_token_id", None) for name in ("image", "video", "vision_start", "vision_end")
    ]
    named += [getattr(one, f"{name}_token_id", None) for one in (text, tokenizer) for name in ("bos", "pad")]
    named += [
        *tokenizer.all_special_ids,
        *(i for i, token in tokenizer.added_tokens_decoder.items() if token.special),
    ]
    return frozenset(
        {*(int(one) for one in named if one is not None), *range(len(tokenizer), text.vocab_size)} - eos
    )


@contextmanager
def _asked(model: Any) -> Iterator[None]:
    """No gradients and evaluation mode inside; every module's own mode, and what Hugging Face remembers of
    positions, back after.

    `no_grad` and not `inference_mode`: a tensor that a module keeps from here may be used by a training step
    later.
    """
    training = [module for module in model.modules() if module.training]
    core = getattr(model, "model", None)
    remembered = getattr(core, "rope_deltas", None)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if hasattr(core, "rope_deltas"):
            core.rope_deltas = remembered
        for module in training:
            module.training = True


def _flags(ids: frozenset[int], size: int) -> Tensor:
    flags = torch.zeros(size, dtype=torch.bool)
    flags[[i for i in sorted(ids) if i < size]] = True
    return flags
