"""V-Zero, as a reward file

Change a function, or delete it to leave that part V-Zero's. The first line is what tables and reports say of
this file; vzero/arms/scored.py describes what the functions are given. Installed packages may be imported.
"""

from __future__ import annotations

from collections.abc import Sequence

from vzero import voting
from vzero.arms.scored import ScoredAnswer, ScoredQuestion
from vzero.rewards import INVALID, dual_track


def score(batch: Sequence[ScoredQuestion | None]) -> list[float]:
    """What the questions of a generation batch earn the Questioner; None stands for a reply that is none.

    A question has its text, options, description, intuitive answer and image, the votes of the frozen Solver
    with their texts, and a group: that of the questions GRPO compares it with. dual_track is the paper's.
    """
    return [INVALID if one is None else dual_track(one.votes, one.intuitive) for one in batch]


def label(question: ScoredQuestion) -> str | None:
    """What the Solver is trained to answer, "A" to "D"; None leaves the question out."""
    return voting.tally(question.votes).answer


def keep(batch: Sequence[ScoredQuestion]) -> list[bool]:
    """Which of an iteration's questions the Solver is trained on. Here each has its `label`."""
    return [voting.keep(voting.tally(one.votes), low=0.3, high=0.8) for one in batch]


def solver_reward(answer: ScoredAnswer) -> float:
    """What one of the Solver's answers earns; `answer.group` are those to the same question in this step."""
    return 1.0 if answer.answer is not None and answer.answer == answer.label else 0.0
