"""Files of answers and of items made anywhere: JSON lines; anything else is refused by line."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from harness.scoring.items import Item, Kind
from harness.scoring.values import numbers, value
from vzero.errors import InputError

Row = Mapping[str, Any]
Gold = str | int | float


@dataclass(frozen=True)
class Answer:
    """A line of a file of answers; other keys of a line are ignored."""

    id: str
    response: str
    finish_reason: str | None = None


class ItemRow(BaseModel):
    """A line of a file of items: any benchmark of one's own.

    Attributes:
        options: texts, or texts by label; `labels` are letters unless they are given. Those from K on are
            read in a box, a tag or after a cue alone.
        answer: a label, an option's text, or a value; a list holds alternatives, or a "multi"'s labels.
    """

    id: str | int
    kind: Kind | Literal["multi-choice"]
    question: str = ""
    options: list[str] = Field(default_factory=list, max_length=26)
    labels: list[str] = Field(default_factory=list)
    answer: Gold | list[Gold] | None = None
    precision: int | None = None
    unit: str | None = None
    tolerance: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_label(cls, row: object) -> object:
        if isinstance(row, dict) and isinstance(row.get("options"), dict):
            return {**row, "options": [*row["options"].values()], "labels": [*row["options"]]}
        return row

    @field_validator("answer", mode="before")
    @classmethod
    def _as_written(cls, value: object) -> object:
        listed = value if isinstance(value, list) else [value]
        said = [str(one) if isinstance(one, bool) else one for one in listed]  # true is no 1
        return said if isinstance(value, list) else said[0]

    @field_validator("options", "labels", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        listed = [] if value is None else value
        return [str(one) for one in listed] if isinstance(listed, list) else listed

    @model_validator(mode="after")
    def _has_labels(self) -> ItemRow:
        if any(not re.fullmatch("[A-Za-z1-9]", label) for label in self.labels):
            raise ValueError("labels are one letter or digit each")
        if self.labels and len(self.options) > len(self.labels):
            raise ValueError("there are more options than labels")
        if self.kind in ("choice", "multi", "multi-choice") and not self.options and not self.labels:
            raise ValueError("a choice needs options or labels")
        return self

    def item(self) -> Item:
        """As scoring takes it. A gold that is no option, or no number where one is asked, is left out: the
        row is named as one without gold."""
        kind: Kind = "multi" if self.kind == "multi-choice" else self.kind
        options = tuple(self.options)
        labels = tuple(map(str.upper, self.labels)) or tuple(ascii_uppercase[: len(options)])
        listed = self.answer if isinstance(self.answer, list) else [self.answer]
        gold = tuple(str(one) for one in listed if one is not None and str(one).strip())
        if kind == "list":
            listing = f"[{', '.join(one.strip('[] ') for one in gold)}]"
            gold = (listing,) if numbers(listing) else ()
        elif kind in ("choice", "multi"):
            if kind == "multi" and len(gold) == 1 and gold[0] not in options:
                gold = tuple(gold[0] if gold[0].isalpha() else gold[0].split(","))  # "AC", "A, C"
            names = {_label(one, options, labels) for one in gold}
            gold = () if None in names else tuple(sorted(map(str, names)))
        elif kind in ("integer", "float"):
            gold = tuple(one for one in gold if value(one) is not None)
        return Item(
            str(self.id), self.question, options, labels if kind in ("choice", "multi") else (), gold, kind,
            self.precision, self.unit, tolerance=self.tolerance,
        )  # fmt: skip


def _label(answer: str, options: Sequence[str], labels: Sequence[str]) -> str | None:
    """The label that a gold names, also in brackets or by the option's text; None: it is no option."""
    bare = answer.strip().strip("()[]. ").upper()
    if bare in labels:
        return bare
    return next((label for label, text in zip(labels, options, strict=False) if text == answer), None)


def read_answers(path: Path, items: Sequence[Item], unscored: Container[str] = ()) -> dict[str, Answer]:
    """Answer by item id, in the order of the file; answers to the ids `unscored` are left out.

    Raises:
        InputError: an unreadable or empty file, a malformed line, a line without a response, an id that the
            items do not have or that occurs twice.
    """
    known, found = {item.id for item in items}, {}
    for number, name, row in _rows(path, '{"id": ..., "response": ...}'):
        line = f"Line {number} of {path}"
        if name not in known:
            if name in unscored:
                continue
            raise InputError(f"{line} answers {name[:60]!r}, which the items do not have; check --items.")
        response, reason = row.get("response"), row.get("finish_reason")
        if not isinstance(response, str):
            raise InputError(f'{line} ({name[:60]!r}) has no "response" text; leave the line out.')
        found[name] = Answer(name, response, reason if isinstance(reason, str) else None)
    return found


def read_items(path: Path) -> list[Item]:
    """The items of a file, in its order.

    Raises:
        InputError: an unreadable or empty file, a malformed line, an id that occurs twice.
    """
    found = []
    for number, _, row in _rows(path, '{"id": ..., "kind": ..., "answer": ...}'):
        try:
            found.append(ItemRow.model_validate(row).item())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"][:1])) or "the line"
            why = first["msg"].removeprefix("Value error, ")[:120]
            raise InputError(f"Line {number} of {path} is no item ({where}: {why}).") from None
    return found


def _rows(path: Path, form: str) -> list[tuple[int, str, Row]]:
    """(line number, id, object) of every line that is not blank."""
    found: dict[str, tuple[int, str, Row]] = {}
    for number, text in enumerate(_lines(path), start=1):
        if not text.strip():
            continue
        line = f"Line {number} of {path}"
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"{line} is not JSON; give one {form} a line.") from None
        name = row.get("id") if isinstance(row, dict) else None
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise InputError(f'{line} has no "id" that is a text or a number; give one {form} a line.')
        if str(name) in found:
            raise InputError(f"{line} names {str(name)[:60]!r} again; keep one line an id.")
        found[str(name)] = (number, str(name), row)
    if not found:
        raise InputError(f"{path} holds no line; give one {form} a line.")
    return list(found.values())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); write it in UTF-8.") from None
