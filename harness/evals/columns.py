"""What a column of a row holds, as far as it is what a question needs; all else is a ValueError that says
what is wrong."""

from __future__ import annotations

import ast
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
# Full-width ! to ~ as ASCII, one character for one: places in a text stay the same.
HALF_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)}
_SEPARATORS = re.compile(r"[\s,;/&]+(?:and\s+)?|\s+and\s+")


def text(row: Row, name: str) -> str:
    """A text that is not blank."""
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"its {name} is {_kind(value)}, not a text")
    if not value.strip():
        raise ValueError(f"its {name} is empty")
    return value


def group(value: object) -> str:
    """What a row is counted under in a table."""
    return " ".join(str(value).split()) if value not in (None, "") else "?"


def several(row: Row, name: str) -> list[str]:
    """Texts in a list; none where it is absent."""
    values = row.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"its {name} is no list of texts")
    return values


def key(row: Row, columns: Sequence[str], separator: str, index: int) -> str:
    """The id of a row; its number where the dataset has none of the `columns`."""
    there = [row[name] for name in columns if name in row]
    if any(isinstance(value, bool) or not isinstance(value, str | int) or value == "" for value in there):
        raise ValueError("it has no id")
    return separator.join(map(str, there)) or str(index)


def gold(row: Row, name: str) -> str:
    """The answer of a row as text; empty where it has none."""
    value = row[name]
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise ValueError(f"its {name} is {_kind(value)}, not a value")
    found = str(value).strip()
    if found.lower() in ("nan", "inf", "-inf"):
        raise ValueError(f"its {name} is {found}, not a value")
    return found


def whole(row: Row, name: str) -> int | None:
    """A whole number; None where there is none."""
    value = row[name]
    if value is None or (isinstance(value, int | float) and value == value // 1 and not math.isinf(value)):
        return None if value is None else int(value)
    raise ValueError(f"its {name} is {value!r:.40}, not a whole number")


def options(row: Row, name: str) -> dict[str, str]:
    """Label -> text of options in a list; none where it is empty or absent."""
    values = row[name]
    if values is not None and (isinstance(values, str) or not isinstance(values, Sequence)):
        raise ValueError(f"its {name} are {_kind(values)}, not a list")
    for value in values or ():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"one of its {name} is {_kind(value)}, not a text")
    return {chr(ord("A") + place): str(value) for place, value in enumerate(values or ())}


def literal(stored: str) -> list[str]:
    """The texts of a list that is stored as Python writes it."""
    try:
        found = ast.literal_eval(stored)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str | int | float) for one in found):
        raise ValueError(f"{stored[:40]!r} is no list of texts")
    return [str(one) for one in found]


def labels(stated: str, offered: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
    """The labels that a gold answer names, and whether they belong together.

    It is a label, also in brackets or full-width; or the text of an option (of two that are equal, either);
    or several labels, which are right together: `A, C`, `A and C`, one a line.
    """
    if (label := _label(stated)) in offered:
        return (label,), False
    if equal := tuple(label for label, shown in offered.items() if shown and same(shown) == same(stated)):
        return equal, False
    several = tuple(sorted({_label(part) for part in _SEPARATORS.split(stated.strip()) if part}))
    if len(several) > 1 and set(several) <= set(offered):
        return several, True
    raise ValueError(f"its answer {stated.strip()[:40]!r} is none of {', '.join(offered) or 'no options'}")


def same(shown: str) -> str:
    """A text by which two that look alike are equal."""
    return " ".join(unicodedata.normalize("NFKC", shown).casefold().split()).rstrip(".")


def is_number(stated: str) -> bool:
    """Whether a text is one finite number as decimals are written."""
    try:
        return math.isfinite(float(stated)) and "_" not in stated
    except ValueError:
        return False


def _label(stated: str) -> str:
    return stated.translate(HALF_WIDTH).strip(" \t\n()[].:").upper()


def _kind(value: object) -> str:
    kinds = {type(None): "missing", str: "a text", list: "a list", dict: "an object", bool: "true or false"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
