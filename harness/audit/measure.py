"""What a player earns, what of it survives the filter and how much of that is labelled right.

Exact, by summing over all outcomes of the votes (outcomes.py). Rewards that read the order of votes, and
numbers of votes too large to enumerate, are simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from harness.audit.outcomes import SLOTS, Outcomes, enumerable
from harness.audit.players import GUESSING, Draft, Player, Solver
from harness.audit.rules import Rules
from vzero.arms.reward_file import RewardFile
from vzero.arms.scored import ScoredQuestion
from vzero.parsing import OPTIONS, Question
from vzero.rewards import INVALID
from vzero.runtime.seeding import derive

Reader = Callable[[str], str | None]
Cast = list[tuple[str | None, str]]  # votes, and the replies they were read from
VOTES = 10
DRAWS = 2_000  # replies of a player where it must be simulated
EPSILON = 1e-12
# What is averaged over a player's replies. Of invalid ones only the reward is not 0, so that means over valid
# questions are divided by `valid`.
EFFECTS = ("reward", "valid", "confidence", "agreement", "kept", "usable")
UNASKED = (INVALID, 0.0, 0.0, 0.0, 0.0, 0.0)  # the effects of an invalid reply


@dataclass(frozen=True)
class Row:
    """One player against one Solver. Shares in [0, 1]; None where there is nothing to average.

    Attributes:
        reward: expected, invalid replies included.
        low, high: 95 % interval of `reward` where it was simulated; None where it is exact.
        valid: share of replies read as questions.
        accepted: faults of the malformed replies that were read as questions.
        confidence: mean c of valid questions.
        agreement: share of valid questions whose intuitive answer is the majority.
        kept: share of replies that survive the filter.
        label_accuracy: share of the kept whose label is the right option (never, where no option is right).
        usable: share of replies kept and labelled right.
        draws: replies simulated; None where enumerated.
    """

    rules: str
    solver: str
    player: str
    reward: float
    low: float | None
    high: float | None
    valid: float
    accepted: tuple[str, ...]
    confidence: float | None
    agreement: float | None
    kept: float
    label_accuracy: float | None
    usable: float
    draws: int | None


def measure(
    rules: Rules,
    players: Sequence[Player],
    solvers: Sequence[Solver],
    votes: int = VOTES,
    draws: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """A row for each Solver and player: exact, unless `draws` is given or enumerating is impossible."""
    exact = draws is None and rules.order_free and enumerable(votes)
    outcomes = Outcomes.of(rules, votes) if exact else None
    rows = []
    for solver in solvers:
        for player in players:
            if outcomes is not None:
                mean = sum(
                    draft.weight * _expected(outcomes, rules, draft, solver) for draft in player.drafts
                )
                rows.append(_row(rules, solver, player, np.asarray(mean), None))
            else:
                stream = derive(seed, "audit", rules.name, solver.name, player.name)
                found = simulate(rules, player, solver, votes, draws or DRAWS, stream)
                rows.append(_row(rules, solver, player, found.mean(0), found[:, 0]))
    return rows


def _row(rules: Rules, solver: Solver, player: Player, mean: np.ndarray, rewards: np.ndarray | None) -> Row:
    reward, valid, confidence, agreement, kept, usable = map(float, mean)
    half = None if rewards is None else 1.96 * float(rewards.std(ddof=1)) / math.sqrt(len(rewards))
    return Row(
        rules=rules.name,
        solver=solver.name,
        player=player.name,
        reward=reward,
        low=None if half is None else reward - half,
        high=None if half is None else reward + half,
        valid=valid,
        accepted=tuple(
            draft.fault
            for draft in player.drafts
            if draft.fault and rules.read_question(draft.text, draft.finish_reason) is not None
        ),
        confidence=confidence / valid if valid > EPSILON else None,
        agreement=agreement / valid if valid > EPSILON else None,
        kept=kept,
        label_accuracy=usable / kept if kept > EPSILON else None,
        usable=usable,
        draws=None if rewards is None else len(rewards),
    )


def _expected(outcomes: Outcomes, rules: Rules, draft: Draft, solver: Solver) -> np.ndarray:
    """(6,) expected `EFFECTS` of one draft."""
    question = rules.read_question(draft.text, draft.finish_reason)
    if question is None:
        return np.array(UNASKED)
    voter = GUESSING if rules.blind else solver
    of_reward = outcomes.probabilities(_slots(rules.read_answer, voter, draft))
    chance = outcomes.probabilities(_slots(rules.read_label or rules.read_answer, solver, draft))
    intuitive = OPTIONS.index(_intuition(rules, question.intuitive, solver, draft))
    kept = outcomes.kept * _repeated(outcomes, chance) if rules.twice else outcomes.kept
    if rules.labels == "truth":
        kept = kept * (draft.gold is not None)
    return np.array(
        [
            of_reward @ outcomes.reward[:, intuitive],
            1.0,
            chance @ outcomes.confidence,
            chance @ (outcomes.majority == intuitive),
            chance @ kept,
            chance @ (kept * _right(rules, outcomes, draft)),
        ]
    )


@lru_cache(maxsize=256)
def _slots(read: Reader, solver: Solver, draft: Draft) -> np.ndarray:
    """(5,) chances that one vote is read as A, B, C, D or not at all."""
    found = np.zeros(len(SLOTS))
    for text, share in solver.replies(draft.kind, draft.gold).items():
        found[SLOTS.index(read(text))] += share
    return found


def _intuition(rules: Rules, written: str, solver: Solver, draft: Draft) -> str:
    """Whose first thought counts: the writer's, or the answer a Solver of this skill is likeliest to give."""
    if rules.intuition == "writer":
        return written
    return OPTIONS[int(np.argmax(_slots(rules.read_answer, solver, draft)[: len(OPTIONS)]))]


