"""Verdicts summed up: accuracy by both lenses, how many answers could be read, and the same by group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.scoring.items import Extraction, Item
from harness.scoring.lenses import official, strict


@dataclass(frozen=True)
class Verdict:
    """One scored response. `gold` False: the item has no gold answer, and neither lens can judge it."""

    item: Item
    extraction: Extraction
    official: bool
    strict: bool

    @property
    def has_gold(self) -> bool:
        return bool(self.item.gold)


@dataclass(frozen=True)
class Total:
    """Sums over verdicts whose items have a gold answer; rates are fractions, None where they would divide by
    nothing.

    Attributes:
        n: items scored.
        without_gold: items answered that have no gold; in no rate.
        official, strict, parsed: shares of n.
        official_given_parsed, strict_given_parsed: accuracy among the answers that could be read.
    """

    n: int
    without_gold: int
    official: float | None
    strict: float | None
    parsed: float | None
    official_given_parsed: float | None
    strict_given_parsed: float | None


def judge(item: Item, extraction: Extraction) -> Verdict:
    """Both lenses on one extraction."""
    return Verdict(item, extraction, official(item, extraction), strict(item, extraction))


def total(verdicts: Sequence[Verdict]) -> Total:
    """Both accuracies and the parsed rate."""
    scored = [one for one in verdicts if one.has_gold]
    parsed = [one for one in scored if one.extraction.parsed]
    return Total(
        n=len(scored),
        without_gold=len(verdicts) - len(scored),
        official=_share(one.official for one in scored),
        strict=_share(one.strict for one in scored),
        parsed=_share(one.extraction.parsed for one in scored),
        official_given_parsed=_share(one.official for one in parsed),
        strict_given_parsed=_share(one.strict for one in parsed),
    )


def by_group(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Total]]:
    """Totals by group name and value, in order of first appearance; an item of several skills counts in
    each."""
    members: dict[str, dict[str, list[Verdict]]] = {}
    for verdict in verdicts:
        for name, value in dict.fromkeys(verdict.item.group):
            members.setdefault(name, {}).setdefault(value, []).append(verdict)
    return {
        name: {value: total(group) for value, group in values.items()} for name, values in members.items()
    }


def _share(flags: Iterable[bool]) -> float | None:
    values = list(flags)
    return sum(values) / len(values) if values else None
