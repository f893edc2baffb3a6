"""The verified verdict on a reading, and sums of verdicts.

*verified*: what could not be read is wrong; label sets, numbers and formulas must be equal. *official*, by
the suite's published rule, is made elsewhere (`harness.evals.official`) and only summed up here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.scoring.free import after_verb
from harness.scoring.items import Item, Reading
from harness.scoring.values import close, same, value


@dataclass(frozen=True)
class ScoredResponse:
    """One scored response. `official` None: no verdict by the suite's published rule."""

    item: Item
    reading: Reading
    verified: bool
    official: bool | None = None


@dataclass(frozen=True)
class Totals:
    """Sums over verdicts whose items have gold; rates are fractions, None where they divide by nothing.

    Attributes:
        n: items scored.
        without_gold: items answered that have no gold; in no rate.
        verified, parsed: shares of n. official: of those with a verdict, None where none has.
        official_given_parsed, verified_given_parsed: accuracy among the answers that could be read.
    """

    n: int
    without_gold: int
    official: float | None
    verified: float | None
    parsed: float | None
    official_given_parsed: float | None
    verified_given_parsed: float | None


def judge(item: Item, reading: Reading) -> ScoredResponse:
    """The verified verdict on one reading."""
    return ScoredResponse(item, reading, _verified(item, reading.found))


def totals(judged: Sequence[ScoredResponse]) -> Totals:
    """Accuracies and the share that could be read."""
    scored = [one for one in judged if one.item.gold]
    parsed = [one for one in scored if one.reading.found]
    return Totals(
        n=len(scored),
        without_gold=len(judged) - len(scored),
        official=_share(one.official for one in scored),
        verified=_share(one.verified for one in scored),
        parsed=_share(bool(one.reading.found) for one in scored),
        official_given_parsed=_share(one.official for one in parsed),
        verified_given_parsed=_share(one.verified for one in parsed),
    )


def by_group(judged: Sequence[ScoredResponse]) -> dict[str, dict[str, Totals]]:
    """Totals by group name and value, in order of first appearance; items count in each of theirs."""
    members: dict[str, dict[str, list[ScoredResponse]]] = {}
    for one in judged:
        for name, group in dict.fromkeys(one.item.group):
            members.setdefault(name, {}).setdefault(group, []).append(one)
    return {name: {group: totals(rows) for group, rows in groups.items()} for name, groups in members.items()}


def _share(flags: Iterable[bool | None]) -> float | None:
    values = [one for one in flags if one is not None]
    return sum(values) / len(values) if values else None


def _verified(item: Item, found: tuple[str, ...]) -> bool:
    if not found or not item.gold:
        return False
    if item.kind == "multi":
        return set(found) == set(item.gold)
    if item.kind == "choice":  # several gold labels are equal options: any of them is right
        return len(found) == 1 and found[0] in item.gold
    return any(_equal(item, found[0], gold) for gold in item.gold)


def _equal(item: Item, found: str, gold: str) -> bool:
    ours, theirs = value(found), value(gold)
    if item.kind not in ("integer", "float") or ours is None or theirs is None:
        return same(found, gold) or (item.kind == "text" and same(found, after_verb(gold)))
    if not found.endswith("%"):
        return _within(item, float(ours), theirs)
    # A percent sign stands aside, as a unit does, but not where the gold is a fraction of 1.
    aside = abs(float(theirs)) > 1 or re.search("%|percent", item.question)
    return _within(item, float(ours) / 100, theirs) or (bool(aside) and _within(item, float(ours), theirs))


def _within(item: Item, number: float, gold: str) -> bool:
    """Equal within the suite's tolerance, or rounded to its precision or to the gold's own decimals."""
    if item.tolerance is not None:
        return abs(number - float(gold)) <= item.tolerance + 1e-9
    written = len(gold.partition(".")[2])
    decimals = item.precision if item.precision is not None else written if written >= 2 else None
    if item.kind == "integer" or decimals is None:
        return close(str(number), gold)
    return round(number, decimals) == round(float(gold), decimals)
