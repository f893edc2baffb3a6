"""What is audited: a reward of (votes, intuitive answer) with the readers and the filter it works with.

To audit another reward add a `Rules` to `RULES`, or pass one to `harness.audit.audit`; a field left out is the method's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vzero.parsing import Question, parse_answer
from vzero.questioner import read_question
from vzero.rewards import dual_track, uncertainty
from vzero.voting import Tally, keep

Votes = Sequence[str | None]


def read_natural(text: str, finish_reason: str) -> Question | None:
    """The method's own reading of a Questioner's reply, for instruction-tuned models."""
    return read_question(text, finish_reason, "natural")


@dataclass(frozen=True)
class Rules:
    """How a question is paid and whether it is kept.

    Attributes:
        name: as in `--reward`.
        formula: in one line, for people.
        source: where the formula comes from.
        reward: of (votes of a valid question in the order drawn, its intuitive answer).
        read_question: of (reply, finish reason); None is an invalid question, paid `vzero.rewards.INVALID`.
        read_answer: a Solver's reply -> its vote, "A".."D" or None.
        keep: whether the Solver trains on a question with this tally.
        order_free: whether, of the order of the votes, only the first seen of equally frequent answers matters. Else it is simulated.
    """

    name: str
    formula: str
    source: str
    reward: Callable[[Votes, str], float]
    read_question: Callable[[str, str], Question | None] = read_natural
    read_answer: Callable[[str], str | None] = parse_answer
    keep: Callable[[Tally], bool] = keep
    order_free: bool = True


_DUAL_TRACK = "min(c, 1-c) where intuition and majority agree, 0.5c where they do not"

RULES: dict[str, Rules] = {
    rules.name: rules
    for rules in (
        Rules("dual_track", _DUAL_TRACK, "V-Zero, arXiv 2601.10094", dual_track),
        Rules("uncertainty", "min(c, 1-c), whatever the intuition", "V-Zero's ablation", lambda votes, _: uncertainty(votes)),
    )
}
