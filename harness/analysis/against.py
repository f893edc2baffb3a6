"""An evaluation held against one of its base that was asked alike: paired gains by both scorings, and whether
a gain is one of format alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.analysis.format_gain import Compared, compared
from harness.evals import build, folder, pins
from harness.evals.catalogue import Suite
from harness.evals.scored import sample_rows
from harness.stats import Frozen, holm_corrected
from harness.tables.words import interval, percent, points
from vzero.errors import InputError
from vzero.presets import differences
from vzero.runtime.seeding import derive

STREAMS = {"read": "both"}  # names of random streams here
OTHERWISE = frozenset({"model", "checkpoint_sha256"})  # all else must be equal


class Against(Frozen):
    """Gains of the model `other` over `base`; p-values are corrected over suites (Holm)."""

    base: str
    other: str
    suites: dict[str, Compared]

    def sentences(self) -> Iterator[str]:
        """What a reader is told, a line per suite."""
        for name, suite in self.suites.items():
            parts = [
                f"{lens} {points(gain.gain)} points ({interval(gain.low, gain.high)}; {gain.direction})"
                for lens, gain in (("official", suite.official), ("verified", suite.verified))
            ]
            before, after = suite.parsed
            parts.append(f"read {percent(before)} -> {percent(after)} %")
            if (both := suite.both_parsed) is not None:
                parts.append(f"where both could be read {points(both.gain)} (n = {both.n})")
            mark = "FORMAT GAIN, " if suite.format_gain else ""
            yield f"{mark}{name}, {self.other} over {self.base}: {', '.join(parts)}."


def compare(base: Path, other: Path) -> Against:
    """Gains of the evaluation in `other` over that in `base`, suite by suite.

    Raises:
        InputError: they were asked under different conditions, other rows among them, or have no complete
            suite in common.
    """
    one, two = folder.settings(base), folder.settings(other)
    changed = set(differences(one.model_dump(mode="json"), two.model_dump(mode="json"))) - OTHERWISE
    if changed:
        raise InputError(
            f"{base} and {other} were not asked alike ({', '.join(sorted(changed))}); evaluate both with the "
            "same settings."
        )
    suites = {suite.name: _suite(base, other, suite, two.seed) for suite in build.suites_of(two)}
    found = {name: suite for name, suite in suites.items() if suite is not None}
    if not found:
        raise InputError(f"{base} and {other} have no complete suite in common; run both to their end.")
    official = holm_corrected({name: suite.official for name, suite in found.items()})
    verified = holm_corrected({name: suite.verified for name, suite in found.items()})
    corrected = {
        name: suite.model_copy(update={"official": official[name], "verified": verified[name]})
        for name, suite in found.items()
    }
    return Against(base=one.model, other=two.model, suites=corrected)


def _suite(base: Path, other: Path, suite: Suite, seed: int) -> Compared | None:
    """None where either is not complete, or no row has gold."""
    if not all(folder.record(place, suite.name).exists() for place in (base, other)):
        return None
    pinned = [pins.read(place / "pins" / f"{suite.name}.json") for place in (base, other)]
    if pinned[0] != pinned[1]:
        raise InputError(
            f"{base} and {other} were asked different rows of {suite.name}; evaluate both on the same data."
        )
    pairs = list(zip(*(sample_rows(place, suite) for place in (base, other)), strict=True))
    if not pairs:
        return None
    return compared(pairs, lambda lens: derive(seed, "against", suite.name, STREAMS.get(lens, lens)))
