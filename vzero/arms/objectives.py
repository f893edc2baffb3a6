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


def random_reward(seed: int, iteration: int) -> Reward:
    """1.0 or 0.0 with equal chances: the random control of Spurious Rewards (arXiv 2506.10947).

    A draw depends on the seed, the question and the place in its group, so a resumed training repeats it.
    """

    def drawn(generation: int, key: str, index: int) -> float:
        return float(derive(seed, "random-reward", iteration, generation, key, index) % 2)

    def reward(groups: Sequence[Group], generation: int) -> Scores:
        return Scores(
            [[drawn(generation, one.prompt.key, i) for i in range(len(one.completions))] for one in groups],
            {},
        )

    return reward


def _pseudo_label(group: Group) -> list[float]:
    """1.0 where the boxed option is the pseudo-label; a completion truncated before its box has none."""
    return [rewards.pseudo_label(answer, group.prompt.label) for answer in _answers(group)]


def _group_majority(group: Group) -> list[float]:
    """1.0 where the boxed option is the group's own majority (TTRL, MM-UPT). Labels are not read."""
    return rewards.group_majority(_answers(group))


def _consistency(group: Group) -> list[float]:
    """EvoLMM's continuous reward, of answers and of the words before each box. Labels are not read."""
    words = [len(one.text.rpartition("\\boxed{")[0].split()) for one in group.completions]
    return rewards.self_consistency(_answers(group), words)


def _format(group: Group) -> list[float]:
    """1.0 for any readable box: the format-only control of Spurious Rewards (arXiv 2506.10947)."""
    return [float(answer is not None) for answer in _answers(group)]


def _answers(group: Group) -> list[str | None]:
    return [parse_answer(one.text) for one in group.completions]


def _of_groups(score: Callable[[Group], list[float]]) -> Reward:
    return lambda groups, generation: Scores([score(group) for group in groups], {})


label_reward = _of_groups(_pseudo_label)
_REWARDS: Mapping[str, Reward] = {
    "labels": label_reward,
    "group_majority": _of_groups(_group_majority),
    "consistency": _of_groups(_consistency),
    "format": _of_groups(_format),
}
