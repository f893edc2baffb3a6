"""What the field's known defects do, each in one telling number beside the same number without the defect.
Exact, no model.

The faults are those of `vzero.arms.defects` and of the arms that run them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import comb

from harness.audit.measure import VOTES, Row, measure
from harness.audit.players import PLAYERS, Kind, Player, Solver
from harness.audit.rules import RULES, Rules
from vzero.arms.defects import DEFECTS

_BY_NAME: Mapping[str, Player] = {player.name: player for player in PLAYERS}
ABLE = Solver("able", easy=0.95, hard=0.5)
RAMBLING = Solver("rambling", easy=0.6, hard=0.4, unreadable=0.4)  # four replies in ten end without a box


@dataclass(frozen=True)
class WordySolver(Solver):
    """A Solver that boxes every answer, at the end of a sentence that often begins with "As a result"."""

    def replies(self, kind: Kind, gold: str | None) -> dict[str, float]:
        """As a Solver's, with one of two openings before the box; a strict reader reads all of them as they
        are meant."""
        found: dict[str, float] = {}
        for text, share in super().replies(kind, gold).items():
            head, _, box = text.rpartition("\\boxed")
            for opening in ("As a result: ", "The answer: "):
                key = f"{head}{opening}\\boxed{box}"
                found[key] = found.get(key, 0.0) + share / 2
        return found


WORDY = WordySolver("wordy", easy=0.95, hard=0.5)


@dataclass(frozen=True)
class Damage:
    """One defect.

    Attributes:
        name, says, source: as in `vzero.arms.defects`.
        measure: what the numbers are.
        without, with_: the number as it should be and as the defect makes it.
    """

    name: str
    says: str
    source: str
    measure: str
    without: float
    with_: float


def damages() -> tuple[Damage, ...]:
    """A row for each defect."""
    return (_blind(), _article(), _dropped(), _three_prompts(), _label_selection())


def _row(rules: Rules, player: str, solver: Solver) -> Row:
    return measure(rules, [_BY_NAME[player]], [solver], VOTES)[0]


def _of(name: str, measure_: str, rules: Rules, faulty: Rules, value: Callable[[Rules], float]) -> Damage:
    defect = DEFECTS[name]
    return Damage(name, defect.summary, defect.source, measure_, value(rules), value(faulty))


def _blind() -> Damage:
    """A reward that does not depend on the question cannot teach which questions to ask."""
    rules = RULES["uncertainty"]

    def gap(one: Rules) -> float:
        return _row(one, "honest, hard", ABLE).reward - _row(one, "honest, easy", ABLE).reward

    return Damage(
        "blind-server",
        "the Solver inside the Questioner's reward never gets the image and votes on the text alone",
        "vllm_service_init/start_vllm_server.py at 73d156a",
        "min(c, 1-c) of a hard question less that of an easy one",
        gap(rules),
        gap(replace(rules, blind=True)),
    )


def _article() -> Damage:
    rules = RULES["dual_track"]
    faulty = replace(rules, read_label=DEFECTS["article_votes"].read)
    measure_ = "pseudo-labels right, of the kept; hard questions, four replies in ten without an answer"
    return _of(
        "article_votes",
        measure_,
        rules,
        faulty,
        lambda one: _row(one, "honest, hard", RAMBLING).label_accuracy or 0.0,
    )


def _dropped() -> Damage:
    rules = RULES["dual_track"]
    measure_ = "mean confidence of hard questions, four replies in ten without an answer"
    faulty = replace(rules, count=DEFECTS["unparsed_dropped"].count or rules.count)
    return _of(
        "unparsed_dropped",
        measure_,
        rules,
        faulty,
        lambda one: _row(one, "honest, hard", RAMBLING).confidence or 0.0,
    )


def _three_prompts() -> Damage:
    rules = RULES["dual_track"]
    faulty = replace(rules, read_label=DEFECTS["three_prompts"].read)
    measure_ = 'pseudo-labels right, of the kept; hard questions, every answer boxed, half of them after "As a result"'
    return _of(
        "three_prompts",
        measure_,
        rules,
        faulty,
        lambda one: _row(one, "honest, hard", WORDY).label_accuracy or 0.0,
    )


def _label_selection() -> Damage:
    """Images are kept when the base's accuracy on a human question about them, by its human answer, is
    between .1 and .9."""
    defect = DEFECTS["label_selection"]
    return Damage(
        defect.name,
        defect.summary,
        defect.source,
        "share of easy images (base right 95 %) among the chosen, of an even mixture with hard ones (50 %)",
        0.5,
        _chosen(ABLE.easy) / (_chosen(ABLE.easy) + _chosen(ABLE.hard)),
    )


def _chosen(right: float, answers: int = VOTES) -> float:
    """Chance that between a tenth and nine tenths of `answers` independent answers are right."""
    low, high = answers / 10, 9 * answers / 10
    return sum(
        comb(answers, k) * right**k * (1 - right) ** (answers - k)
        for k in range(answers + 1)
        if low <= k <= high
    )
