"""From the groups of a generation batch to the micro-batches of its optimizer steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vzero.errors import RolloutError
from vzero.grpo.data import Prompt
from vzero.images.records import ImageRecord
from vzero.rollout import encoding, template
from vzero.rollout.pictures import Pictures, together
from vzero.rollout.protocol import Rollout

PIXELS = "pixel_"  # begins the names of values and, of pictures in tiles, of which of them are real


@dataclass(frozen=True)
class MicroBatch:
    """The sequences of one forward pass, padded to their own longest.

    Attributes:
        prompts: what the model's processor makes of them: `input_ids` and `attention_mask` (prompts, prompt
            time) int64, padded on the left, and their pictures, whose pixels stay on the CPU.
        prompt_of: (sequences,) int64, the row of `prompts` that each sequence continues.
        completion_ids, completion_mask: (sequences, completion time) int64, padded on the right.
        advantages: (sequences,) float32.
        generation_tokens: () int64, completion tokens of the whole generation batch, of all processes.
        engine_log_probs, old_log_probs, ref_log_probs: (sequences, completion time) float32, of the engine
            that drew, the policy before its first step, and the reference; None where nobody has them.
    """

    prompts: Mapping[str, Tensor]
    prompt_of: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    advantages: Tensor
    generation_tokens: Tensor
    engine_log_probs: Tensor | None = None
    old_log_probs: Tensor | None = None
    ref_log_probs: Tensor | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """The same on `device`, but for the pixels of all micro-batches, which would be gigabytes there."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        prompts = {
            name: one if name.startswith(PIXELS) else one.to(device) for name, one in self.prompts.items()
        }
        return replace(self, prompts=prompts, **moved)

    def on_device(self) -> dict[str, Tensor]:
        """`prompts` on the device of the others, for one forward pass."""
        return {
            name: one.to(self.completion_ids.device, non_blocking=True) for name, one in self.prompts.items()
        }


@dataclass(frozen=True)
class Assembly:
    """How micro-batches are made.

    Attributes:
        processor: the model's.
        opener: image of a prompt.
        pictures: processed while completions were drawn; for models that read packed rows.
        count, steps: micro-batches and optimizer steps of a generation batch, in this process.
        shares_prompts: whether the model reads packed rows, where the sequences of a group share one prompt;
            else each sequence brings its own.
        sorts: whether groups may change places within their optimizer step, so that padding is short: only
            where the loss does not depend on which sequences make a micro-batch.
    """

    processor: Any
    opener: Callable[[ImageRecord], Any]
    count: int
    steps: int
    shares_prompts: bool
    sorts: bool
    pictures: Pictures | None = None

    def micro_batches(
        self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], advantages: Tensor, tokens: Tensor
    ) -> list[MicroBatch]:
        """Groups in order, cut into `count` micro-batches of equally many sequences.

        Args:
            rollouts: of each prompt.
            advantages: (prompts, group size) float32.
            tokens: see `MicroBatch.generation_tokens`.

        Raises:
            RolloutError: the engine read another prompt than the trainer will differentiate.
        """
        sorts = self.sorts and not self.shares_prompts  # packed rows hold no padding
        order = by_length(rollouts, self.steps) if sorts else list(range(len(prompts)))
        sequences = [(group, i) for group in order for i in range(advantages.shape[1])]
        size, pad = len(sequences) // self.count, self.processor.tokenizer.pad_token_id
        batches = []
        for start in range(0, len(sequences), size):
            taken = sequences[start : start + size]
            drawn = [rollouts[group].completions[i] for group, i in taken]
            encoded, prompt_of = self._prompts([group for group, _ in taken], prompts, rollouts)
            batch = MicroBatch(
                encoded,
                torch.tensor(prompt_of),
                _padded([one.token_ids for one in drawn], pad),
                _padded([[1] * len(one.token_ids) for one in drawn], 0),
                torch.stack([advantages[group, i] for group, i in taken]),
                tokens,
                # Servers report no log-probabilities.
                _padded([c.logprobs for c in drawn], 0.0) if all(c.logprobs for c in drawn) else None,
            )
            batches.append(batch.to(advantages.device))
        if self.pictures is not None:
            self.pictures.forget()
        return batches

    def _prompts(
        self, groups: Sequence[int], prompts: Sequence[Prompt], rollouts: Sequence[Rollout]
    ) -> tuple[dict[str, Tensor], list[int]]:
        """What the model reads before sequences of `groups`, and which row of it each of them continues."""
        # Packed, a prompt stands once, whichever of its completions are here.
        rows = list(dict.fromkeys(groups)) if self.shares_prompts else list(groups)
        prompt_of = [rows.index(g) for g in groups] if self.shares_prompts else list(range(len(rows)))
        texts = [template.render(self.processor, prompts[g].messages, with_image=True) for g in rows]
        encoded = self._encoded(texts, [self.opener(prompts[g].image) for g in rows])
        for group, length in zip(rows, encoded["attention_mask"].sum(dim=1).tolist(), strict=True):
            if rollouts[group].prompt_tokens != length:
                raise RolloutError(
                    f"The engine read {rollouts[group].prompt_tokens} prompt tokens for {prompts[group].key},"
                    f" the trainer {length}; they must use the same chat template and image processor."
                )
        return encoded, prompt_of

    def _encoded(self, texts: Sequence[str], images: Sequence[Any]) -> dict[str, Tensor]:
        if self.pictures is None or not self.shares_prompts:
            return template.processed(self.processor, texts, images)
        patches = [self.pictures(image) for image in images]
        found = [
            encoding.expanded_ids(self.processor, text, one.grid)
            for text, one in zip(texts, patches, strict=True)
        ]
        ids, mask = encoding.left_pad(found, self.processor.tokenizer.pad_token_id)
        return {"input_ids": ids, "attention_mask": mask, **together(patches)}


def by_length(rollouts: Sequence[Rollout], steps: int) -> list[int]:
    """Numbers of the groups, those of each optimizer step from short to long, so that micro-batches pad
    little."""
    longest = [one.prompt_tokens + max(len(c.token_ids) for c in one.completions) for one in rollouts]
    each = len(rollouts) // steps
    return [
        group
        for step in range(steps)
        for group in sorted(range(step * each, (step + 1) * each), key=longest.__getitem__)
    ]


def _padded(rows: Sequence[Sequence[float]], value: float) -> Tensor:
    """(rows, longest row), padded on the right; int64 or float32 as the values are."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
