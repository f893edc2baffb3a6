"""Pins: the digest of every row of a suite, by id, and of those that were set aside, so that changed data is
refused and named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.evals.catalogue import Suite
from harness.evals.set_aside import SetAside
from vzero.errors import InputError
from vzero.runtime import artefacts

SHOWN = 3  # changed rows that a message names


@dataclass(frozen=True)
class Pins:
    """A suite as it was seen: digests of the rows that are asked by id, and the rows that are not."""

    rows: Mapping[str, str]
    set_aside: tuple[SetAside, ...] = ()

    @property
    def total(self) -> int:
        """Ids, usable or not."""
        return len(self.rows.keys() | {one.id for one in self.set_aside})

    @property
    def content(self) -> dict[str, object]:
        """What must not change: not the words of a reason."""
        aside = sorted([one.id, one.digest] for one in self.set_aside)
        return {**self.rows, **({"set aside": aside} if aside else {})}


def without(pins: Pins, reasons: Mapping[str, str]) -> Pins:
    """The same with some rows set aside, by id."""
    aside = [SetAside(id=key, reason=reason, digest=pins.rows[key]) for key, reason in reasons.items()]
    rest = {key: digest for key, digest in pins.rows.items() if key not in reasons}
    return Pins(rest, (*pins.set_aside, *aside))


def file(data: Path, suite: Suite) -> Path:
    """Where the pins of a suite live in a data folder."""
    return data / f"{suite.name}.pins.json"


def check(suite: Suite, ours: Pins, pinned: Pins | None) -> None:
    """Refuse rows that differ from their pins.

    Raises:
        InputError: rows are changed, missing or new; the first few are named.
    """
    if pinned is None or ours.content == pinned.content:
        return
    one, other = _by_id(pinned), _by_id(ours)
    names = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise InputError(
        f"Rows of {suite.name} are not the ones that were pinned: {', '.join(names[:SHOWN])}{more}; "
        "restore the data, or pin it anew (`fetch`, and another --out)."
    )


def _by_id(pins: Pins) -> dict[str, list[str]]:
    found = {key: [digest] for key, digest in pins.rows.items()}
    for one in pins.set_aside:
        found.setdefault(one.id, []).append(f"set aside {one.digest}")
    return {key: sorted(digests) for key, digests in found.items()}


def read(path: Path) -> Pins | None:
    """The pins in a file; None where there is no file.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        stored = artefacts.read_json(path)
        if isinstance(stored["rows"], dict):
            aside = tuple(SetAside.model_validate(one) for one in stored.get("set_aside", ()))
            return Pins(stored["rows"], aside)
    except (ValueError, KeyError, TypeError, ValidationError):
        pass
    raise InputError(f"{path} is not a file of pins; delete it, then fetch or evaluate the suite again.")


def write(path: Path, suite: Suite, pins: Pins, source: Mapping[str, str | None]) -> None:
    """Pin the rows as they are; `source` says where they came from."""
    about = {"suite": suite.name, "dataset": suite.dataset, **source, "rows": dict(pins.rows)}
    aside = [one.model_dump(mode="json") for one in pins.set_aside]
    artefacts.write_json(path, {**about, **({"set_aside": aside} if aside else {})})
