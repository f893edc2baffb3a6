"""The Questioner's reward under scripted players: what it pays for, before any model is trained on it.

`players` write real replies, `measure` reads them with the parsers, votes, filter and rewards of `vzero` and
takes exact expectations over all `outcomes` of the votes, `exploits` names the players that earn more than an
honest one while giving the Solver less to learn from, `damage` measures known defects of public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.audit.damage import Damage, damages
from harness.audit.exploits import Exploit, find, intended
from harness.audit.measure import VOTES, Row, measure
from harness.audit.players import PLAYERS, SOLVERS
from harness.audit.rules import RULES, Rules, of_arms

__all__ = [
    "PLAYERS",
    "RULES",
    "SOLVERS",
    "Audit",
    "Damage",
    "Exploit",
    "Row",
    "Rules",
    "audit",
    "damages",
    "of_arms",
]


@dataclass(frozen=True)
class Audit:
    """Every player against every Solver under every rule, in the order rules, Solvers, players.

    Attributes:
        votes: m, the Solver's answers per question.
        intended: name of the rules -> what they pay for the question the method wants.
        exploits: players that earn more than the honest one and leave fewer usable questions.
    """

    votes: int
    rules: tuple[Rules, ...]
    rows: tuple[Row, ...]
    intended: dict[str, float]
    exploits: tuple[Exploit, ...]


def audit(
    rules: Sequence[Rules] = tuple(RULES.values()),
    votes: int = VOTES,
    draws: int | None = None,
    seed: int = 0,
) -> Audit:
    """Play every scripted Questioner against every scripted Solver under each of `rules`.

    Args:
        draws: simulate so many replies of each player, seeded by `seed`, instead of enumerating.
    """
    rows = [row for one in rules for row in measure(one, PLAYERS, SOLVERS, votes, draws, seed)]
    paid = {one.name: intended(one, votes) for one in rules}
    return Audit(votes, tuple(rules), tuple(rows), paid, tuple(find(rows, paid)))
