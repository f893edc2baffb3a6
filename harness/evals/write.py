"""Rows written as the `datasets` folders that lmms-eval loads: from an authors' layout, or drawn."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evals import layouts
from harness.evals.catalogue import Suite
from harness.evals.layouts import Row
from harness.evals.set_aside import SetAside, UnusableRow, nothing_left
from vzero.runtime import artefacts

if TYPE_CHECKING:
    import datasets


def converted(suite: Suite, files: list[Path], folder: Path, root: Path | None = None) -> list[SetAside]:
    """Write `folder`/<suite> anew from the authors' files: the rows that can be asked, whose pictures were
    decoded once. Returns the others.

    Args:
        root: the folder that the user gave, out of which no row leads; default: where the first file lies.

    Raises:
        InputError: a file cannot be read, or holds no row that can be asked.
    """
    rows: list[Row] = []
    usable, aside = layouts.read(suite, files)
    for one in usable:
        try:
            rows.append({**one.row, suite.images[0]: one.picture(root or files[0].parent)})
        except UnusableRow as error:
            aside.append(SetAside(id=one.question.item.id, reason=str(error), digest=one.digest))
    if not rows:
        raise nothing_left(suite.name, files[0], aside)
    save(rows, suite.images, suite.parts[0].split, folder / suite.name)
    return aside


def drawn(suite: Suite, folder: Path) -> None:
    """Write `folder`/<suite> anew with the questions that the pocket world draws: always the same ones."""
    from vzero.pocket.suites import items

    split = suite.parts[0].split
    rows = []
    for one in items(suite.name, "dev" if split == "dev" else "test", suite.drawn):
        stream = io.BytesIO()
        one.image.save(stream, "PNG", compress_level=1)  # scratch: quick rather than small
        about = {"question": one.question, "gold": one.gold, "family": one.family, "item_id": one.item_id}
        rows.append({"image": stream.getvalue(), **about})
    save(rows, suite.images, split, folder / suite.name)


def save(rows: list[Row], images: Sequence[str], split: str, folder: Path) -> None:
    """A `datasets` folder that is whole or absent; pictures in `rows` are encoded bytes."""
    import datasets

    shown = [column for column in images if any(column in row for row in rows)]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        name: [_encoded(row.get(name)) for row in rows]
        if name in shown
        else uniform([row.get(name) for row in rows])
        for name in names
    }
    table = datasets.Dataset.from_dict(columns)
    save_table(table, split, folder, shown)


def save_table(table: datasets.Dataset, split: str, folder: Path, images: Sequence[str] = ()) -> None:
    """Save one split as a `DatasetDict`, replacing what was there; `images` are columns of encoded
    pictures."""
    import datasets

    datasets.disable_progress_bars()
    for name in set(images) & set(table.column_names):
        table = table.cast_column(name, datasets.Image())
    with artefacts.atomic_folder(folder) as staging:
        datasets.DatasetDict({split: table}).save_to_disk(str(staging))


def _encoded(data: bytes | None) -> Row | None:
    return None if data is None else {"bytes": data, "path": None}


def uniform(values: list[Any]) -> list[Any]:
    """A column whose values have one type, as Arrow demands: as they are, else made texts where they
    differ."""
    import pyarrow

    there = [value for value in values if value is not None]
    try:
        pyarrow.array(values)
        return values
    except (pyarrow.ArrowException, OverflowError):
        if all(isinstance(value, list) for value in there):
            return [None if value is None else [*map(_text, value)] for value in values]
        if not all(isinstance(value, dict) for value in there):
            return [None if value is None else _text(value) for value in values]
    names = dict.fromkeys(name for value in there for name in value)
    columns = [uniform([value and value.get(name) for value in values]) for name in names]
    members = zip(*columns, strict=True)
    return [value and dict(zip(names, own, strict=True)) for value, own in zip(values, members, strict=True)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
