"""The rows of a suite on disk: found, read, and held against their pins.

A part of a suite is a `datasets` folder (`DatasetDict.save_to_disk`) with the columns of the dataset on the
hub. `write` makes one from other layouts and for drawn suites, `fetch` from the hub. Pictures are kept as
encoded bytes and decoded under the limits of `vzero.images` when they are shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from harness.evals import fields, layouts, pins, shuffled, write
from harness.evals.catalogue import Part, Suite
from harness.evals.fields import SuiteQuestion
from harness.scoring import Item
from vzero.errors import InputError
from vzero.images import decoding

if TYPE_CHECKING:
    import datasets

Row = Mapping[str, Any]


@dataclass(frozen=True)
class OpenPart:
    """One part of a suite, opened.

    Attributes:
        folder: what lmms-eval loads.
        rows: the split, its image columns undecoded.
        questions: one per row, or of the first rows only.
        digests: one per row, of all columns and the pictures' bytes.
        dealt: whether each question is shown with the pictures of another row.
    """

    suite: Suite
    part: Part
    folder: Path
    rows: datasets.Dataset
    questions: tuple[SuiteQuestion, ...]
    digests: tuple[str, ...]
    dealt: bool = False

    def pictures(self, index: int) -> dict[str, Image.Image]:
        """The decoded pictures shown with a question by column, RGB, in order.

        Raises:
            InputError: one cannot be decoded, or there is none.
        """
        shown = shuffled.deal(len(self.rows), self.suite.name)[index] if self.dealt else index
        return pictures(self.suite, self.rows[shown], self.questions[index].item.id)


def part_folder(data: Path, suite: Suite, part: Part) -> Path:
    """Where a part lives in a data folder."""
    return data / suite.name / part.config if len(suite.parts) > 1 and part.config else data / suite.name


def open_parts(suite: Suite, data: Path, scratch: Path) -> list[OpenPart]:
    """All parts of `suite` from a data folder, checked against the folder's pins where it has any.

    Args:
        data: what `fetch` filled, a folder saved by `datasets`, or a local copy that `layouts` knows.
        scratch: where a drawn suite, or a local copy of another layout, is written to.

    Raises:
        InputError: the suite is not there, a row is not what it should be, or not the one that was pinned.
    """
    found = [_find(suite, part, data) for part in suite.parts]
    if suite.drawn:
        write.drawn(suite, scratch)
        found = [scratch / suite.name]
    elif not any(found) and (copy := layouts.find(suite, data)):
        write.converted(suite, copy, scratch)
        found = [_find(suite, part, scratch) for part in suite.parts]
    parts = []
    for part, folder in zip(suite.parts, found, strict=True):
        if folder is None:
            what = f"{suite.name} ({part.config})" if len(suite.parts) > 1 else suite.name
            raise InputError(
                f"There is no {what} in {data}; fetch it (`vzero-harness fetch --suites {suite.name} "
                f"--data {data}`){layouts.hint(suite)}."
            )
        parts.append(_open(suite, part, folder))
    if not suite.drawn:
        pins.check(suite, digests(parts), pins.read(pins.file(data, suite)))
    return parts


def absent(suites: Sequence[Suite], data: Path) -> list[str]:
    """Names of those of `suites` that a data folder does not seem to hold; nothing is read."""
    return [
        suite.name
        for suite in suites
        if not suite.drawn
        and any(_find(suite, part, data) is None for part in suite.parts)
        and layouts.find(suite, data) is None
    ]


def items(suite: Suite, data: Path) -> list[Item]:
    """All items of a suite in a data folder, for scoring alone: an authors' copy needs no pictures here.

    Raises:
        InputError: see `open_parts`.
    """
    if layouts.find(suite, data) and not any(_find(suite, part, data) for part in suite.parts):
        return layouts.items(suite.name, data)
    with TemporaryDirectory() as scratch:
        return [
            question.item for part in open_parts(suite, data, Path(scratch)) for question in part.questions
        ]


def digests(parts: Sequence[OpenPart]) -> dict[str, str]:
    """Row id -> digest, over all parts.

    Raises:
        InputError: an id occurs twice.
    """
    found: dict[str, str] = {}
    for part in parts:
        for question, digest in zip(part.questions, part.digests, strict=True):
            if question.item.id in found:
                raise InputError(
                    f"{part.suite.name} has several rows called {question.item.id!r}; fetch it again."
                )
            found[question.item.id] = digest
    return found


def pictures(suite: Suite, row: Row, item: str) -> dict[str, Image.Image]:
    """The decoded pictures of a row by column, RGB, in the order they are shown.

    Raises:
        InputError: one cannot be decoded, or there is none.
    """
    found = {}
    for column in suite.images:
        stored = row.get(column)
        if stored is None:
            continue
        try:
            found[column] = decoding.decode(_bytes(stored), write.MAX_PIXELS)
        except decoding.Unusable as error:
            raise InputError(
                f"The picture of item {item} of {suite.name} cannot be used: {error}; get the data again."
            ) from None
    if not found:
        raise InputError(f"Item {item} of {suite.name} has no picture; get the data again.")
    return found


def _bytes(stored: Row) -> bytes:
    if stored["bytes"] is not None:
        return stored["bytes"]
    try:
        return Path(stored["path"]).read_bytes()
    except OSError as error:
        raise decoding.Unusable(f"{stored['path']}: {error.strerror}") from None


def _find(suite: Suite, part: Part, data: Path) -> Path | None:
    places = [part_folder(data, suite, part)]
    if len(suite.parts) == 1:
        places.append(data)
    return next((place for place in places if (place / "dataset_dict.json").is_file()), None)


def _open(suite: Suite, part: Part, folder: Path) -> OpenPart:
    import datasets

    try:
        tables = datasets.load_from_disk(str(folder))
    except Exception as error:  # pyarrow's and datasets' own errors have no common kind
        raise InputError(
            f"{folder} cannot be read as a `datasets` folder ({str(error).splitlines()[0][:200]}); "
            f"fetch {suite.name} again."
        ) from None
    if part.split not in tables:
        raise InputError(
            f"{folder} has no split {part.split!r} of {suite.name}, only {', '.join(tables)}; "
            "it is another dataset."
        )
    rows = tables[part.split]
    for column in suite.images:
        if column in rows.column_names:
            rows = rows.cast_column(column, datasets.Image(decode=False))
    if len(rows) == 0:
        raise InputError(f"{folder} holds no rows of {suite.name}; fetch it again.")
    questions, found = [], []
    for index, row in enumerate(rows):
        questions.append(fields.read(suite, row, index))
        found.append(_digest(suite, row))
    return OpenPart(suite, part, folder, rows, tuple(questions), tuple(found))


def _digest(suite: Suite, row: Row) -> str:
    """Hex SHA-256 of a row: every column in canonical JSON, pictures by the hash of their bytes."""
    plain = {
        name: (
            hashlib.sha256(_bytes(value)).hexdigest() if name in suite.images and value is not None else value
        )
        for name, value in row.items()
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()
