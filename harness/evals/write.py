"""Rows written as the `datasets` folders that lmms-eval loads: from an authors' layout, or drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.evals import layouts
from harness.evals.catalogue import Suite
from harness.evals.layouts import Row
from vzero.errors import InputError
from vzero.images import decoding
from vzero.runtime import artefacts

if TYPE_CHECKING:
    import datasets

MAX_PIXELS = 80e6  # below Pillow's own guard; the largest picture of these suites has 24 million


def converted(suite: Suite, path: Path, folder: Path) -> None:
    """Write `folder`/<suite> anew from the authors' file at `path`; every picture is decoded once, so that a
    broken one is found now.

    Raises:
        InputError: a row or a picture is not what it should be; it is named.
    """
    column = suite.images[0]
    rows = [
        row | {column: _picture(suite, item.id, picture)} for row, picture, item in layouts.read(suite, path)
    ]
    save(rows, suite.images, suite.parts[0].split, folder / suite.name)


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
    packed = [row | {name: _encoded(row.get(name)) for name in shown} for row in rows]
    table = datasets.Dataset.from_list(packed)
    for name in shown:
        table = table.cast_column(name, datasets.Image())
    save_table(table, split, folder)


def save_table(table: datasets.Dataset, split: str, folder: Path) -> None:
    """Save one split as a `DatasetDict`, replacing what was there."""
    import datasets

    datasets.disable_progress_bars()
    with artefacts.atomic_folder(folder) as staging:
        datasets.DatasetDict({split: table}).save_to_disk(str(staging))


def _encoded(data: bytes | None) -> Row | None:
    return None if data is None else {"bytes": data, "path": None}


def _picture(suite: Suite, key: str, path: Path) -> bytes:
    about = f"The picture of item {key} of {suite.name} cannot be"
    try:
        data = path.read_bytes()
        decoding.decode(data, MAX_PIXELS)
    except OSError as error:
        raise InputError(f"{about} read: {path}: {error.strerror}.") from None
    except decoding.Unusable as error:
        raise InputError(f"{about} used: {path}: {error}.") from None
    return data
