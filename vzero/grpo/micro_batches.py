"""From the groups of a generation batch to the micro-batches of its optimizer steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vzero.errors import RolloutError
from vzero.grpo.data import Prompt
from vzero.images.records import ImageRecord
from vzero.rollout import encoding
from vzero.rollout.protocol import Completion, Rollout


@dataclass(frozen=True)
class MicroBatch:
    """The sequences of one forward pass, padded to their own longest.

    Attributes:
        prompts: what the model's processor makes of them: `input_ids` and `attention_mask` (prompts, prompt
            time) int64, padded on the left, and their pictures.
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


@dataclass(frozen=True)
class Assembly:
    """How micro-batches are made.

    Attributes:
        processor: the model's.
        opener: image of a prompt.
        count: micro-batches of a generation batch in this process.
        steps: optimizer steps of a generation batch.
        shares_prompts: whether the model reads packed rows, where sequences of a group share one prompt; else
            each sequence brings its own.
        sorts: whether groups may change places within their optimizer step, so that padding is short. Only
            where the loss does not depend on which sequences make a micro-batch.
    """

    processor: Any
    opener: Callable[[ImageRecord], Any]
    accelerator: Accelerator
    count: int
    steps: int
    shares_prompts: bool
    sorts: bool

    def micro_batches(
        self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], advantages: Tensor
    ) -> list[MicroBatch]:
        """Groups in order, cut into `count` micro-batches of equally many sequences.

        Args:
            rollouts: of each prompt.
            advantages: (prompts, group size) float32.

        Raises:
            RolloutError: the engine read another prompt than the trainer will differentiate.
        """
        sorts = self.sorts and not self.shares_prompts  # packed rows hold no padding
        order = by_length(rollouts, self.steps) if sorts else list(range(len(prompts)))
        sequences = [(group, i) for group in order for i in range(advantages.shape[1])]
        tokens = sum(len(one.token_ids) for rollout in rollouts for one in rollout.completions)
        total = self.accelerator.gather(torch.tensor([tokens], device=advantages.device)).sum()
        size = len(sequences) // self.count
        return [
            self._micro_batch(sequences[start : start + size], prompts, rollouts, advantages, total)
            for start in range(0, len(sequences), size)
        ]

    def _micro_batch(
        self,
        sequences: Sequence[tuple[int, int]],
        prompts: Sequence[Prompt],
        rollouts: Sequence[Rollout],
        advantages: Tensor,
        total: Tensor,
    ) -> MicroBatch:
        groups = [group for group, _ in sequences]
        # Packed, a prompt stands once, whichever of its completions are here.
        rows = list(dict.fromkeys(groups)) if self.shares_prompts else groups
        numbers = {group: row for row, group in enumerate(rows)}
        prompt_of = [numbers[group] for group in groups] if self.shares_prompts else list(range(len(groups)))
        encoded = self._encoded([prompts[group] for group in rows])
        for group, length in zip(rows, encoded["attention_mask"].sum(dim=1).tolist(), strict=True):
            if rollouts[group].prompt_tokens != length:
                raise RolloutError(
                    f"The engine read {rollouts[group].prompt_tokens} prompt tokens for {prompts[group].key},"
                    f" the trainer {length}; they must use the same chat template and image processor."
                )
        device = advantages.device
        drawn = [rollouts[group].completions[i] for group, i in sequences]
        return MicroBatch(
            {name: value.to(device) for name, value in encoded.items()},
            torch.tensor(prompt_of, device=device),
            _padded([one.token_ids for one in drawn], self.processor.tokenizer.pad_token_id).to(device),
            _padded([[1] * len(one.token_ids) for one in drawn], 0).to(device),
            torch.stack([advantages[group, i] for group, i in sequences]),
            total,
            _engine_log_probs(drawn, device),
        )

    def _encoded(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        texts = [encoding.render(self.processor, one.messages, with_image=True) for one in prompts]
        return encoding.processed(self.processor, texts, [self.opener(one.image) for one in prompts])


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


def _engine_log_probs(drawn: Sequence[Completion], device: torch.device) -> Tensor | None:
    if not all(one.logprobs for one in drawn):  # servers report none
        return None
    return _padded([one.logprobs for one in drawn], 0.0).to(device)


def _padded(rows: Sequence[Sequence[float]], value: float) -> Tensor:
    """(rows, longest row), padded on the right; int64 or float32 as the values are."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
