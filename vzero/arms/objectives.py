"""What the Solver's completions are paid, by name, as the preset's `solver.objective` chooses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vzero import rewards
from vzero.grpo.groups import Group, Reward, Scores
from vzero.prompts import parse_answer
from vzero.runtime.seeding import derive


def reward_of(objective: str, seed: int, iteration: int) -> Reward:
    """The reward of an objective; `seed` and `iteration` are for the one that is drawn."""
    if objective == "random":
        return random_reward(seed, iteration)
    return _REWARDS[objective]


def label_reward(groups: Sequence[Group], generation: int) -> Scores:
    """1.0 where the boxed option is the pseudo-label, else 0.0; a completion that was cut off before its box
    has none."""
    return Scores(
        [
            [rewards.pseudo_label(answer, group.prompt.label) for answer in _answers(group)]
            for group in groups
        ],
        {},
    )


def majority_reward(groups: Sequence[Group], generation: int) -> Scores:
    """1.0 where the boxed option is the group's own majority: TTRL, MM-UPT (see `rewards.group_majority`).
    Labels are not read."""
    return Scores([rewards.group_majority(_answers(group)) for group in groups], {})


def consistency_reward(groups: Sequence[Group], generation: int) -> Scores:
    """EvoLMM's continuous reward (see `rewards.self_consistency`). Labels are not read."""
    return Scores([rewards.self_consistency(_answers(group), _words(group)) for group in groups], {})


def format_reward(groups: Sequence[Group], generation: int) -> Scores:
    """1.0 where an option stands readable in the box, whichever it is: the format-only control of Spurious
    Rewards (arXiv 2506.10947)."""
    return Scores([[float(answer is not None) for answer in _answers(group)] for group in groups], {})


def random_reward(seed: int, iteration: int) -> Reward:
    """1.0 or 0.0 with equal chances, whatever was written: the random control of Spurious Rewards (arXiv
    2506.10947).

    A draw depends on the seed, the question and the place in its group, so that a resumed training repeats
    it.
    """

    def reward(groups: Sequence[Group], generation: int) -> Scores:
        return Scores(
            [
                [
                    float(derive(seed, "random-reward", iteration, generation, group.prompt.key, i) % 2)
                    for i in range(len(group.completions))
                ]
                for group in groups
            ],
            {},
        )

    return reward


_REWARDS: Mapping[str, Callable[[Sequence[Group], int], Scores]] = {
    "labels": label_reward,
    "group-majority": majority_reward,
    "consistency": consistency_reward,
    "format": format_reward,
}


def _answers(group: Group) -> list[str | None]:
    return [parse_answer(one.text) for one in group.completions]


def _words(group: Group) -> list[int]:
    """Words before the last box of each completion."""
    return [len(one.text.rpartition("\\boxed{")[0].split()) for one in group.completions]
