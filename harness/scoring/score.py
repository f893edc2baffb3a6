"""Responses scored by both lenses, and the result as JSON: the same path for answers made here and
elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.evals.sources import Suite
from harness.scoring.extract import extract
from harness.scoring.items import Extraction, Item
from harness.scoring.total import Total, Verdict, by_group, judge, total

Extractor = Callable[[Item, str], Extraction]


@dataclass(frozen=True)
class Score:
    """Verdicts on the answered items of a suite, in the suite's order. `unanswered`: ids of items without a
    response; never scored."""

    suite: Suite
    verdicts: tuple[Verdict, ...]
    unanswered: tuple[str, ...]

    @property
    def total(self) -> Total:
        return total(self.verdicts)

    @property
    def complete(self) -> bool:
        return not self.unanswered


def score(
    suite: Suite, items: Sequence[Item], responses: Mapping[str, str], extractor: Extractor = extract
) -> Score:
    """Both lenses on each response. Items without one are named, not scored."""
    verdicts = tuple(
        judge(item, extractor(item, responses[item.id])) for item in items if item.id in responses
    )
    return Score(suite, verdicts, tuple(item.id for item in items if item.id not in responses))


def as_json(scored: Score) -> dict[str, Any]:
    """The result; rates are fractions of `n`, the answered items that have a gold answer, and null where n is
    0.

    Items without gold are listed too, with `"scored": false`; `official_all` and `strict_all` count them as
    wrong, for comparison with tables that do. Groups: name -> value -> totals.
    """
    found = scored.total
    answered = len(scored.verdicts)
    return {
        "suite": scored.suite.name,
        "n": found.n,
        "official": found.official,
        "strict": found.strict,
        "parsed": found.parsed,
        "items": [_item(verdict) for verdict in scored.verdicts],
        "complete": scored.complete,
        "answered": answered,
        "expected": answered + len(scored.unanswered),
        "unanswered": list(scored.unanswered),
        "without_gold": [verdict.item.id for verdict in scored.verdicts if not verdict.has_gold],
        "official_all": over_all(scored, found.official),
        "strict_all": over_all(scored, found.strict),
        "official_given_parsed": found.official_given_parsed,
        "strict_given_parsed": found.strict_given_parsed,
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
        "extracted": verdict.extraction.answer,
        "official": verdict.official,
        "strict": verdict.strict,
        "parsed": verdict.extraction.parsed,
        "how": verdict.extraction.how,
        "scored": verdict.has_gold,
    }
