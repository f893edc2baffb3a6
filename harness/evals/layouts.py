"""Local copies of benchmarks in their authors' own layouts, read as rows of the hub's dataset.

LogicVista: the public repository (`dataset.json`, `images/`). MathVista: `testmini.json` with its `images/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evals import catalogue, fields
from harness.evals.catalogue import Suite
from harness.scoring import Item
from vzero.errors import InputError

Row = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """A file of rows by id, where it may lie below the folder given, and how a row becomes one of the hub's
    dataset.

    Attributes:
        key: column of the id.
        columns: the others.
        picture: of a row, relative to the file's folder.
    """

    file: str
    places: tuple[str, ...]
    key: str
    columns: tuple[str, ...]
    picture: Callable[[Row], str]

    def row(self, key: str, row: Row) -> Row:
        """`row` with the hub's columns, as far as it has them."""
        found = {self.key: key, **{name: row[name] for name in self.columns if name in row}}
        if self.file == "testmini.json":  # lmms-eval's own task reads the prompt of the authors
            found["query"] = row.get("query") or row.get("question")
        return found


LAYOUTS: Mapping[str, Layout] = {
    "logicvista": Layout(
        "dataset.json",
        ("", "data", "logicvista", "logicvista/data"),
        "id",
        ("question", "answer", "skill", "broad_capability", "capability", "specific_capability"),
        lambda row: f"images/{row['imagename']}",
    ),
    "mathvista": Layout(
        "testmini.json",
        ("", "data", "mathvista", "mathvista/data"),
        "pid",
        (
            *("question", "image", "choices", "unit", "precision", "answer"),
            *("question_type", "answer_type", "metadata"),
        ),
        lambda row: row["image"],
    ),
}


def find(suite: Suite, data: Path) -> Path | None:
    """The authors' file of `suite` in `data`; None where there is none."""
    layout = LAYOUTS.get(suite.name)
    paths = [data / place / layout.file for place in layout.places] if layout else []
    return next((path for path in paths if path.is_file()), None)


def hint(suite: Suite) -> str:
    """The end of a message: what else may be given."""
    layout = LAYOUTS.get(suite.name)
    return f", or give the folder that holds its {layout.file}" if layout else ""


def read(suite: Suite, path: Path) -> list[tuple[Row, Path, Item]]:
    """Rows of the authors' file in its order: as the hub has them, where the picture lies, what is asked.

    Raises:
        InputError: the file cannot be read, or a row is not one of the suite's.
    """
    layout, again = LAYOUTS[suite.name], f"take {suite.title}'s file from its repository again"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON; {again}.") from None
    if (
        not isinstance(stored, dict)
        or not stored
        or not all(isinstance(row, dict) for row in stored.values())
    ):
        raise InputError(f"{path} holds no object of rows by id; {again}.")
    found = []
    for index, (key, row) in enumerate(stored.items()):
        made = layout.row(key, row)
        item = fields.read(suite, made, index).item
        try:
            found.append((made, path.parent / layout.picture(row), item))
        except (KeyError, TypeError) as error:
            raise InputError(f"Row {key} of {path} names no picture ({error}); {again}.") from None
    return found


def items(name: str, data: Path) -> list[Item]:
    """The items of a suite from its authors' file in `data`, for scoring alone: no pictures are needed.

    Raises:
        InputError: there is no such file, or see `read`.
    """
    suite = catalogue.find(name)
    path = find(suite, data)
    if path is None:
        raise InputError(f"There is no {name} in {data}{hint(suite)}.")
    return [item for _, _, item in read(suite, path)]
