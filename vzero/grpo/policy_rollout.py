"""The completions of a generation batch, drawn from the policy in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from vzero.config import SamplingConfig
from vzero.grpo import sharding
from vzero.grpo.data import Prompt
from vzero.grpo.group_sharding import GroupSharding
from vzero.grpo.groups import Ahead, Group
from vzero.grpo.recorder import Phases
from vzero.images.records import ImageRecord
from vzero.rollout.pictures import Pictures
from vzero.rollout.protocol import Answer, Engine, Request, Rollout
from vzero.rollout.streaming import whole
from vzero.rollout.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class PolicyRollout:
    """Draws one generation batch after the other.

    Attributes:
        prompts: all prompts in training order.
        per_generation: how many of them a generation batch takes.
        engine: wraps the very model that is trained, or is given its weights before it draws.
        sampling: `n` is the group size.
        opener: image of a prompt.
        seed_of: (generation index, prompt key) -> seed of that request.
        sharding: which of a generation's prompts this process draws for.
        pictures: begun with each generation batch, where the trainer takes them from there.
        ahead: told of each group as its last completion ends.
    """

    prompts: Sequence[Prompt]
    per_generation: int
    engine: Engine
    sampling: SamplingConfig
    opener: Callable[[ImageRecord], Any]
    seed_of: Callable[[int, str], int]
    sharding: GroupSharding
    phases: Phases
    pictures: Pictures | None = None
    ahead: Ahead | None = None

    def __call__(self, generation: int, model: Any) -> tuple[list[Prompt], list[Rollout]]:
        """This process's prompts of a generation batch, and the completions of each by `model`.

        Raises:
            RolloutError: the engine failed.
        """
        start = generation * self.per_generation
        chosen = self.sharding.shard(self.prompts[start : start + self.per_generation])
        images = [self.opener(one.image) for one in chosen]
        if self.pictures is not None:
            self.pictures.begin(images)
        requests = [
            Request(one.messages, image, self.seed_of(generation, one.key))
            for one, image in zip(chosen, images, strict=True)
        ]
        # A model split over processes is put together to draw; vLLM and forks are handed the weights.
        split = isinstance(self.engine, TransformersEngine)
        held = sharding.unsharded(model) if split else nullcontext()
        with self.phases.measure("rollout"), held:
            return chosen, self._draw(chosen, requests, generation)

    def _draw(self, chosen: Sequence[Prompt], requests: Sequence[Request], generation: int) -> list[Rollout]:
        ahead, rollouts = self.ahead, dict[int, Rollout]()
        if ahead is None:
            return self.engine.generate(requests, self.sampling)

        def finished(i: int, answer: Answer) -> None:
            rollouts[i] = whole(answer)
            ahead([Group(chosen[i], rollouts[i].completions)], generation)

        self.engine.stream(requests, self.sampling, finished)
        return [rollouts[i] for i in range(len(requests))]
