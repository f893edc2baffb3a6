"""Rollouts by a Hugging Face vision-language model in this process.

Requests are taken an engine-full at a time, or as many as have pictures of `PICTURE_BYTES` (a sequence
whole). Each distinct image of these is encoded once and each distinct prompt computed once; its keys and
values are shared by all of its completions where the model allows (see kv_cache.py). The model may be one
that is being trained: nothing is kept between calls, and its modules are left in the mode they were in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from vzero.config import SamplingConfig
from vzero.errors import RolloutError
from vzero.rollout import attention, encoding, template
from vzero.rollout.decoding import Rules, decode
from vzero.rollout.pictures import Pictures
from vzero.rollout.protocol import PICTURE_BYTES, Completion, Finished, Request, Rollout, overflow
from vzero.rollout.streaming import StreamingEngine, as_rollout_error
from vzero.rollout.units import Block, Drawn, Unit
from vzero.rollout.vocabulary import vocabulary_of
from vzero.runtime import architectures

_TOGETHER = 16  # requests whose entropies are looked at together


class TransformersEngine(StreamingEngine):
    """Implements `Engine` for a model and processor of Hugging Face's.

    Attributes:
        model, processor: of Hugging Face's, without wrappers.
        eos, forbidden: token ids; see `Vocabulary`.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        batch_sequences: int,
        picture_bytes: int = PICTURE_BYTES,
        pictures: Pictures | None = None,
    ) -> None:
        """Wrap `model` without copying it; at most `batch_sequences` completions decode together. `pictures`
        are processed by this processor for others too. `picture_bytes`: its share of `PICTURE_BYTES`."""
        self.model = unwrap(model)
        self.processor = processor
        self._batch_sequences, self._pictures = batch_sequences, pictures
        self._picture_bytes = picture_bytes
        self._shares = architectures.why_not_shared(self.model.config) is None
        self._vocabulary = vocabulary_of(self.model.config, self.model.generation_config, processor)
        self.eos, self.forbidden = self._vocabulary.eos, self._vocabulary.forbidden

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """See `Engine.stream`."""
        text, device = self.model.config.get_text_config(), self.model.device
        forbidden, ends = (_flags(ids, text.vocab_size).to(device) for ids in (self.forbidden, self.eos))
        rules = Rules(forbidden, ends)
        decoding = attention.decoding(text) if self._shares else nullcontext()
        with as_rollout_error("The model could not be asked"), _inference(self.model), decoding:
            try:
                blocks = self._blocks(requests, sampling, finished)
                decode(self.model, blocks, rules, self._batch_sequences, self._shares)
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise RolloutError(
                    f"No memory for {self._batch_sequences} sequences together; lower engine.batch_sequences."
                ) from error

    def greedy_entropies(self, requests: Sequence[Request], tokens: int) -> list[tuple[float, ...]]:
        """Of each of the first `tokens` tokens of the greedy answer to each request, the entropy in nats of
        the model's distribution over the tokens that may be drawn; of fewer where the answer ends before.

        Raises:
            RolloutError: the model could not be asked.
        """
        found: list[tuple[float, ...]] = []
        with as_rollout_error("The model could not be asked"), _inference(self.model):
            for start in range(0, len(requests), _TOGETHER):
                some = requests[start : start + _TOGETHER]
                pictured = [one.image for one in some if one.image is not None]
                texts = [template.render(self.processor, one.messages, bool(pictured)) for one in some]
                inputs = template.processed(self.processor, texts, pictured)
                drawn = self.model.generate(
                    **{name: value.to(self.model.device) for name, value in inputs.items()},
                    max_new_tokens=tokens,
                    do_sample=False,
                    repetition_penalty=1.0,  # a checkpoint may bring its own
                    suppress_tokens=sorted(self.forbidden),
                    eos_token_id=sorted(self.eos),
                    pad_token_id=self.processor.tokenizer.pad_token_id,
                    output_scores=True,
                    return_dict_in_generate=True,
                )
                scores = torch.stack(drawn.scores, dim=1).float()  # (requests, tokens, vocabulary)
                entropies = torch.special.entr(scores.softmax(dim=-1)).sum(dim=-1)
                answers = drawn.sequences[:, -scores.shape[1] :].tolist()
                for row, answer in zip(entropies.tolist(), answers, strict=True):
                    ends = next((i + 1 for i, token in enumerate(answer) if token in self.eos), len(answer))
                    found.append(tuple(row[:ends]))
        return found

    def _blocks(
        self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished
    ) -> Iterator[Block]:
        """The requests, those that are too long told of and left out."""
        whole = isinstance(requests, Sequence)
        start, waiting = 0, iter(requests)
        following = next(waiting, None)
        while following is not None:
            taken, pictures, sequences = list[Request](), 0, 0
            while following is not None:
                sequences += following.sampled_by(sampling).n
                full = sequences > self._batch_sequences or pictures >= self._picture_bytes
                if taken and full and not whole and not _of_one_item(taken[-1], following):
                    break
                taken.append(following)
                pictures += following.picture_bytes
                following = next(waiting, None)
            block = self._block(taken, start, sampling, finished, last=following is None)
            start += len(taken)
            if block.units:
                yield block
            del taken, block  # its pictures, of which who takes the next has no more need

    def _block(
        self,
        requests: Sequence[Request],
        start: int,
        sampling: SamplingConfig,
        finished: Finished,
        last: bool,
    ) -> Block:
        """`requests`, which count from `start`, encoded together."""
        work = encoding.collect(self.processor, requests)
        encoded = encoding.encode(self.model, self.processor, work, self._pictures)
        context, fits = self._vocabulary.positions, []
        samplings = [one.sampled_by(sampling) for one in requests]
        for i, prompt in enumerate(work.of_request):
            most = samplings[i].max_new_tokens
            if context is None or encoded.tokens[prompt] + most <= context:
                fits.append(i)
            else:
                finished(start + i, overflow(encoded.tokens[prompt], most, context))
        parts = self._parts(requests, samplings, fits, work, encoded.sizes)
        completions: list[dict[int, Completion]] = [{} for _ in requests]

        def part_finished(number: int, drawn: Sequence[Drawn], prompt_tokens: int) -> None:
            i, unit = parts[number]
            for index, one in enumerate(drawn, unit.first):
                end = "stop" if one.stopped else "length"
                completions[i][index] = self._vocabulary.completion(one.token_ids, one.logprobs, end)
            if len(completions[i]) == samplings[i].n:
                whole = tuple(completions[i][j] for j in range(samplings[i].n))
                completions[i] = {}
                finished(start + i, Rollout(prompt_tokens, whole))

        return Block([unit for _, unit in parts], encoded.prefill, part_finished, last)

    def _parts(
        self,
        requests: Sequence[Request],
        samplings: Sequence[SamplingConfig],
        fits: Sequence[int],
        work: encoding.Work,
        sizes: Sequence[int],
    ) -> list[tuple[int, Unit]]:
        """Requests that fit, by length of the prompt, so that padding is short; one that is too large for the
        slots is cut."""
        most, prompt = self._batch_sequences, work.of_request
        order = sorted(fits, key=lambda i: (sizes[prompt[i]], prompt[i]))
        return [
            (i, Unit(prompt[i], requests[i].seed, samplings[i], first, min(most, samplings[i].n - first)))
            for i in order
            for first in range(0, samplings[i].n, most)
        ]


def unwrap(model: Any) -> Any:
    """The Hugging Face model inside wrappers that keep its weights in place (distributed data parallel, PEFT
    adapters)."""
    while hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _inference(model: Any) -> Iterator[None]:
    """No gradients and evaluation mode inside; every module's own mode, and what Hugging Face remembers of
    positions, back after.

    `no_grad` and not `inference_mode`: a tensor that a module keeps from here may be used by a training step
    later.
    """
    training = [module for module in model.modules() if module.training]
    core = getattr(model, "model", model)
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


def _of_one_item(one: Request, other: Request) -> bool:
    """Whether both ask the same and are drawn differently."""
    return (
        one.sampling != other.sampling
        and (one.messages, one.prefill) == (other.messages, other.prefill)
        and one.image == other.image
    )


def _flags(ids: frozenset[int], size: int) -> Tensor:
    flags = torch.zeros(size, dtype=torch.bool)
    flags[[i for i in sorted(ids) if i < size]] = True
    return flags
