"""What a player earns, what of it survives the filter and how much of that is labelled right.

Ten votes over A-D and "unreadable" have 1,001 possible counts, so expectations are sums over all of them. The
order of votes matters to a majority only among equally frequent answers; each of those is seen first equally
often, which the sum takes in. Rewards that read the order otherwise, and numbers of votes too large to
enumerate, are simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from harness.audit.players import GUESSING, Draft, Player, Solver
from harness.audit.rules import Rules
from vzero.parsing import OPTIONS
from vzero.rewards import INVALID
from vzero.runtime.seeding import derive

VOTES = 10
DRAWS = 2_000  # replies of a player where it must be simulated
ENUMERABLE = 21_000  # count vectors; 24 votes have 20,475
SLOTS = (*OPTIONS, None)
NOTHING = 1e-12


@dataclass(frozen=True)
class Row:
    """One player against one Solver. Shares in [0, 1]; `None` where there is nothing to average.

    Attributes:
        reward: expected, invalid replies included.
        low, high: 95 % interval of `reward` where it was simulated; None where it is exact.
        valid: share of replies read as questions.
        accepted: faults of the malformed replies that were read as questions.
        confidence: mean c of valid questions.
        agreement: share of valid questions whose intuitive answer is the majority.
        kept: share of replies that survive the filter.
        label_accuracy: share of the kept whose majority is the right option (never, where no option is
            right).
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


@dataclass(frozen=True)
class Effects:
    """Expectations over one player's replies: `confidence` and `agreement` sum over valid ones only, so they
    are divided by `valid`."""

    reward: float
    valid: float = 0.0
    confidence: float = 0.0
    agreement: float = 0.0
    kept: float = 0.0
    usable: float = 0.0


