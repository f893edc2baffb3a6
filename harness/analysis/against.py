"""An evaluation held against one of its base that was asked alike: paired gains of the suites' headlines,
official and verified, and whether a gain is one of format alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.analysis import differences, sides
from harness.analysis.differences import Difference
from harness.analysis.format_gain import Compared, compared
from harness.analysis.sides import EvaluationSide
from harness.evals import build, folder
from harness.evals.catalogue import Suite
from harness.evals.results import Protocol, Settings
from harness.evals.scored import sample_rows
from harness.stats import Frozen, holm_corrected
from harness.tables.words import interval, percent, points
from vzero.errors import InputError
from vzero.runtime.seeding import derive

STREAMS = {"read": "both"}  # names of random streams here


class Against(Frozen):
    """Gains of the model `other` over `base`; p-values are corrected over suites (Holm). `notes`: what
    differs beside the models and changes nothing of what was asked, or is not known."""

    base: str
    other: str
    suites: dict[str, Compared]
    notes: tuple[str, ...] = ()

    def sentences(self) -> Iterator[str]:
        """What a reader is told, a line per suite."""
        for name, suite in self.suites.items():
            parts = [
                f"{lens} {points(gain.gain)} points ({interval(gain.low, gain.high)}; {gain.direction})"
                for lens, gain in (("official", suite.official), ("verified", suite.verified))
                if gain is not None
            ]
            before, after = suite.parsed
            parts.append(f"read {percent(before)} -> {percent(after)} %")
            if (both := suite.both_parsed) is not None:
                parts.append(f"where both could be read {points(both.gain)} (n = {both.n})")
            mark = "FORMAT GAIN, " if suite.format_gain else ""
            yield f"{mark}{name}, {self.other} over {self.base}: {', '.join(parts)}."
        yield from (f"Beside the models, {note}" for note in self.notes)


def check(base: Path, settings: Settings, protocol: Protocol) -> None:
    """Refuse a base that was asked otherwise than an evaluation that is about to begin.

    Raises:
        InputError: it was, or there is no evaluation.
    """
    one = sides.of_folder(base)
    two = replace(one, settings=settings, protocol=protocol)
    _alike(one, two, f"{base} was not asked as this evaluation would be")


def compare(base: Path, other: Path) -> Against:
    """Gains of the evaluation in `other` over that in `base`, suite by suite.

    Raises:
        InputError: they were asked under different conditions, other rows among them, or have no complete
            suite in common.
    """
    one, two = sides.of_folder(base), sides.of_folder(other)
    apart, asked = _alike(one, two, f"{base} and {other} were not asked alike"), two.settings
    suites = {suite.name: _suite(base, other, suite, asked.seed) for suite in build.suites_of(asked)}
    found = {name: suite for name, suite in suites.items() if suite is not None}
    if not found:
        raise InputError(f"{base} and {other} have no complete suite in common; run both to their end.")
    official = holm_corrected({name: suite.official for name, suite in found.items() if suite.official})
    verified = holm_corrected({name: suite.verified for name, suite in found.items()})
    corrected = {
        name: suite.model_copy(update={"official": official.get(name), "verified": verified[name]})
        for name, suite in found.items()
    }
    kept = [each for each in apart if each.what not in differences.COMPARED]
    notes = [f"{each.sentence('the base', 'the other')}." for each in kept]
    return Against(base=one.settings.model, other=asked.model, suites=corrected, notes=notes)


def _alike(one: EvaluationSide, two: EvaluationSide, about: str) -> list[Difference]:
    """Differences that change nothing of what is asked."""
    found = differences.compare(one, two)
    if refused := [each.sentence("the first", "the second") for each in found if each.matters]:
        raise InputError(f"{about}: {'; '.join(refused)}. Evaluate both with the same settings.")
    return found


def _suite(base: Path, other: Path, suite: Suite, seed: int) -> Compared | None:
    """None where either is not complete, or no row has gold."""
    if not all(folder.record(place, suite.name).exists() for place in (base, other)):
        return None
    pairs = list(zip(*(sample_rows(place, suite) for place in (base, other)), strict=True))
    if not pairs:
        return None
    return compared(suite, pairs, lambda lens: derive(seed, "against", suite.name, STREAMS.get(lens, lens)))
