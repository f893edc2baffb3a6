"""Local copies of benchmarks in their authors' own layouts (`catalogue.Local`), read as rows of the hub's
dataset.

A file is an object of rows by key, a list of rows, or one row a line; a byte-order mark is read over. What is
wrong with a row is said of that row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from harness.evals import catalogue, fields
from harness.evals.catalogue import Local, Suite
from harness.evals.fields import SuiteQuestion
from harness.evals.set_aside import SetAside, UnusableRow, nothing_left, repeated
from harness.scoring import Item
from vzero.errors import InputError, machine_failure
from vzero.images import decoding
from vzero.images.files import content, open_below, picture_bytes
from vzero.images.isolated import decode_isolated
from vzero.runtime import artefacts

Row = dict[str, Any]
MAX_PIXELS = 80e6  # below Pillow's own guard; the largest picture of these suites has 24 million


class _Repeated(tuple[tuple[str, Any], ...]):
    """The members of a JSON object that names one of its keys again."""


@dataclass(frozen=True)
class LocalRow:
    """A row of an authors' file as the hub has it, what it asks, and its picture's path as stored."""

    row: Row
    question: SuiteQuestion
    digest: str
    file: Path
    local: Local

    def picture(self, root: Path) -> bytes:
        """The picture as it is stored below `root`, decoded once.

        Raises:
            UnusableRow: there is none, or it cannot be decoded.
        """
        named = self.row[self.local.picture]
        if not isinstance(named, str) or not named.strip():
            raise UnusableRow("it has no picture")
        below = PurePosixPath(named)
        if below.is_absolute() or ".." in below.parts:
            raise UnusableRow(f"its picture {named} lies outside the copy")
        places = [self.file.parent / folder / below for folder in self.local.folders]
        try:
            path = next((place for place in places if place.exists()), places[0])
            data = picture_bytes(path, root, MAX_PIXELS)
            decode_isolated(data, MAX_PIXELS)
        except (decoding.Unusable, OSError, ValueError) as error:  # no name of a file
            raise machine_failure(error, places[0]) or UnusableRow(f"its picture {named}: {error}") from None
        return data


def find(suite: Suite, data: Path) -> list[Path]:
    """The authors' file of `suite` in `data`, or the file of each variant; empty where there is none."""
    for pattern in suite.local.files if suite.local else ():
        if found := [path for path in data.glob(pattern) if path.is_file()]:
            return sorted(
                found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)]
            )
    return []


def hint(suite: Suite) -> str:
    """The end of a message: what else may be given."""
    return f", or give the folder that holds its {suite.local.files[0]}" if suite.local else ""


def read(suite: Suite, files: list[Path]) -> tuple[list[LocalRow], list[SetAside]]:
    """The rows of the authors' files in their order, and those that cannot be asked; no picture is looked at.

    Raises:
        InputError: a file cannot be read.
    """
    found = list(_read(suite, files))
    rows: list[LocalRow] = []
    aside: list[SetAside] = []
    named = [(one.id if isinstance(one, SetAside) else one.question.item.id, one.digest) for one in found]
    for one, (key, _), reason in zip(found, named, repeated(named), strict=True):
        if isinstance(one, SetAside):
            aside.append(one)
        elif reason:
            aside.append(SetAside(id=key, reason=reason, digest=one.digest))
        else:
            rows.append(one)
    return rows, aside


def items(name: str, data: Path) -> list[Item]:
    """The items of a suite from its authors' file in `data`, for scoring alone: no pictures are needed.

    Raises:
        InputError: there is no such file, or none of its rows can be used.
    """
    suite = catalogue.find(name)
    files = find(suite, data)
    if not files:
        raise InputError(f"There is no {name} in {data}{hint(suite)}.")
    rows, aside = read(suite, files)
    if not rows:
        raise nothing_left(name, files[0], aside)
    return [one.question.item for one in rows]


def _read(suite: Suite, files: list[Path]) -> Iterator[LocalRow | SetAside]:
    assert suite.local is not None
    local = suite.local
    for file in files:
        variant = {local.variant: file.parent.name} if local.variant and len(files) > 1 else {}
        for index, (key, stored) in enumerate(_rows(file, suite)):
            given = {**variant, **({local.key: key} if local.key and key else {})}
            plain, fault = _plain(stored)
            renamed = {name: plain[theirs] for name, theirs in local.renamed.items() if theirs in plain}
            row = {suite.id[0]: None, **renamed, **plain, **given}
            digest = artefacts.digest([key, stored])
            if not fault and any(row.get(name) != value for name, value in local.only.items()):
                continue
            try:
                if fault:
                    raise UnusableRow(fault)
                question = fields.read(suite, row, index)
            except UnusableRow as error:
                yield SetAside(id=fields.name(suite, row, index), reason=str(error), digest=digest)
            else:
                yield LocalRow(row, question, digest, file, local)


def _plain(stored: object) -> tuple[Row, str | None]:
    """A row as an object, as far as it is one, and what is wrong with it."""
    fault, row = None, dict(stored) if isinstance(stored, dict | _Repeated) else {}
    twice = [name for name, value in stored if row[name] != value] if isinstance(stored, _Repeated) else []
    if not isinstance(stored, dict | _Repeated):
        fault = "it is no JSON object"
    elif twice:
        fault = f"its {twice[0]} stands there twice and differs"
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        fault = "it holds bytes that are not UTF-8"
    return row, fault


def _rows(path: Path, suite: Suite) -> Iterator[tuple[str | None, object]]:
    """(key, row) of everything in a file; the key is None where rows have none."""
    try:
        with open_below(path, path.parent) as stream:
            data = content(stream)
        text = data.decode(json.detect_encoding(data), "surrogateescape")
    except (decoding.Unusable, OSError) as error:
        raise machine_failure(error, path) or InputError(f"Cannot read {path}: {error}.") from None
    except UnicodeError:
        raise InputError(f"{path} is no text; take {suite.title}'s file from its repository again.") from None
    if path.suffix == ".jsonl":
        yield from ((None, _parsed(line)) for line in text.split("\n") if line.strip())
        return
    stored = _parsed(text)
    if isinstance(stored, list):
        yield from ((None, row) for row in stored)
    elif isinstance(stored, dict | _Repeated) and stored:
        yield from stored.items() if isinstance(stored, dict) else stored
    else:
        raise InputError(
            f"{path} is no JSON that holds rows; take {suite.title}'s file from its repository again."
        )


def _parsed(text: str) -> object:
    """The value of a JSON text; the text itself where it is none."""
    try:
        return json.loads(text, object_pairs_hook=_members)
    except (ValueError, RecursionError):
        return text


def _members(pairs: list[tuple[str, Any]]) -> Row | _Repeated:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(pairs)
