"""What a reward is given and what it says. Free of TRL, so that the stages can be imported without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vzero.grpo.data import Prompt
from vzero.rollout.protocol import Completion


@dataclass(frozen=True)
class Group:
    """One prompt with its completions, whose rewards are compared with each other."""

    prompt: Prompt
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Scores:
    """What a reward says about a generation batch.

    Attributes:
        rewards: for each group, one number a completion.
        metrics: numbers for metrics.jsonl of the whole batch, of all processes; None where there is nothing
            to average.
        vote_tokens: tokens drawn from a frozen Solver to find out.
        reward_inputs: what each reward rests on (votes, intuitive answer), for rollouts.jsonl: shaped as
            `rewards`; None where the completion and its prompt's label are all there is.
    """

    rewards: Sequence[Sequence[float]]
    metrics: Mapping[str, float | None]
    vote_tokens: int = 0
    reward_inputs: Sequence[Sequence[Mapping[str, Any]]] | None = None


Reward = Callable[
    [Sequence[Group], int], Scores
]  # (groups, generation index from 0); raises when it cannot be known
Ahead = Callable[
    [Sequence[Group], int], None
]  # (groups drawn so far, generation index from 0): what a reward can begin with
