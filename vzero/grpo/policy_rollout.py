"""TRL's `rollout_func`: the completions of a generation batch, drawn from the live policy by an engine of
ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from trl import GRPOTrainer

from vzero.config import SamplingConfig
from vzero.errors import RolloutError
from vzero.grpo import sharding
from vzero.grpo.data import Prompt
from vzero.grpo.group_sharding import GroupSharding
from vzero.grpo.groups import Ahead, Group
from vzero.grpo.recorder import Phases
from vzero.images.records import ImageRecord
from vzero.rollout.protocol import Request, Rollout
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.rollout.vllm_policy import VllmPolicy


@dataclass(frozen=True)
class PolicyRollout:
    """TRL's `rollout_func`: draws the completions of one generation batch from the live policy.

    Attributes:
        prompts: all prompts in training order.
        engine: wraps the very model that is trained, or is given its weights before it draws.
        sampling: `n` is the group size.
        opener: image of a prompt.
        seed_of: (generation index, prompt key) -> seed of that request.
        deal: which of a generation's prompts this process draws for.
        ahead: told of each group as its last completion ends.
    """

    prompts: Sequence[Prompt]
    engine: TransformersEngine | VllmPolicy
    sampling: SamplingConfig
    opener: Callable[[ImageRecord], Any]
    seed_of: Callable[[int, str], int]
    deal: GroupSharding
    phases: Phases
    ahead: Ahead | None = None

    def __call__(self, prompts: list[list[dict[str, Any]]], trainer: GRPOTrainer) -> dict[str, Any]:
        """Conversations, each repeated n times in a row -> `prompt_ids`, `completion_ids` (lists of ids, one
        a sequence) and `drawn`.

        Raises:
            RolloutError: the engine failed, or saw another prompt than the trainer will differentiate.
        """
        n, generation = self.sampling.n, trainer.state.global_step // self.deal.steps
        conversations = prompts[::n]
        count = len(conversations) * self.deal.world.size
        rows = self.deal.own(range(generation * count, (generation + 1) * count))
        chosen = [self.prompts[row] for row in rows]
        requests = [
            Request(prompt.messages, self.opener(prompt.image), self.seed_of(generation, prompt.key))
            for prompt in chosen
        ]
        held = (
            sharding.whole(trainer.model) if isinstance(self.engine, TransformersEngine) else nullcontext()
        )  # vLLM is handed the weights
        with self.phases.measure("rollout"), held:
            rollouts = self._draw(chosen, requests, generation)
        prompt_ids = trainer._tokenize_prompts(conversations)[0]
        for prompt, rollout, ids in zip(chosen, rollouts, prompt_ids, strict=True):
            if rollout.prompt_tokens != len(ids):
                raise RolloutError(
                    f"The engine read {rollout.prompt_tokens} prompt tokens for {prompt.key}, the trainer {len(ids)}; "
                    "they must use the same chat template and image processor."
                )
        drawn = [completion for rollout in rollouts for completion in rollout.completions]
        return {
            "prompt_ids": [ids for ids in prompt_ids for _ in range(n)],
            "completion_ids": [list(completion.token_ids) for completion in drawn],
            "logprobs": [list(completion.logprobs) for completion in drawn]
            if all(one.logprobs for one in drawn)
            else None,
            "drawn": drawn,
            "asked": [row for row in rows for _ in range(n)],
        }

    def _draw(self, chosen: Sequence[Prompt], requests: Sequence[Request], generation: int) -> list[Rollout]:
        ahead = self.ahead
        if ahead is None:
            return self.engine.generate(requests, self.sampling)
        return self.engine.stream(
            requests,
            self.sampling,
            lambda i, rollout: ahead([Group(chosen[i], rollout.completions)], generation),
        )
