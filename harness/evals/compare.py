"""A trained model against its base on the same items: gains by both lenses, and whether a gain is one of
format alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.evals import catalogue, folder, results
from harness.evals.catalogue import Suite
from harness.evals.results import Scored
from harness.evals.rows import read_pins
from harness.evals.store import read_rows
from harness.stats import Gain, Pairs, holm_corrected, paired_gain
from vzero.errors import InputError
from vzero.presets import differences
from vzero.runtime.seeding import derive

LENSES = ("official", "strict")
_ATTRIBUTES = {"official": "right", "strict": "verified"}  # lens -> attribute of a verdict
OTHERWISE = frozenset({"model", "checkpoint_sha256"})  # all else must be equal


def compare(base: Path, other: Path) -> dict[str, Any]:
    """Paired gains of the evaluation in `other` over that in `base`, suite by suite; p-values corrected over
    suites (Holm).

    "format_gain": the strict gain is positive, more answers could be read, and among items whose answer could
    be read in both the gain is not told from zero.

    Raises:
        InputError: they were asked under different conditions, other rows among them, or have no complete
            suite in common.
    """
    one, two = folder.read(base)["evaluation"], folder.read(other)["evaluation"]
    changed = [key for key in differences(one, two) if key not in OTHERWISE]
    if changed:
        raise InputError(
            f"{base} and {other} were not asked alike ({', '.join(changed)}); evaluate both with the same settings."
        )
    found = {
        suite.name: _suite(suite, base, other, int(two["seed"]))
        for suite in map(catalogue.suites().__getitem__, two["suites"])
    }
    found = {name: suite for name, suite in found.items() if suite is not None}
    if not found:
        raise InputError(f"{base} and {other} have no complete suite in common; run both to their end.")
    for lens in LENSES:
        corrected = holm_corrected({name: Gain(**suite[lens]) for name, suite in found.items()})
        for name, gain in corrected.items():
            found[name][lens] = gain.model_dump()
    for suite in found.values():
        suite["format_gain"] = _only_format(suite)
    return {"base": one["model"], "other": two["model"], "suites": found}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What a reader is told, a line a suite."""
    lines = []
    for name, suite in found["suites"].items():
        parts = []
        for lens in LENSES:
            one = suite[lens]
            interval = (
                "no interval"
                if one["low"] is None
                else f"{100 * one['low']:+.1f} to {100 * one['high']:+.1f}"
            )
            parts.append(f"{lens} {100 * one['gain']:+.1f} points ({interval}; {one['direction']})")
        before, after = suite["parsed"]
        parts.append(f"read {100 * before:.1f} -> {100 * after:.1f} %")
        if suite["both_parsed"] is not None:
            both = suite["both_parsed"]
            parts.append(f"where both could be read {100 * both['gain']:+.1f} (n = {both['n']})")
        mark = "FORMAT GAIN, " if suite["format_gain"] else ""
        lines.append(f"{mark}{name}, {found['other']} over {found['base']}: {', '.join(parts)}.")
    return lines


def _suite(suite: Suite, base: Path, other: Path, seed: int) -> dict[str, Any] | None:
    rows = [_rows(suite, place) for place in (base, other)]
    if not all(rows):
        return None
    pins = [read_pins(place / "pins" / f"{suite.name}.json") for place in (base, other)]
    if pins[0] != pins[1]:
        raise InputError(
            f"{base} and {other} were asked different rows of {suite.name}; evaluate both on the same data."
        )
    images = {
        row["id"]: row["image_sha256"] for row in read_rows(other / "responses" / f"{suite.name}.jsonl")
    }
    pairs = [(one, two) for one, two in zip(*rows, strict=True) if one.item.gold]
    if not pairs:
        return None
    readable = [(one, two) for one, two in pairs if _parsed(one) and _parsed(two)]
    gains = {
        lens: _gain(pairs, lens, images, derive(seed, "against", suite.name, lens)).model_dump()
        for lens in LENSES
    }
    both = (
        _gain(readable, "strict", images, derive(seed, "against", suite.name, "both")).model_dump()
        if readable
        else None
    )
    rates = [sum(_parsed(row[place]) for row in pairs) / len(pairs) for place in (0, 1)]
    return {**gains, "parsed": rates, "both_parsed": both}


def _rows(suite: Suite, place: Path) -> list[Scored]:
    """The items of a complete suite; none of any other."""
    found = results.scored(place, suite)
    return found if found and all(one.greedy is not None for one in found) else []


def _gain(pairs: Sequence[tuple[Scored, Scored]], lens: str, images: Mapping[str, str], seed: int) -> Gain:
    before, after = (
        [float(getattr(row[place].greedy, _ATTRIBUTES[lens])) for row in pairs] for place in (0, 1)
    )
    return paired_gain([Pairs(before, after, [images[one.item.id] for one, _ in pairs])], seed)


def _parsed(one: Scored) -> bool:
    return one.greedy is not None and bool(one.greedy.reading.found)


def _only_format(suite: Mapping[str, Any]) -> bool:
    before, after = suite["parsed"]
    both = suite["both_parsed"]
    learned = both is not None and Gain(**both).direction == "positive"
    return suite["strict"]["gain"] > 0 and after > before and not learned