def _repeated(outcomes: Outcomes, chance: np.ndarray) -> np.ndarray:
    """(outcomes,) chance that another set of votes, just as likely, has the same majority."""
    again = np.array([chance @ (outcomes.majority == place) for place in range(len(OPTIONS))])
    return np.where(outcomes.majority >= 0, again[outcomes.majority], 0.0)


def _right(rules: Rules, outcomes: Outcomes, draft: Draft) -> np.ndarray:
    """(outcomes,) chance that the label is the right option."""
    if draft.gold is None:
        return np.zeros(len(outcomes.majority))
    if rules.labels == "random":
        return np.full(len(outcomes.majority), 1 / len(OPTIONS))
    if rules.labels == "truth":
        return np.ones(len(outcomes.majority))
    return (outcomes.majority == OPTIONS.index(draft.gold)).astype(float)


def simulate(rules: Rules, player: Player, solver: Solver, votes: int, draws: int, seed: int) -> np.ndarray:
    """(draws, 6): the `EFFECTS` of replies drawn one by one, every vote in the order drawn."""
    generator = np.random.Generator(np.random.PCG64(seed))
    questions = [rules.read_question(draft.text, draft.finish_reason) for draft in player.drafts]
    weights = np.array([draft.weight for draft in player.drafts])
    found = np.zeros((draws, len(EFFECTS)))
    for index, which in enumerate(generator.choice(len(weights), size=draws, p=weights / weights.sum())):
        question, draft = questions[which], player.drafts[which]
        if question is None:
            found[index] = UNASKED
            continue
        read = rules.read_label or rules.read_answer
        cast = paid = _cast(read, solver, draft, votes, generator)
        if rules.apart:
            voter = GUESSING if rules.blind else solver
            paid = _cast(rules.read_answer, voter, draft, votes, generator)
        intuitive = _intuition(rules, question.intuitive, solver, draft)
        counted = rules.count([answer for answer, _ in cast])
        kept = rules.keep(counted) and not (rules.labels == "truth" and draft.gold is None)
        if kept and rules.twice:
            again = rules.count([vote for vote, _ in _cast(read, solver, draft, votes, generator)])
            kept = again.answer == counted.answer
        label = _label(rules, counted.answer, draft, generator)
        if rules.selection is not None:
            asked = replace(_scored(question, intuitive, cast), label=label)
            label, kept = _selected(rules.selection, asked, kept)
        usable = kept and draft.gold is not None and label == draft.gold
        reward, agrees = rules.reward(_scored(question, intuitive, paid)), counted.answer == intuitive
        found[index] = (reward, 1.0, counted.confidence, agrees, kept, usable)
    return found


def _scored(question: Question, intuitive: str, cast: Cast) -> ScoredQuestion:
    votes, texts = tuple(vote for vote, _ in cast), tuple(text for _, text in cast)
    return ScoredQuestion(question.text, intuitive, votes, texts, question.description)


def _selected(file: RewardFile, asked: ScoredQuestion, kept: bool) -> tuple[str | None, bool]:
    """Label and choice of a question, whichever the file defines."""
    if "label" in file.functions:
        asked = replace(asked, label=file.label(asked))
    if "keep" in file.functions:
        kept = file.keep([asked])[0]
    return asked.label, kept and asked.label is not None


def _cast(read: Reader, solver: Solver, draft: Draft, votes: int, generator: np.random.Generator) -> Cast:
    """Votes drawn one by one."""
    answers, shares = _answers(read, solver, draft)
    return [answers[one] for one in generator.choice(len(shares), size=votes, p=shares)]


@lru_cache(maxsize=256)
def _answers(read: Reader, solver: Solver, draft: Draft) -> tuple[Cast, np.ndarray]:
    """What each of the Solver's replies is read as, the reply, and its share."""
    replies = solver.replies(draft.kind, draft.gold)
    shares = np.array(list(replies.values()))
    return [(read(text), text) for text in replies], shares / shares.sum()


def _label(rules: Rules, majority: str | None, draft: Draft, generator: np.random.Generator) -> str | None:
    if rules.labels == "random":
        return OPTIONS[generator.integers(len(OPTIONS))]
    return draft.gold if rules.labels == "truth" else majority
