"""The rows of a suite on disk: found, read, and held against their pins.

A part of a suite is a `datasets` folder (`DatasetDict.save_to_disk`) with the columns of the dataset on the
hub. `local` makes one from other layouts, `fetch` from the hub. Pictures are kept as encoded bytes and
decoded under `vzero.images.stage`' limits when they are shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from harness.evals import fields
from harness.evals.catalogue import Part, Suite
from harness.evals.fields import Question
from harness.scoring import Item
from vzero.errors import InputError
from vzero.images import decoding
from vzero.runtime import artefacts

if TYPE_CHECKING:
    import datasets

MAX_PIXELS = 80e6  # below Pillow's own guard; the largest picture of these suites has 24 million
SHOWN = 3  # changed rows that a message names


@dataclass(frozen=True)
class Table:
    """One part of a suite, opened.

    Attributes:
        folder: what lmms-eval loads.
        rows: the split, its image columns undecoded.
        questions, digests: one a row; a digest covers all columns and the pictures' bytes.
    """

    suite: Suite
    part: Part
    folder: Path
    rows: datasets.Dataset
    questions: tuple[Question, ...]
    digests: tuple[str, ...]


def part_folder(data: Path, suite: Suite, part: Part) -> Path:
    """Where a part lives in a data folder."""
    return data / suite.name / part.config if len(suite.parts) > 1 and part.config else data / suite.name


def pins_file(data: Path, suite: Suite) -> Path:
    """Where the digests of a suite's rows live in a data folder."""
    return data / f"{suite.name}.pins.json"


def open_tables(suite: Suite, data: Path, scratch: Path) -> list[Table]:
    """All parts of `suite` from a data folder, checked against the folder's pins where it has any.

    Args:
        data: what `fetch` filled, a folder saved by `datasets`, or a local copy that `local` knows.
        scratch: where a local copy of another layout is converted to.

    Raises:
        InputError: the suite is not there, a row is not what it should be, or not the one that was pinned.
    """
    from harness.evals import local

    found = [_find(suite, part, data) for part in suite.parts]
    if all(folder is None for folder in found) and local.knows(suite, data):
        local.convert(suite, data, scratch)
        found = [_find(suite, part, scratch) for part in suite.parts]
    tables = []
    for part, folder in zip(suite.parts, found, strict=True):
        if folder is None:
            what = f"{suite.name} ({part.config})" if len(suite.parts) > 1 else suite.name
            raise InputError(
                f"There is no {what} in {data}; fetch it (`vzero-harness fetch --suites {suite.name} --data {data}`){local.hint(suite)}."
            )
        tables.append(_open(suite, part, folder))
    check(suite, tables, read_pins(pins_file(data, suite)))
    return tables


def absent(suites: Sequence[Suite], data: Path) -> list[str]:
    """Names of those of `suites` that a data folder does not seem to hold; nothing is read."""
    from harness.evals import local

    return [
        suite.name
        for suite in suites
        if any(_find(suite, part, data) is None for part in suite.parts) and not local.knows(suite, data)
    ]


def items(suite: Suite, data: Path) -> list[Item]:
    """All items of a suite in a data folder, for scoring alone.

    Raises:
        InputError: see `open_tables`; local copies in another layout are not converted here.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        return [
            question.item for table in open_tables(suite, data, Path(scratch)) for question in table.questions
        ]


def digests(tables: Sequence[Table]) -> dict[str, str]:
    """Row id -> digest, over all parts.

    Raises:
        InputError: an id occurs twice.
    """
    found: dict[str, str] = {}
    for table in tables:
        for question, digest in zip(table.questions, table.digests, strict=True):
            if question.item.id in found:
                raise InputError(
                    f"{table.suite.name} has several rows called {question.item.id!r}; fetch it again."
                )
            found[question.item.id] = digest
    return found


def check(suite: Suite, tables: Sequence[Table], pinned: Mapping[str, str] | None) -> None:
    """Refuse rows that differ from their pins.

    Raises:
        InputError: rows are changed, missing or new; the first few are named.
    """
    ours = digests(tables)
    if pinned is None or ours == pinned:
        return
    names = [key for key in {**pinned, **ours} if ours.get(key) != pinned.get(key)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise InputError(
        f"Rows of {suite.name} are not the ones that were pinned: {', '.join(names[:SHOWN])}{more}; restore the data, or pin it anew "
        "(`fetch`, and another --out)."
    )


def read_pins(path: Path) -> dict[str, str] | None:
    """Row id -> digest of a pins file; None where there is no file.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        rows = artefacts.read_json(path)["rows"]
        if isinstance(rows, dict):
            return rows
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path} is not a file of pins; fetch the suite again.")


def write_pins(path: Path, suite: Suite, tables: Sequence[Table], source: Mapping[str, Any]) -> None:
    """Pin the rows as they are; `source` says where they came from."""
    artefacts.write_json(
        path, {"suite": suite.name, "dataset": suite.dataset, **source, "rows": digests(tables)}
    )


def pictures(suite: Suite, row: Mapping[str, Any], item: str) -> dict[str, Image.Image]:
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
            found[column] = decoding.decode(_bytes(stored), MAX_PIXELS)
        except decoding.Unusable as error:
            raise InputError(
                f"The picture of item {item} of {suite.name} cannot be used: {error}; get the data again."
            ) from None
    if not found:
        raise InputError(f"Item {item} of {suite.name} has no picture; get the data again.")
    return found


def _bytes(stored: Mapping[str, Any]) -> bytes:
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


def _open(suite: Suite, part: Part, folder: Path) -> Table:
    import datasets

    try:
        tables = datasets.load_from_disk(str(folder))
    except Exception as error:  # pyarrow's and datasets' own errors have no common kind
        raise InputError(
            f"{folder} cannot be read as a `datasets` folder ({str(error).splitlines()[0][:200]}); fetch {suite.name} again."
        ) from None
    if part.split not in tables:
        raise InputError(
            f"{folder} has no split {part.split!r} of {suite.name}, only {', '.join(tables)}; it is another dataset."
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
    return Table(suite, part, folder, rows, tuple(questions), tuple(found))


def _digest(suite: Suite, row: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a row: every column in canonical JSON, pictures by the hash of their bytes."""
    plain = {
        name: (
            hashlib.sha256(_bytes(value)).hexdigest() if name in suite.images and value is not None else value
        )
        for name, value in row.items()
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()
