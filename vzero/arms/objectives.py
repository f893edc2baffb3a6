"""What the Solver's completions are paid, by name, as the preset's `solver.objective` chooses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vzero import rewards
from vzero.arms.reward_file import RewardFile, read_source, shipped
from vzero.arms.scored import ScoredAnswer
from vzero.config import SolverConfig
from vzero.grpo.groups import Group, Reward, Scores
from vzero.prompts import parse_answer
from vzero.runtime.seeding import derive


def reward_of(
    settings: SolverConfig, seed: int, iteration: int, labels: Sequence[Mapping[str, Any]]
) -> Reward:
    """The reward that a preset chooses: of `labels`, the rows that are trained on, and for the one that is
    drawn of `seed` and `iteration`.

    Raises:
        InputError: its own text is no reward file.
    """
    if settings.reward_source is None:
        return named(settings.objective, seed, iteration)
    return of_file(read_source(settings.reward_source), labels)


def named(objective: str, seed: int, iteration: int) -> Reward:
    """The reward that the package has under this name."""
    if objective == "random":
        return random_reward(seed, iteration)
    return of_file(shipped("evolmm")) if objective == "consistency" else _REWARDS[objective]


def of_file(functions: RewardFile, labels: Sequence[Mapping[str, Any]] = ()) -> Reward:
    """What the `solver_reward` of a reward file pays; `labels` are the rows of the questions trained on."""
    rows = {row["question_id"]: row for row in labels}

    def paid(group: Group) -> list[float]:
        answers, row = tuple(_answers(group)), rows.get(group.prompt.key, {})
        votes, text, image = tuple(row.get("votes", ())), row.get("text", ""), group.prompt.image
        return [
            functions.solver_reward(
                ScoredAnswer(one.text, answer, group.prompt.label, votes, answers, text, image)
            )
            for one, answer in zip(group.completions, answers, strict=True)
        ]

    return _of_groups(paid)


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
    "format": _of_groups(_format),
}
