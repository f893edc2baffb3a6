"""A file of answers scored, and the result as JSON: the same path for answers made here and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.scoring.files import Answer
from harness.scoring.items import Item, Reading
from harness.scoring.lenses import ScoredResponse, Totals, by_group, judge, totals
from harness.scoring.reading import read

Reader = Callable[[Item, str, str | None], Reading]  # item, response, finish_reason


@dataclass(frozen=True)
class ScoredFile:
    """Verdicts on the answered items, in the items' order, and the ids of the `unanswered` ones."""

    name: str
    judged: tuple[ScoredResponse, ...]
    unanswered: tuple[str, ...]

    @property
    def total(self) -> Totals:
        return totals(self.judged)

    @property
    def expected(self) -> int:
        return len(self.judged) + len(self.unanswered)


def score(
    name: str, items: Sequence[Item], answers: Mapping[str, Answer], reader: Reader = read
) -> ScoredFile:
    """The verdicts on every answer. Items without one are named, not scored."""
    given = [(item, answers[item.id]) for item in items if item.id in answers]
    judged = tuple(judge(item, reader(item, one.response, one.finish_reason)) for item, one in given)
    return ScoredFile(name, judged, tuple(item.id for item in items if item.id not in answers))


def as_json(scored: ScoredFile) -> dict[str, Any]:
    """The result; rates are fractions of `n`, the answered items that have gold, and null where n is 0.

    `official_all` and `verified_all` count items without gold as wrong. Groups: name -> value -> totals.
    """
    found, right = scored.total, sum(one.official is True for one in scored.judged)
    return {
        "suite": scored.name,
        "n": found.n,
        "official": found.official,
        "verified": found.verified,
        "parsed": found.parsed,
        "items": [_item(one) for one in scored.judged],
        "complete": not scored.unanswered,
        "answered": len(scored.judged),
        "expected": scored.expected,
        "unanswered": list(scored.unanswered),
        "without_gold": [one.item.id for one in scored.judged if not one.item.gold],
        "official_all": None if found.official is None else right / len(scored.judged),
        "verified_all": over_all(scored, found.verified),
        "official_given_parsed": found.official_given_parsed,
        "verified_given_parsed": found.verified_given_parsed,
        "groups": {
            name: {value: asdict(one) for value, one in values.items()}
            for name, values in by_group(scored.judged).items()
        },
    }


def over_all(scored: ScoredFile, rate: float | None) -> float | None:
    """A rate over all answered items, those without gold counted as wrong."""
    return None if rate is None else rate * scored.total.n / len(scored.judged)


def _item(one: ScoredResponse) -> dict[str, Any]:
    return {
        "id": one.item.id,
        "extracted": list(one.reading.found),
        "official": one.official,
        "verified": one.verified,
        "parsed": bool(one.reading.found),
        "how": one.reading.how,
        "scored": bool(one.item.gold),
    }
