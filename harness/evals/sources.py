"""Questions from local copies of the benchmarks: LogicVista's public repository layout and MathVista's JSON.

`SUITES` is the registry: a name and how to load its items from a folder. A new suite is one more record
(`harness.evals.records`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evals import catalogue
from harness.scoring import DIGITS, LETTERS, Item
from vzero.errors import InputError

Loader = Callable[[Path], list[Item]]
# "Select from A, B and C", "(A-D)", "A to F", "(A) True (B) False": the question itself says that its labels
# are letters.
_OFFERS_LETTERS = re.compile(r"\bA ?(?:-|to|,) ?[B-I]\b|\bA\)|\(A\)")
_MATHVISTA_GROUPS = ("task", "category", "context", "grade", "source", "language")
_MATHVISTA_KINDS = ("integer", "float", "list", "text")


@dataclass(frozen=True)
class Suite:
    """A benchmark that can be scored: where its items come from, and by which of its groups a reader looks
    first."""

    name: str
    title: str
    load: Loader
    table: str  # name of the group that the terminal's table shows


def load(suite: str, data: Path, suites: Mapping[str, Suite] | None = None) -> list[Item]:
    """All items of a suite, in the order of its file, ids unique.

    Raises:
        InputError: unknown suite, or a folder or file that cannot be read as that suite.
    """
    return find(suite, suites).load(data)


def find(suite: str, suites: Mapping[str, Suite] | None = None) -> Suite:
    """A suite by its name.

    Raises:
        InputError: there is none.
    """
    known = SUITES if suites is None else suites
    if suite not in known:
        raise InputError(f"There is no suite {suite!r} to score; choose one of {', '.join(sorted(known))}.")
    return known[suite]


def logicvista(data: Path) -> list[Item]:
    """LogicVista: `data` is the folder with dataset.json, or one above it (`data/` in the public repository,
    or `logicvista/`).

    Most options stand in the images alone; `options` holds those the question writes out. Gold labels are
    letters A to I and, once, a digit: digits are labels where the question does not offer letters. Three
    items have two right labels, so every item may be answered with several. Row v1_382 has no gold and is
    kept with an empty one.

    Raises:
        InputError: no dataset.json, or not of that shape.
    """
    path = _file(data, "dataset.json", ("", "data", "logicvista", "logicvista/data"))
    return [_shaped(path, key, logicvista_item, row) for key, row in _rows(path)]


def mathvista(data: Path) -> list[Item]:
    """MathVista testmini: `data` is the folder with testmini.json, or one above it (`data/` in the public
    repository, or `mathvista/`).

    Raises:
        InputError: no testmini.json, or not of that shape.
    """
    path = _file(data, "testmini.json", ("", "data", "mathvista", "mathvista/data"))
    return [_shaped(path, key, mathvista_item, row) for key, row in _rows(path)]


def logicvista_item(key: str, row: Mapping[str, Any]) -> Item:
    """The item of one row of LogicVista."""
    letters = _OFFERS_LETTERS.search(row["question"])
    gold = tuple(sorted({label.strip().upper() for label in row["answer"].split(",") if label.strip()}))
    group = [("skill", one) for one in row["skill"]]
    group += [("capability", one) for one in row.get("broad_capability", row.get("capability", []))]
    return Item(
        id=key,
        question=row["question"],
        options=written_options(row["question"]),
        labels=LETTERS if letters else LETTERS + DIGITS,
        gold=gold,
        kind="multi",
        group=tuple(group),
        rule="logicvista",
    )


def mathvista_item(key: str, row: Mapping[str, Any]) -> Item:
    """The item of one row of MathVista."""
    metadata = row["metadata"]
    group = [("skill", one) for one in metadata["skills"]] + [
        (name, metadata[name]) for name in _MATHVISTA_GROUPS if name in metadata
    ]
    choices = tuple(row["choices"] or ())
    labels = tuple(chr(ord("A") + index) for index in range(len(choices)))
    if row["answer_type"] not in _MATHVISTA_KINDS:
        raise ValueError(f"its answer_type is {row['answer_type']!r}")
    answer = str(row["answer"]) if row.get("answer") not in (None, "") else None
    if row["question_type"] == "multi_choice":
        gold = tuple(label for label, text in zip(labels, choices, strict=True) if text == answer)
        if answer is not None and not gold:
            raise ValueError("its answer is none of its choices")
    else:
        gold = () if answer is None else (answer,)
    return Item(
        id=str(row.get("pid", key)),
        question=row["question"],
        options=choices,
        labels=labels,
        gold=gold,
        kind="choice" if row["question_type"] == "multi_choice" else row["answer_type"],
        precision=None if row["precision"] is None else int(row["precision"]),
        unit=row["unit"],
        group=tuple(group),
        rule="mathvista",
    )


def written_options(question: str) -> tuple[str, ...]:
    """Texts of the options that a question writes out as `(A) ... (B) ...` or `A) ... B) ...`; empty where
    there are none."""
    for form in ("({})", "{})"):
        texts, cursor = [], question.rfind(form.format("A"))
        for letter in LETTERS:
            mark = form.format(letter)
            start = question.find(mark, cursor)
            if cursor < 0 or start < 0:
                break
            if texts:
                texts[-1] = question[cursor:start].strip(" ,;\n")
            cursor = start + len(mark)
            texts.append(question[cursor:].strip(" ,;\n"))
        if len(texts) > 1:
            return tuple(texts)
    return ()


def _file(data: Path, name: str, below: tuple[str, ...]) -> Path:
    for folder in below:
        path = data / folder / name
        if path.is_file():
            return path
    raise InputError(f"There is no {name} in {data}; give --data the folder that holds it.")


def _rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON; take the file from the suite's repository again.") from None
    if not isinstance(rows, dict) or not rows or not all(isinstance(row, dict) for row in rows.values()):
        raise InputError(
            f"{path} holds no object of rows by id; take the file from the suite's repository again."
        )
    return list(rows.items())


def _shaped(
    path: Path, key: str, build: Callable[[str, Mapping[str, Any]], Item], row: Mapping[str, Any]
) -> Item:
    try:
        return build(key, row)
    except KeyError as error:
        raise InputError(
            f"Row {key} of {path} has no field {error}; take the file from the suite's repository again."
        ) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"Row {key} of {path} has another shape than expected ({error}).") from None


def _loader(name: str) -> Loader:
    """Items of a suite from what `vzero-harness fetch` wrote, or from a copy in its authors' layout where
    that is known."""
    copies: dict[str, Loader] = {"logicvista": logicvista, "mathvista": mathvista}

    def load_items(data: Path) -> list[Item]:
        from harness.evals.rows import items

        fetched = any((data / place / "dataset_dict.json").is_file() for place in ("", name))
        return copies[name](data) if name in copies and not fetched else items(catalogue.suites()[name], data)

    return load_items


SUITES: dict[str, Suite] = {
    name: Suite(name, suite.title, _loader(name), suite.table) for name, suite in catalogue.suites().items()
}
