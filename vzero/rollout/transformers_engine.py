"""Rollouts by a Hugging Face vision-language model in this process.

One call encodes each distinct image once and computes each distinct prompt once; the prompt's keys and values are then repeated for all
of its completions, which decode together and leave the batch as they end. The model may be one that is being trained: nothing is kept
between calls, and its modules are left in the mode they were in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError
from vzero.rollout import encoding
from vzero.rollout.encoding import Encoded, Prefilled, Work
from vzero.rollout.kv_cache import fan_out, without
from vzero.rollout.protocol import Completion, Request, Rollout
from vzero.rollout.sampling import draw, uniforms


@dataclass(frozen=True)
class _Row:
    """One completion to draw: of which request, its index there, and its seed."""

    request: int
    index: int
    seed: int


@dataclass(frozen=True)
class _Drawn:
    """One finished completion before its tokens are made text."""

    token_ids: list[int]
    logprobs: list[float]
    stopped: bool


class TransformersEngine:
    """Implements `Engine` for a model and processor of Hugging Face's.

    Attributes:
        eos: ids that end a turn, from the model's generation config and the tokenizer.
        forbidden: ids that are never drawn: vision and padding tokens, every special token that does not end a turn, and ids that the
            tokenizer does not know.
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
        if not requests:
            return []
        with _asked(self._model):
            try:
                return self._generate(requests, sampling)
            except VZeroError:
                raise
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise RolloutError(f"No memory for {self._batch_sequences} sequences together; lower engine.batch_sequences.") from error
            except Exception as error:  # a template, an image decoder, a kernel: whatever fails, callers must meet one kind of error
                raise RolloutError(f"The model could not be asked: {type(error).__name__}: {str(error).rstrip('.')}.") from error

    def _generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        work = encoding.collect(self._processor, requests)
        encoded = encoding.encode(self._model, self._processor, work, sampling.max_new_tokens)
        drawn: list[list[_Drawn | None]] = [[None] * sampling.n for _ in requests]
        lengths = [0] * len(requests)
        for rows in self._batches(requests, sampling.n, work, encoded):
            prompts = list(dict.fromkeys(work.of_request[row.request] for row in rows))
            place = {prompt: i for i, prompt in enumerate(prompts)}
            prefilled = encoded.prefill(prompts)
            tokens_in = prefilled.attention_mask.sum(dim=1).tolist()
            source = [place[work.of_request[row.request]] for row in rows]
            for row, i, one in zip(rows, source, self._decode(prefilled, rows, source, sampling), strict=True):
                drawn[row.request][row.index] = one
                lengths[row.request] = tokens_in[i]
        return self._finish(drawn, lengths)

    def _batches(self, requests: Sequence[Request], n: int, work: Work, encoded: Encoded) -> Iterator[list[_Row]]:
        """Rows in order of prompt length, so that padding is short; a request's rows stay together where they fit a batch."""
        order = sorted(range(len(requests)), key=lambda i: (encoded.sizes[work.of_request[i]], work.of_request[i]))
        batch: list[_Row] = []
        for i in order:
            rows = [_Row(i, index, requests[i].seed) for index in range(n)]
            if batch and len(batch) + n > self._batch_sequences:
                yield batch
                batch = []
            while len(rows) > self._batch_sequences:
                yield rows[: self._batch_sequences]
                rows = rows[self._batch_sequences :]
            batch += rows
        if batch:
            yield batch

    def _decode(self, prefilled: Prefilled, rows: Sequence[_Row], source: Sequence[int], sampling: SamplingConfig) -> list[_Drawn]:
        """Draw completions; row i continues prompt `source[i]` of `prefilled`. A row leaves the batch at the step it ends."""
        width, limit = prefilled.attention_mask.shape[1], sampling.max_new_tokens
        state = _start(prefilled, rows, source, sampling)
        device, vocabulary = state.logits.device, state.logits.shape[-1]
        forbidden, ends = _flags(self.forbidden, vocabulary).to(device), _flags(self.eos, vocabulary).to(device)
        tokens = torch.zeros(len(rows), limit, dtype=torch.int64, device=device)
        logprobs = torch.zeros(len(rows), limit, device=device)
        lengths = torch.full((len(rows),), limit, device=device)
        stopped = torch.zeros(len(rows), dtype=torch.bool, device=device)
        for step in range(limit):
            token, logprob = draw(state.logits, sampling, state.numbers[:, step], forbidden, state.seen)
            tokens[state.alive, step], logprobs[state.alive, step] = token, logprob
            done = ends[token]
            ended = state.alive[done]
            lengths[ended], stopped[ended] = step + 1, True
            if step == limit - 1 or len(ended) == len(state.alive):
                break
            if len(ended):
                keep = without(done)
                token = token[keep]
                state.select(keep)
            if state.seen is not None:
                state.seen.scatter_(1, token[:, None], True)
            state.logits = self._model(
                input_ids=token[:, None],
                attention_mask=state.mask[:, : width + step + 1],
                position_ids=state.positions + step,
                past_key_values=state.cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        return _cut(tokens, logprobs, lengths, stopped)

    def _finish(self, drawn: Sequence[Sequence[_Drawn | None]], lengths: Sequence[int]) -> list[Rollout]:
        flat = [one for completions in drawn for one in completions if one is not None]
        texts = iter(
            self._processor.tokenizer.batch_decode(
                [one.token_ids[:-1] if one.stopped else one.token_ids for one in flat],
                skip_special_tokens=True,
                clean_up_tokenization_spaces=False,
            )
        )
        return [
            Rollout(
                length,
                tuple(
                    Completion(next(texts), tuple(one.token_ids), tuple(one.logprobs), "stop" if one.stopped else "length")
                    for one in completions
                    if one is not None
                ),
            )
            for completions, length in zip(drawn, lengths, strict=True)
        ]


@dataclass
class _State:
    """What decoding carries for the rows still alive.

    Attributes:
        cache: keys and values so far.
        logits: (rows, vocabulary) for the token to draw.
        mask: (rows, prompt width + max_new_tokens) int64, 0 at padding.
        positions: (..., rows, 1) int64 of the first new token, in the model's own layout.
        numbers: (rows, max_new_tokens) float64 uniforms.
        seen: (rows, vocabulary) bool, or None where no repetition penalty asks for it.
        alive: (rows,) int64, each row's number in the batch.
    """

    cache: Cache
    logits: Tensor
    mask: Tensor
    positions: Tensor
    numbers: Tensor
    seen: Tensor | None
    alive: Tensor

    def select(self, keep: Tensor) -> None:
        """Keep the given rows, in the given order. Logits are left: the next step makes new ones."""
        self.mask, self.numbers, self.alive = self.mask[keep], self.numbers[keep], self.alive[keep]
        self.positions = self.positions.index_select(-2, keep)
        self.seen = None if self.seen is None else self.seen[keep]
        for layer in self.cache.layers:
            layer.batch_select_indices(keep)


def _start(prefilled: Prefilled, rows: Sequence[_Row], source: Sequence[int], sampling: SamplingConfig) -> _State:
    """Fan prefilled prompts out to rows: row i continues prompt `source[i]`. The cache of `prefilled` is used up."""
    device, limit = prefilled.logits.device, sampling.max_new_tokens
    start = torch.tensor(source, device=device)
    fan_out(prefilled.cache, start, limit)
    seen = _seen(prefilled)[start] if sampling.repetition_penalty != 1 else None
    return _State(
        cache=prefilled.cache,
        logits=prefilled.logits[start],
        mask=torch.nn.functional.pad(prefilled.attention_mask[start], (0, limit), value=1),
        positions=prefilled.next_position.index_select(-2, start),
        numbers=_numbers(rows, sampling).to(device),
        seen=seen,
        alive=torch.arange(len(rows), device=device),
    )


def unwrap(model: Any) -> Any:
    """The Hugging Face model inside wrappers that keep its weights in place (distributed data parallel, PEFT adapters)."""
    while hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end a turn."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, (list, tuple)) else [configured]
    return frozenset(int(one) for one in (*several, tokenizer.eos_token_id) if one is not None)


def structural_tokens(model: Any, tokenizer: Any, eos: frozenset[int]) -> frozenset[int]:
    """Ids that must never be drawn, because text holding them breaks the next prompt (see `TransformersEngine.forbidden`)."""
    config = model.config
    text = config.get_text_config()
    named = [getattr(config, f"{name}_token_id", None) for name in ("image", "video", "vision_start", "vision_end")]
    named += [getattr(one, f"{name}_token_id", None) for one in (text, tokenizer) for name in ("bos", "pad")]
    named += [*tokenizer.all_special_ids, *(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)]
    return frozenset({*(int(one) for one in named if one is not None), *range(len(tokenizer), text.vocab_size)} - eos)


@contextmanager
def _asked(model: Any) -> Iterator[None]:
    """No gradients and evaluation mode inside; every module's own mode, and what Hugging Face remembers of positions, back after.

    `no_grad` and not `inference_mode`: a tensor that a module keeps from here may be used by a training step later.
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


def _numbers(rows: Sequence[_Row], sampling: SamplingConfig) -> Tensor:
    """Uniform numbers (rows, max_new_tokens) float64; zeros for greedy decoding, which needs none."""
    if sampling.temperature == 0:
        return torch.zeros(len(rows), sampling.max_new_tokens, dtype=torch.float64)
    return torch.from_numpy(np.stack([uniforms(row.seed, row.index, sampling.max_new_tokens) for row in rows]))


def _seen(prefilled: Prefilled) -> Tensor:
    """Which tokens each prompt holds: (prompts, vocabulary) bool. Padding does not count, though its token may also end turns."""
    ids = prefilled.token_ids
    held = ids.where(prefilled.attention_mask.bool(), ids[:, -1:])  # padding is on the left, so the last token is the prompt's own
    return torch.zeros_like(prefilled.logits, dtype=torch.bool).scatter_(1, held, True)


def _flags(ids: frozenset[int], size: int) -> Tensor:
    flags = torch.zeros(size, dtype=torch.bool)
    flags[[i for i in sorted(ids) if i < size]] = True
    return flags


def _cut(tokens: Tensor, logprobs: Tensor, lengths: Tensor, stopped: Tensor) -> list[_Drawn]:
    rows = zip(tokens.tolist(), logprobs.tolist(), lengths.tolist(), stopped.tolist(), strict=True)
    return [_Drawn(ids[:length], values[:length], end) for ids, values, length, end in rows]
