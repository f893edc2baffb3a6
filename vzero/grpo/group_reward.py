"""TRL's reward function, made of one that sees whole groups; and the row that is kept of each completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vzero.errors import RolloutError
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Reward, Scores
from vzero.grpo.recorder import Phases, Recorder
from vzero.rollout.protocol import Completion


@dataclass(frozen=True)
class GroupReward:
    """TRL's reward function around one that sees groups."""

    prompts: Sequence[Prompt]
    group_size: int
    reward: Reward
    steps_per_generation: int
    recorder: Recorder
    phases: Phases
    __name__ = "reward"  # TRL's name for its metrics

    def __call__(
        self,
        prompts: Any,
        completions: Any,
        completion_ids: Any,
        row: list[int],
        image: Any,
        drawn: list[Completion],
        asked: list[int],
        trainer_state: Any,
        log_extra: Any,
        log_metric: Any,
    ) -> list[float]:
        """One reward a sequence, in order.

        Args:
            row: which prompt TRL believes each sequence answers.
            drawn: the completion of each sequence.
            asked: which prompt it really was drawn for.

        The other arguments are TRL's and not needed.
        """
        if row != asked:
            raise RolloutError(
                "TRL fetched other prompts than were asked; its order of the dataset is no longer the one given to it."
            )
        n = self.group_size
        groups = [
            Group(self.prompts[row[start]], tuple(drawn[start : start + n]))
            for start in range(0, len(drawn), n)
        ]
        generation = trainer_state.global_step // self.steps_per_generation
        with self.phases.measure("votes"):
            scores = self.reward(groups, generation)
        self.recorder.scores = scores.metrics
        self.phases.tokens["votes"] += scores.vote_tokens
        flat = [value for group in scores.rewards for value in group]
        if len(flat) != len(drawn):
            raise RolloutError(f"The reward scored {len(flat)} of {len(drawn)} completions.")
        self.recorder.drawn = rollout_rows(groups, scores, generation + 1)
        return flat


def rollout_rows(groups: Sequence[Group], scores: Scores, generation: int) -> list[dict[str, Any]]:
    """What was drawn and what it earned, one row a completion in order; `generation` counts from 1, as in
    metrics.jsonl."""
    return [
        {
            "generation": generation,
            "prompt": group.prompt.key,
            "index": i,
            "tokens": len(one.token_ids),
            "finish_reason": one.finish_reason,
            "text": one.text,
            "label": group.prompt.label,
            **(scores.reward_inputs[g][i] if scores.reward_inputs is not None else {}),
            "reward": scores.rewards[g][i],
        }
        for g, group in enumerate(groups)
        for i, one in enumerate(group.completions)
    ]