def measure(
    rules: Rules,
    players: Sequence[Player],
    solvers: Sequence[Solver],
    votes: int = VOTES,
    draws: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """A row for each Solver and player: exact, unless `draws` is given or enumerating is impossible."""
    exact = draws is None and rules.order_free and math.comb(votes + len(OPTIONS), len(OPTIONS)) <= ENUMERABLE
    table = Table.of(rules, votes) if exact else None
    rows = []
    for solver in solvers:
        for player in players:
            if table is not None:
                rows.append(_row(rules, solver, player, _expected(table, rules, player, solver), None))
            else:
                stream = derive(seed, "audit", rules.name, solver.name, player.name)
                found = simulate(rules, player, solver, votes, draws or DRAWS, stream)
                mean = Effects(*(float(value) for value in found.mean(0)))
                rows.append(_row(rules, solver, player, mean, found[:, 0]))
    return rows


def _row(rules: Rules, solver: Solver, player: Player, mean: Effects, rewards: np.ndarray | None) -> Row:
    accepted = tuple(
        d.fault for d in player.drafts if d.fault and rules.read_question(d.text, d.finish_reason) is not None
    )
    half = None if rewards is None else 1.96 * float(rewards.std(ddof=1)) / math.sqrt(len(rewards))
    return Row(
        rules=rules.name,
        solver=solver.name,
        player=player.name,
        reward=mean.reward,
        low=None if half is None else mean.reward - half,
        high=None if half is None else mean.reward + half,
        valid=mean.valid,
        accepted=accepted,
        confidence=mean.confidence / mean.valid if mean.valid > NOTHING else None,
        agreement=mean.agreement / mean.valid if mean.valid > NOTHING else None,
        kept=mean.kept,
        label_accuracy=mean.usable / mean.kept if mean.kept > NOTHING else None,
        usable=mean.usable,
        draws=None if rewards is None else len(rewards),
    )


@dataclass(frozen=True)
class Table:
    """What the rules make of every possible outcome of the votes.

    Attributes:
        counts: (outcomes, 5) votes for A, B, C, D and unreadable.
        ways: (outcomes,) orders of the votes that lead to this outcome: the multinomial coefficient over the
            number of tied leaders.
        reward: (outcomes, 4) by intuitive answer.
        confidence, kept: (outcomes,).
        majority: (outcomes,) index into OPTIONS; -1 where no vote was readable.
    """

    counts: np.ndarray
    ways: np.ndarray
    reward: np.ndarray
    confidence: np.ndarray
    kept: np.ndarray
    majority: np.ndarray

    @classmethod
    def of(cls, rules: Rules, votes: int) -> Table:
        counts, ways, rewards, tallies = [], [], [], []
        for count in _compositions(votes, len(SLOTS)):
            orders = list(_orders(count))
            coefficient = math.factorial(votes) / math.prod(map(math.factorial, count))
            for order in orders:
                counts.append(count)
                ways.append(coefficient / len(orders))
                rewards.append([rules.reward(order, letter) for letter in OPTIONS])
                tallies.append(rules.count(order))
        return cls(
            np.array(counts),
            np.array(ways),
            np.array(rewards),
            np.array([one.confidence for one in tallies]),
            np.array([float(rules.keep(one)) for one in tallies]),
            np.array([-1 if one.answer is None else OPTIONS.index(one.answer) for one in tallies]),
        )

    def probabilities(self, slots: np.ndarray) -> np.ndarray:
        """(outcomes,) chance of each outcome when single votes fall into A, B, C, D, unreadable with chances
        `slots` (5,)."""
        return self.ways * np.prod(slots**self.counts, axis=1)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write `total` as an ordered sum of `parts` numbers from 0."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _orders(count: tuple[int, ...]) -> Iterator[list[str | None]]:
    """The votes in one order for each answer that may lead: the equally most frequent ones, each first
    once."""
    top = max(count[: len(OPTIONS)])
    for leader in [place for place in range(len(OPTIONS)) if count[place] == top and top] or [len(OPTIONS)]:
        places = [leader, *(place for place in range(len(SLOTS)) if place != leader)]
        yield [SLOTS[place] for place in places for _ in range(count[place])]


def _expected(table: Table, rules: Rules, player: Player, solver: Solver) -> Effects:
    total = dict.fromkeys((field.name for field in fields(Effects)), 0.0)
    for draft in player.drafts:
        for name, value in _draft(table, rules, draft, solver).items():
            total[name] += draft.weight * value
    return Effects(**total)


def _draft(table: Table, rules: Rules, draft: Draft, solver: Solver) -> Mapping[str, float]:
    question = rules.read_question(draft.text, draft.finish_reason)
    if question is None:
        return {"reward": INVALID}
    paid, labelled = _slots(rules, solver, draft)
    chance, of_reward = table.probabilities(labelled), table.probabilities(paid)
    intuitive = OPTIONS.index(_intuition(rules, question.intuitive, solver, draft))
    kept = table.kept * _followed(table, chance) if rules.twice else table.kept
    if rules.labels == "truth":
        kept = kept * (draft.gold is not None)
    return {
        "reward": float(of_reward @ table.reward[:, intuitive]),
        "valid": 1.0,
        "confidence": float(chance @ table.confidence),
        "agreement": float(chance @ (table.majority == intuitive)),
        "kept": float(chance @ kept),
        "usable": float(chance @ (kept * _right(rules, table, draft))),
    }


def _slots(rules: Rules, solver: Solver, draft: Draft) -> tuple[np.ndarray, np.ndarray]:
    """(5,) each: chances of A, B, C, D and unreadable, of a vote inside the reward and of one for the
    label."""
    paid, labelled = np.zeros(len(SLOTS)), np.zeros(len(SLOTS))
    for text, share in (GUESSING if rules.blind else solver).replies(draft.kind, draft.gold).items():
        paid[SLOTS.index(rules.read_answer(text))] += share
    for text, share in solver.replies(draft.kind, draft.gold).items():
        labelled[SLOTS.index((rules.read_label or rules.read_answer)(text))] += share
    return paid, labelled


def _intuition(rules: Rules, written: str, solver: Solver, draft: Draft) -> str:
    """Whose first thought counts: the writer's, or the answer a Solver of this skill is likeliest to give."""
    if rules.intuition == "writer":
        return written
    chances = dict.fromkeys(OPTIONS, 0.0)
    for text, share in solver.replies(draft.kind, draft.gold).items():
        if (answer := rules.read_answer(text)) is not None:
            chances[answer] += share
    return max(chances, key=chances.__getitem__)


def _followed(table: Table, chance: np.ndarray) -> np.ndarray:
    """(outcomes,) chance that another set of votes, just as likely, has the same majority."""
    again = np.array([chance @ (table.majority == place) for place in range(len(OPTIONS))])
    return np.where(table.majority >= 0, again[table.majority], 0.0)


def _right(rules: Rules, table: Table, draft: Draft) -> np.ndarray:
    """(outcomes,) chance that the label is the right option."""
    if draft.gold is None:
        return np.zeros(len(table.majority))
    if rules.labels == "random":
        return np.full(len(table.majority), 1 / len(OPTIONS))
    if rules.labels == "truth":
        return np.ones(len(table.majority))
    return (table.majority == OPTIONS.index(draft.gold)).astype(float)


def simulate(rules: Rules, player: Player, solver: Solver, votes: int, draws: int, seed: int) -> np.ndarray:
    """(draws, 6): the columns of `Effects` for replies drawn one by one, every vote in the order drawn."""
    generator = np.random.Generator(np.random.PCG64(seed))
    questions = [rules.read_question(draft.text, draft.finish_reason) for draft in player.drafts]
    weights = np.array([draft.weight for draft in player.drafts])
    found = np.zeros((draws, len(fields(Effects))))
    for index, which in enumerate(generator.choice(len(weights), size=draws, p=weights / weights.sum())):
        question, draft = questions[which], player.drafts[which]
        if question is None:
            found[index, 0] = INVALID
            continue
        cast = _cast(rules.read_label or rules.read_answer, solver, draft, votes, generator)
        paid = (
            _cast(rules.read_answer, GUESSING if rules.blind else solver, draft, votes, generator)
            if rules.apart
            else cast
        )
        intuitive = _intuition(rules, question.intuitive, solver, draft)
        counted = rules.count(cast)
        kept = rules.keep(counted) and not (rules.labels == "truth" and draft.gold is None)
        if kept and rules.twice:
            again = rules.count(_cast(rules.read_label or rules.read_answer, solver, draft, votes, generator))
            kept = again.answer == counted.answer
        label = _label(rules, counted.answer, draft, generator)
        usable = kept and draft.gold is not None and label == draft.gold
        found[index] = (
            rules.reward(paid, intuitive),
            1.0,
            counted.confidence,
            counted.answer == intuitive,
            kept,
            usable,
        )
    return found


def _cast(
    read: Callable[[str], str | None],
    solver: Solver,
    draft: Draft,
    votes: int,
    generator: np.random.Generator,
) -> list[str | None]:
    """Votes drawn one by one."""
    replies = solver.replies(draft.kind, draft.gold)
    shares = np.array(list(replies.values()))
    answers = [read(text) for text in replies]
    return [answers[one] for one in generator.choice(len(shares), size=votes, p=shares / shares.sum())]


def _label(rules: Rules, majority: str | None, draft: Draft, generator: np.random.Generator) -> str | None:
    if rules.labels == "random":
        return OPTIONS[generator.integers(len(OPTIONS))]
    return draft.gold if rules.labels == "truth" else majority
