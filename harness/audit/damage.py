"""What the field's known defects do, each in one telling number beside the same number without the defect.
Exact, no model.

The faults are those of `vzero.arms.defects` and of the arms that run them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import comb

from harness.audit.measure import VOTES, Row, measure
from harness.audit.players import PLAYERS, Solver
from harness.audit.rules import RULES, Rules
from vzero.arms.defects import DEFECTS, Defect

ABLE = Solver("able", easy=0.95, hard=0.5)
RAMBLING = Solver("rambling", easy=0.6, hard=0.4, unreadable=0.4)  # four replies in ten end without a box


# It boxes every answer, at the end of a sentence that often begins with "As a result".
WORDY = Solver("wordy", easy=0.95, hard=0.5, beginnings=("As a result: ", "The answer: "))
BLIND = Defect(
    "blind_server",
    "the Solver inside the Questioner's reward never gets the image and votes on the text alone",
    "vllm_service_init/start_vllm_server.py at 73d156a",
)


@dataclass(frozen=True)
class Damage:
    """One defect.

    Attributes:
        name, summary, source: as in `vzero.arms.defects`.
        measure: what the numbers are.
        without, with_: the number as it should be and as the defect makes it.
    """

    name: str
    summary: str
    source: str
    measure: str
    without: float
    with_: float


def damages() -> tuple[Damage, ...]:
    """One for each defect."""
    dual, single = RULES["dual_track"], RULES["uncertainty"]
    article, dropped, prompts = (
        DEFECTS[name] for name in ("article_votes", "unparsed_dropped", "three_prompts")
    )
    four_in_ten = "four replies in ten without an answer"
    return (
        # A reward that does not depend on the question cannot teach which questions to ask.
        _damage(
            BLIND,
            "min(c, 1-c) of a hard question less that of an easy one",
            (single, replace(single, blind=True)),
            lambda one: _hard(one, ABLE).reward - _row(one, "honest, easy", ABLE).reward,
        ),
        _damage(
            article,
            f"pseudo-labels right, of the kept; hard questions, {four_in_ten}",
            (dual, replace(dual, read_label=article.read)),
            lambda one: _hard(one, RAMBLING).label_accuracy or 0.0,
        ),
        _damage(
            dropped,
            f"mean confidence of hard questions, {four_in_ten}",
            (dual, replace(dual, count=dropped.count or dual.count)),
            lambda one: _hard(one, RAMBLING).confidence or 0.0,
        ),
        _damage(
            prompts,
            'pseudo-labels right, of the kept; hard questions, every answer boxed, half after "As a result"',
            (dual, replace(dual, read_label=prompts.read)),
            lambda one: _hard(one, WORDY).label_accuracy or 0.0,
        ),
        _label_selection(DEFECTS["label_selection"]),
    )


def _damage(
    defect: Defect, measured: str, rules: tuple[Rules, Rules], value: Callable[[Rules], float]
) -> Damage:
    return Damage(defect.name, defect.summary, defect.source, measured, *map(value, rules))


def _row(rules: Rules, player: str, solver: Solver) -> Row:
    return measure(rules, [one for one in PLAYERS if one.name == player], [solver], VOTES)[0]


def _hard(rules: Rules, solver: Solver) -> Row:
    return _row(rules, "honest, hard", solver)


def _label_selection(defect: Defect) -> Damage:
    """Images are kept when the base's accuracy on a human question about them, by its human answer, is
    between .1 and .9."""
    measured = (
        "share of easy images (base right 95 %) among the chosen, of an even mixture with hard ones (50 %)"
    )
    easy, hard = _chosen(ABLE.easy), _chosen(ABLE.hard)
    return Damage(defect.name, defect.summary, defect.source, measured, 0.5, easy / (easy + hard))


def _chosen(right: float, answers: int = VOTES) -> float:
    """Chance that between a tenth and nine tenths of `answers` independent answers are right."""
    chosen = [k for k in range(answers + 1) if answers / 10 <= k <= 9 * answers / 10]
    return sum(comb(answers, k) * right**k * (1 - right) ** (answers - k) for k in chosen)
