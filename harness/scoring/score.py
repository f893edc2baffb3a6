"""A file of answers scored, and the result as JSON: the same path for answers made here and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.scoring.files import Answer
from harness.scoring.items import Item, Reading
from harness.scoring.reading import read
from harness.scoring.verdict import Totals, Verdict, by_group, judge, totals

Reader = Callable[[Item, str, str | None], Reading]  # item, response, finish_reason


@dataclass(frozen=True)
class Score:
    """Verdicts on the answered items, in the items' order. `unanswered`: ids of items without an answer;
    never scored."""

    name: str
    verdicts: tuple[Verdict, ...]
    unanswered: tuple[str, ...]

    @property
    def total(self) -> Totals:
        return totals(self.verdicts)

    @property
    def expected(self) -> int:
        return len(self.verdicts) + len(self.unanswered)


def score(name: str, items: Sequence[Item], answers: Mapping[str, Answer], reader: Reader = read) -> Score:
    """The verdicts on every answer. Items without one are named, not scored."""
    verdicts = tuple(
        judge(item, reader(item, answers[item.id].response, answers[item.id].finish_reason))
        for item in items
        if item.id in answers
    )
    return Score(name, verdicts, tuple(item.id for item in items if item.id not in answers))


def as_json(scored: Score) -> dict[str, Any]:
    """The result; rates are fractions of `n`, the answered items that have gold, and null where n is 0.

    Items without gold are listed too, with `"scored": false`; `official_all` and `verified_all` count them as
    wrong, for comparison with tables that do. Groups: name -> value -> totals.
    """
    found = scored.total
    return {
        "suite": scored.name,
        "n": found.n,
        "official": found.official,
        "verified": found.verified,
        "parsed": found.parsed,
        "items": [_item(verdict) for verdict in scored.verdicts],
        "complete": not scored.unanswered,
        "answered": len(scored.verdicts),
        "expected": scored.expected,
        "unanswered": list(scored.unanswered),
        "without_gold": [verdict.item.id for verdict in scored.verdicts if not verdict.item.gold],
        "official_all": over_all(scored, found.official),
        "verified_all": over_all(scored, found.verified),
        "official_given_parsed": found.official_given_parsed,
        "verified_given_parsed": found.verified_given_parsed,
        "groups": {
            name: {value: asdict(one) for value, one in values.items()}
            for name, values in by_group(scored.verdicts).items()
        },
    }


def over_all(scored: Score, rate: float | None) -> float | None:
    """A rate over all answered items, those without gold counted as wrong."""
    return None if rate is None else rate * scored.total.n / len(scored.verdicts)


def _item(verdict: Verdict) -> dict[str, Any]:
    return {
        "id": verdict.item.id,
        "extracted": list(verdict.reading.found),
        "official": verdict.official,
        "verified": verdict.verified,
        "parsed": bool(verdict.reading.found),
        "how": verdict.reading.how,
        "scored": bool(verdict.item.gold),
    }
