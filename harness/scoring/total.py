"""Verdicts summed up: accuracy by both lenses, how many answers could be read, and the same by group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.scoring.items import Extraction, Item, Reading
from harness.scoring.lenses import official, strict


@dataclass(frozen=True)
class Verdict:
    """One scored response. `official` None: the suite has no published rule here, or the item no gold."""

    item: Item
    reading: Reading
    official: bool | None
    verified: bool

    @property
    def right(self) -> bool:
        """The official verdict where the suite has one here, else the verified one."""
        return self.verified if self.official is None else self.official

    @property
    def has_gold(self) -> bool:
        return bool(self.item.gold)


@dataclass(frozen=True)
class Totals:
    """Sums over verdicts whose items have a gold answer; rates are fractions, None where they would divide by
    nothing.

    Attributes:
        n: items scored.
        without_gold: items answered that have no gold; in no rate.
        official, verified, parsed: shares of n; official None: the suite has no published rule here.
        official_given_parsed, verified_given_parsed: accuracy among the answers that could be read.
    """

    n: int
    without_gold: int
    official: float | None
    verified: float | None
    parsed: float | None
    official_given_parsed: float | None
    verified_given_parsed: float | None


def judge(item: Item, reading: Reading) -> Verdict:
    """Both lenses on one reading."""
    found = Extraction(
        labels=reading.found if item.is_choice else (),
        value=reading.found[0] if reading.found and not item.is_choice else None,
        parsed=bool(reading.found),
        text=reading.text,
    )
    return Verdict(item, reading, official(item, found) if item.rule else None, strict(item, found))


def totals(verdicts: Sequence[Verdict]) -> Totals:
    """Both accuracies and the parsed rate."""
    scored = [one for one in verdicts if one.has_gold]
    parsed = [one for one in scored if one.reading.found]
    return Totals(
        n=len(scored),
        without_gold=len(verdicts) - len(scored),
        official=_official(scored),
        verified=_share(one.verified for one in scored),
        parsed=_share(bool(one.reading.found) for one in scored),
        official_given_parsed=_official(parsed),
        verified_given_parsed=_share(one.verified for one in parsed),
    )


def by_group(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Totals]]:
    """Totals by group name and value, in order of first appearance; an item of several skills counts in
    each."""
    members: dict[str, dict[str, list[Verdict]]] = {}
    for verdict in verdicts:
        for name, value in dict.fromkeys(verdict.item.group):
            members.setdefault(name, {}).setdefault(value, []).append(verdict)
    return {
        name: {value: totals(group) for value, group in values.items()} for name, values in members.items()
    }


def _share(flags: Iterable[bool]) -> float | None:
    values = list(flags)
    return sum(values) / len(values) if values else None


def _official(verdicts: Sequence[Verdict]) -> float | None:
    """None where the suite has no published rule here."""
    known = [one.official for one in verdicts if one.official is not None]
    return _share(known) if len(known) == len(verdicts) else None
