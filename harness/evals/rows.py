"""The rows of a suite on disk: found, read, and held against their pins.

A part of a suite is a `datasets` folder (`DatasetDict.save_to_disk`) with the columns of the dataset on the
hub. `write` makes one from other layouts and for drawn suites, `fetch` from the hub. Pictures are kept as
encoded bytes and decoded under the limits of `vzero.images` when they are shown.

A row that cannot be asked is set aside by name: what is opened, asked and scored is a folder without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from harness.evals import fields, layouts, pins, saved, shuffled, write
from harness.evals.catalogue import Part, Suite
from harness.evals.columns import Row
from harness.evals.fields import SuiteQuestion
from harness.evals.pins import Pins
from harness.evals.set_aside import SetAside, UnusableRow, nothing_left, repeated
from vzero.errors import InputError
from vzero.images import decoding
from vzero.images.isolated import decode_isolated
from vzero.images.tables import cell_bytes

if TYPE_CHECKING:
    import datasets

Found = tuple[str, SuiteQuestion | SetAside]  # digest of a row, and what it is


@dataclass(frozen=True)
class OpenPart:
    """One part of a suite, opened.

    Attributes:
        folder: what lmms-eval loads.
        rows: the split, its image columns undecoded.
        questions: one per row.
        digests: one per row, of all columns and the pictures' bytes.
        set_aside: rows of the part that are not among these.
        dealt: whether each question is shown with the pictures of another row.
    """

    suite: Suite
    part: Part
    folder: Path
    rows: datasets.Dataset
    questions: tuple[SuiteQuestion, ...]
    digests: tuple[str, ...]
    set_aside: tuple[SetAside, ...] = ()
    dealt: bool = False

    def pictures(self, index: int) -> dict[str, Image.Image]:
        """The decoded pictures shown with a question by column, RGB, in order.

        Raises:
            UnusableRow: one cannot be decoded, or there is none.
        """
        shown = shuffled.deal(len(self.rows), self.suite.name)[index] if self.dealt else index
        return pictures(self.suite, self.rows[shown])


def part_folder(data: Path, suite: Suite, part: Part) -> Path:
    """Where a part lives in a data folder."""
    return data / suite.name / part.config if len(suite.parts) > 1 and part.config else data / suite.name


def open_parts(suite: Suite, data: Path, scratch: Path, seen: Pins | None = None) -> list[OpenPart]:
    """The parts of `suite` in a data folder, checked against the folder's pins where it has any. A part
    without rows to ask is left out; what was set aside of it stands with another one.

    Args:
        data: what `fetch` filled, a folder saved by `datasets`, or a local copy that `layouts` knows.
        scratch: where a drawn suite, a local copy of another layout, or what is left of a part some of whose
            rows were set aside, is written to.
        seen: what an earlier opening found, whose pictures need no second look.

    Raises:
        InputError: the suite is not there, none of its rows can be asked, or one is not as it was pinned.
    """
    pinned = None if suite.drawn else pins.read(pins.file(data, suite))
    folders, converted = _folders(suite, data, scratch)
    aside = list(converted or ())
    known = _known(pinned, seen)
    shown = bool(suite.drawn) or converted is not None  # its pictures were drawn, or decoded, just now
    tables = [
        saved.load(suite, part.split, folder) for part, folder in zip(suite.parts, folders, strict=True)
    ]
    found = [[_read(suite, *one, known, shown) for one in enumerate(table)] for table in tables]
    parts = []
    for part, folder, table, read in zip(suite.parts, folders, tables, _unrepeated(found), strict=True):
        opened = OpenPart(suite, part, folder, table, (), ())
        parts.append(_usable(opened, read, part_folder(scratch, suite, part)))
    if pinned:  # what `fetch` set aside is not in its folder any more
        still = [one for part in parts for one in part.set_aside]
        aside += [one for one in pinned.set_aside if one not in still]
    aside += [one for part in parts if not part.questions for one in part.set_aside]
    parts = [part for part in parts if part.questions]
    if not parts:
        raise nothing_left(suite.name, data, aside)
    parts[0] = replace(parts[0], set_aside=(*aside, *parts[0].set_aside))
    if pinned:
        pins.check(suite, _as_stored(pins_of(parts), pinned), pinned)
    return parts


def _folders(suite: Suite, data: Path, scratch: Path) -> tuple[list[Path], list[SetAside] | None]:
    """The folder of each part. It is written now where the suite is drawn, or lies there in its authors'
    layout: then with what was set aside meanwhile."""
    if suite.drawn:
        write.drawn(suite, scratch)
        return [scratch / suite.name], None
    if files := authors_files(suite, data):
        return [scratch / suite.name], write.converted(suite, files, scratch, data)
    found = [find(suite, part, data) for part in suite.parts]
    for part, folder in zip(suite.parts, found, strict=True):
        if folder is None:
            what = f"{suite.name} ({part.config})" if len(suite.parts) > 1 else suite.name
            raise InputError(
                f"There is no {what} in {data}; fetch it (`vzero-harness fetch --suites {suite.name} "
                f"--data {data}`){layouts.hint(suite)}."
            )
    return [folder for folder in found if folder], None


def _known(*openings: Pins | None) -> dict[str, str | None]:
    """Digest of a row -> why it was set aside, None of one that was not; the last opening knows best."""
    found: dict[str, str | None] = {}
    for opening in openings:
        if opening:
            found |= {one.digest: one.reason for one in opening.set_aside if one.digest}
            found |= dict.fromkeys(opening.rows.values())  # of two equal rows one stays
    return found


def _as_stored(ours: Pins, pinned: Pins) -> Pins:
    """What was found, with those rows that a data folder has pinned as good and that were set aside later,
    when they were asked, among the others again."""
    later = {one.id: one.digest for one in ours.set_aside if one.id not in ours.rows}
    later = {key: digest for key, digest in later.items() if pinned.rows.get(key) == digest}
    return Pins({**ours.rows, **later}, tuple(one for one in ours.set_aside if one.id not in later))


def _read(suite: Suite, index: int, row: Row, known: Mapping[str, str | None], shown: bool) -> Found:
    digest = ""
    try:
        digest = _digest(suite, row)
        if reason := known.get(digest):
            raise UnusableRow(reason)
        question = fields.read(suite, row, index)
        if not shown and digest not in known:
            pictures(suite, row)
        return digest, question
    except UnusableRow as error:
        return digest, SetAside(id=fields.name(suite, row, index), reason=str(error), digest=digest)


def _unrepeated(parts: Sequence[Sequence[Found]]) -> Iterator[list[Found]]:
    """The same with rows set aside that share their id with others of the suite."""
    named = [
        (one.id if isinstance(one, SetAside) else one.item.id, digest)
        for part in parts
        for digest, one in part
    ]
    reasons = iter(zip(named, repeated(named), strict=True))
    for part in parts:
        found: list[Found] = []
        for (digest, one), ((key, _), reason) in zip(part, reasons, strict=False):
            again = reason and not isinstance(one, SetAside)
            found.append((digest, SetAside(id=key, reason=reason, digest=digest) if again else one))
        yield found


def _usable(opened: OpenPart, found: Sequence[Found], folder: Path) -> OpenPart:
    """A part with the questions found in its rows: where some are set aside, a copy in `folder` without
    them."""
    keep = [index for index, (_, one) in enumerate(found) if isinstance(one, SuiteQuestion)]
    opened = replace(
        opened,
        questions=tuple(one for _, one in found if isinstance(one, SuiteQuestion)),
        digests=tuple(found[index][0] for index in keep),
        set_aside=tuple(one for _, one in found if isinstance(one, SetAside)),
    )
    if len(keep) in (0, len(found)):
        return opened
    rows = opened.rows.select(keep)
    write.save_table(rows, opened.part.split, folder, opened.suite.images)
    return replace(opened, rows=rows, folder=folder)


def pins_of(parts: Sequence[OpenPart]) -> Pins:
    """What was found of a suite."""
    rows = {
        question.item.id: digest
        for part in parts
        for question, digest in zip(part.questions, part.digests, strict=True)
    }
    return Pins(rows, tuple(one for part in parts for one in part.set_aside))


def pictures(suite: Suite, row: Row) -> dict[str, Image.Image]:
    """The decoded pictures of a row by column, RGB, in the order they are shown.

    Raises:
        UnusableRow: one cannot be decoded, or there is none.
    """
    found = {}
    for column in suite.images:
        if (stored := row.get(column)) is not None:
            try:
                found[column] = decode_isolated(_bytes(stored), layouts.MAX_PIXELS)
            except decoding.Unusable as error:
                raise UnusableRow(f"its picture: {error}") from None
    if not found:
        raise UnusableRow("it has no picture")
    return found


def _bytes(stored: object) -> bytes:
    """A stored picture. One that is only named is not opened: rows do not choose which files are."""
    try:
        return cell_bytes(stored, layouts.MAX_PIXELS)
    except decoding.Unusable as error:
        raise UnusableRow(f"its picture: {error}") from None


def authors_files(suite: Suite, data: Path) -> list[Path]:
    """The authors' files, unless a `datasets` folder lies there too; none of a drawn suite."""
    return [] if any(find(suite, part, data) for part in suite.parts) else layouts.find(suite, data)


def find(suite: Suite, part: Part, data: Path) -> Path | None:
    """The `datasets` folder of a part in a data folder, or the data folder itself."""
    places = [part_folder(data, suite, part)]
    if len(suite.parts) == 1:
        places.append(data)
    return next((place for place in places if (place / "dataset_dict.json").is_file()), None)


def _digest(suite: Suite, row: Row) -> str:
    """Hex SHA-256 of a row: every column in canonical JSON, pictures by the hash of their bytes."""
    plain = {
        name: (
            hashlib.sha256(_bytes(value)).hexdigest() if name in suite.images and value is not None else value
        )
        for name, value in row.items()
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()
