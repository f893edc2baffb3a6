"""Responses scored by both lenses, and the result as JSON: the same path for answers made here and
elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from harness.scoring.items import Item, Reading
from harness.scoring.reading import read
from harness.scoring.total import Totals, Verdict, by_group, judge, totals

Extractor = Callable[[Item, str, str | None], Reading]


class SuiteNames(Protocol):
    """What the table says of a suite: `table` is the group by which it sums up."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def table(self) -> str: ...


@dataclass(frozen=True)
class Score:
    """Verdicts on the answered items of a suite, in the suite's order. `unanswered`: ids of items without a
    response; never scored."""

    suite: SuiteNames
    verdicts: tuple[Verdict, ...]
    unanswered: tuple[str, ...]

    @property
    def total(self) -> Totals:
        return totals(self.verdicts)

    @property
    def complete(self) -> bool:
        return not self.unanswered


def score(
    suite: SuiteNames, items: Sequence[Item], responses: Mapping[str, str], extractor: Extractor = read
) -> Score:
    """Both lenses on each response. Items without one are named, not scored."""
    verdicts = tuple(
        judge(item, extractor(item, responses[item.id], None)) for item in items if item.id in responses
    )
    return Score(suite, verdicts, tuple(item.id for item in items if item.id not in responses))


def as_json(scored: Score) -> dict[str, Any]:
    """The result; rates are fractions of `n`, the answered items that have a gold answer, and null where n is
    0.

    Items without gold are listed too, with `"scored": false`; `official_all` and `verified_all` count them as
    wrong, for comparison with tables that do. Groups: name -> value -> totals.
    """
    found = scored.total
    answered = len(scored.verdicts)
    return {
        "suite": scored.suite.name,
        "n": found.n,
        "official": found.official,
        "verified": found.verified,
        "parsed": found.parsed,
        "items": [_item(verdict) for verdict in scored.verdicts],
        "complete": scored.complete,
        "answered": answered,
        "expected": answered + len(scored.unanswered),
        "unanswered": list(scored.unanswered),
        "without_gold": [verdict.item.id for verdict in scored.verdicts if not verdict.has_gold],
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
        "scored": verdict.has_gold,
    }
