"""Local copies of benchmarks in their authors' own layouts, as the `datasets` folders that lmms-eval loads.

LogicVista: the public repository (`dataset.json`, `images/`). MathVista: `testmini.json` with its `images/`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evals.catalogue import Suite
from vzero.errors import InputError
from vzero.images import decoding


@dataclass(frozen=True)
class Layout:
    """A file of rows by id, where it may lie below the folder given, and how a row becomes one of the hub's
    dataset."""

    file: str
    places: tuple[str, ...]
    picture: Callable[[Mapping[str, Any]], str]
    columns: Callable[[str, Mapping[str, Any]], dict[str, Any]]


def _logicvista(key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    lists = {name: list(row.get(name) or []) for name in ("skill", "broad_capability", "specific_capability")}
    return {"id": key, "question": row["question"], "answer": row["answer"], **lists}


def _mathvista(key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    plain = (
        "question",
        "image",
        "choices",
        "unit",
        "precision",
        "answer",
        "question_type",
        "answer_type",
        "metadata",
    )
    return {"pid": key, **{name: row[name] for name in plain}, "query": row.get("query") or row["question"]}


LAYOUTS: Mapping[str, Layout] = {
    "logicvista": Layout(
        "dataset.json", ("", "data", "logicvista"), lambda row: f"images/{row['imagename']}", _logicvista
    ),
    "mathvista": Layout("testmini.json", ("", "data", "mathvista"), lambda row: row["image"], _mathvista),
}


def knows(suite: Suite, data: Path) -> bool:
    """Whether `data` is a copy of `suite` in its authors' layout."""
    return _file(suite, data) is not None


def hint(suite: Suite) -> str:
    """The end of a message: what else may be given."""
    layout = LAYOUTS.get(suite.name)
    return f", or give the folder that holds its {layout.file}" if layout else ""


def convert(suite: Suite, data: Path, folder: Path) -> None:
    """Write `folder`/<suite> anew from the copy in `data`; every picture is decoded once, so that a broken
    one is found now.

    Raises:
        InputError: a row or a picture is not what it should be; it is named.
    """
    layout, path = LAYOUTS[suite.name], _file(suite, data)
    assert path is not None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        records = [
            layout.columns(key, row)
            | {suite.images[0]: _picture(suite, key, path.parent / layout.picture(row))}
            for key, row in rows.items()
        ]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not {suite.title}'s file of rows ({type(error).__name__}: {error}); take it from its repository again."
        ) from None
    save(records, suite, suite.parts[0].split, folder / suite.name)


def save(records: list[dict[str, Any]], suite: Suite, split: str, folder: Path) -> None:
    """A `datasets` folder that is whole or absent; pictures in `records` are encoded bytes."""
    import datasets

    datasets.disable_progress_bars()
    shown = [column for column in suite.images if any(column in record for record in records)]
    packed = [
        {
            **record,
            **{
                name: None if record.get(name) is None else {"bytes": record[name], "path": None}
                for name in shown
            },
        }
        for record in records
    ]
    table = datasets.Dataset.from_list(packed)
    for name in shown:
        table = table.cast_column(name, datasets.Image())
    save_table(table, split, folder)


def save_table(table: Any, split: str, folder: Path) -> None:
    """Save one split as a `DatasetDict`, replacing what was there."""
    import datasets

    staging = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    try:
        datasets.DatasetDict({split: table}).save_to_disk(str(staging))
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _file(suite: Suite, data: Path) -> Path | None:
    layout = LAYOUTS.get(suite.name)
    paths = [data / place / layout.file for place in layout.places] if layout else []
    return next((path for path in paths if path.is_file()), None)


def _picture(suite: Suite, key: str, path: Path) -> bytes:
    from harness.evals.rows import MAX_PIXELS

    try:
        data = path.read_bytes()
        decoding.decode(data, MAX_PIXELS)
    except OSError as error:
        raise InputError(
            f"The picture of item {key} of {suite.name} cannot be read: {path}: {error.strerror}."
        ) from None
    except decoding.Unusable as error:
        raise InputError(
            f"The picture of item {key} of {suite.name} cannot be used: {path}: {error}."
        ) from None
    return data
