"""Where a run departs from V-Zero as its paper and public code have it, and how much that may move a result.

`departures.toml` is the one list; `of_preset` gives what a run has of it. `write_page` writes docs/method.md
anew from it: python -c "from harness.claims import departures; departures.write_page()".
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.stats import Frozen
from harness.tables.table import Table, keys, texts
from vzero.config import Preset
from vzero.presets import flatten
from vzero.runtime import artefacts

Effect = Literal["large", "unknown", "small", "none"]  # the gravest first
EFFECTS: tuple[Effect, ...] = ("large", "unknown", "small", "none")
UNSET = "unset"  # how the file writes None
PAGE = Path("docs/method.md")
MARKS = ("<!-- departures.toml -->", "<!-- end of departures.toml -->")
UNMARKED = {ord(mark): None for mark in "`*"}  # a table of the report is plain text
HEADINGS = {"large": "Large", "unknown": "Unknown", "small": "Small", "none": "None"}


class Departure(Frozen):
    """One departure.

    Attributes:
        effect: how much it may move the gain of a run that has it; `reason`: what that rests on.
        measured: a number and, in brackets, the page that has it; None where nothing was measured.
    """

    name: str
    ours: str
    theirs: str
    why: str
    effect: Effect
    reason: str
    measured: str | None = None


class Listed(Departure):
    """A departure with the settings it depends on: dotted key -> values; see departures.toml."""

    when: dict[str, list[Any]] = Field(default_factory=dict)
    unless: dict[str, list[Any]] = Field(default_factory=dict)

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether a run with these dotted settings departs so."""
        if not all(settings.get(key, UNSET) in values for key, values in self.when.items()):
            return False
        return not self.unless or any(
            settings.get(key, UNSET) not in values for key, values in self.unless.items()
        )


@cache
def listed() -> tuple[Listed, ...]:
    """The whole list, the gravest first.

    Raises:
        pydantic.ValidationError: an entry lacks something or has a field that is not known.
    """
    text = (resources.files(__package__) / "departures.toml").read_text(encoding="utf-8")
    found = [Listed.model_validate({"name": name, **entry}) for name, entry in tomllib.loads(text).items()]
    return tuple(sorted(found, key=lambda one: EFFECTS.index(one.effect)))


def of_preset(preset: Preset) -> list[Departure]:
    """What a run of this preset has of the list."""
    flat = flatten(preset.model_dump(mode="json"))
    settings = {key: UNSET if value is None else value for key, value in flat.items()}
    own = set(Departure.model_fields)
    return [Departure(**one.model_dump(include=own)) for one in listed() if one.holds(settings)]


def table(found: Sequence[Departure]) -> Table:
    """Departures as rows, and a note that counts them by their effect on the gain."""
    rows = [
        (
            one.effect,
            *(text.translate(UNMARKED) for text in (one.ours, one.theirs, one.why, _because(one))),
        )
        for one in found
    ]
    columns = (
        *keys("effect on gain"),
        *texts("here", "paper or its code", "why", "what the effect rests on"),
    )
    counts = Counter(one.effect for one in found)
    counted = ", ".join(f"{counts[effect]} {effect}" for effect in EFFECTS)
    note = f"{len(found)} departures; their effect on the gain: {counted}."
    return Table("Departures from the paper", columns, [rows], [note])


def page() -> str:
    """The list as it stands in docs/method.md: a table per effect, with the settings that decide."""
    parts = []
    for effect in EFFECTS:
        rows = [
            f"| {one.ours} | {one.theirs} | {one.why} | {_because(one)} | {_settings(one)} |"
            for one in listed()
            if one.effect == effect
        ]
        head = "| here | paper or its code | why | what the effect rests on | in runs with |"
        parts += [f"**{HEADINGS[effect]}**", "\n".join([head, "|---|---|---|---|---|", *rows])]
    return "\n\n".join(parts)


def _because(one: Departure) -> str:
    """The reason, its numbers where it does not say them itself, and the page that they stand on."""
    if one.measured is None:
        return one.reason
    numbers, _, page = one.measured.removesuffix(")").rpartition(" (")
    said = all(number in one.reason for number in numbers.split(" ... "))
    return f"{one.reason}{'' if said else f': {numbers}'} ({page})"


def _settings(one: Listed) -> str:
    keys = dict.fromkeys(key.split(".")[-1] for key in (*one.when, *one.unless))
    if one.when:
        return ", ".join(f"`{key} = {_value(values[0])}`" for key, values in one.when.items())
    return f"other {', '.join(f'`{key}`' for key in keys)}" if keys else "every run"


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def write_page(root: Path = Path()) -> None:
    """Put the list into docs/method.md, between its marks."""
    text = (root / PAGE).read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    artefacts.write_text(root / PAGE, f"{before}{MARKS[0]}\n{page()}\n{MARKS[1]}{after}")
