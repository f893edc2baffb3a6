"""Two verdicts on one reading, and their sums.

*verified*: what could not be read is wrong; label sets, numbers and formulas must be equal. *official*: the
suite's published rule, from its own sources, where it can be computed without the judge model that it is made
for:
- "mathvista" (github.com/lupantech/MathVista, evaluation/calculate_score.py): an answer that names no option
  becomes the nearest one by Levenshtein distance, the first on ties; an integer must be written as one (so
  the published verdicts were made; today's script truncates `14.6`), a float is rounded to the item's
  precision, a list is compared as text.
- "logicvista" (github.com/Yijia-Xiao/LogicVista, eval/extract_accuracy.py): the sets of labels are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.scoring.free import after_verb
from harness.scoring.items import Item, Reading
from harness.scoring.values import close, same, value

_BRACKETED = re.compile(r"\(([a-zA-Z])\)")


@dataclass(frozen=True)
class ScoredResponse:
    """One scored response. `official` None: there is no published rule here, or it needs a judge model."""

    item: Item
    reading: Reading
    official: bool | None
    verified: bool

    @property
    def right(self) -> bool:
        """The official verdict where there is one, else the verified one."""
        return self.verified if self.official is None else self.official


@dataclass(frozen=True)
class Totals:
    """Sums over verdicts whose items have gold; rates are fractions, None where they divide by nothing.

    Attributes:
        n: items scored.
        without_gold: items answered that have no gold; in no rate.
        official, verified, parsed: shares of n; official None: some verdicts have none.
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
    """Both verdicts on one reading."""
    return ScoredResponse(item, reading, _official(item, reading), _verified(item, reading.found))


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
    values = list(flags)
    return sum(map(bool, values)) / len(values) if values and None not in values else None


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


def _official(item: Item, reading: Reading) -> bool | None:
    if item.rule == "logicvista":
        return bool(item.gold) and set(reading.found) == set(item.gold)
    if item.rule != "mathvista" or not reading.found:
        return None  # the published pipeline asks GPT-4 what such a response answers
    return bool(item.gold) and published(item, ", ".join(reading.found))


def published(item: Item, extraction: str | None) -> bool:
    """The MathVista verdict on an extraction made elsewhere, given as the text the extractor wrote."""
    if extraction is None:
        return False
    prediction = normalise(item, extraction)
    gold = [item.text_of(label) for label in item.gold] if item.is_choice else item.gold[:1]
    return prediction in gold


def normalise(item: Item, extraction: str) -> str | None:
    """MathVista's normalised prediction: an option's text, a number as text, or None for no number."""
    if item.is_choice:
        return _nearest(item, extraction.strip())
    try:
        if item.kind == "integer":
            return str(int(extraction))
        if item.kind == "float":
            return str(round(float(extraction.removesuffix("%")), item.precision or 0))
    except (ValueError, OverflowError):
        return None
    return extraction


def _nearest(item: Item, extraction: str) -> str:
    letter = _BRACKETED.search(extraction)
    name = letter.group(1).upper() if letter else extraction
    if name in item.labels:
        return item.text_of(name)
    from Levenshtein import distance

    return min(item.options, key=lambda option: distance(name, option))
