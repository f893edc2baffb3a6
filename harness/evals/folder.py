"""The folder of an evaluation.

run.json (settings, where from), protocol.json (what checkpoint and machine add to them), items/<suite>.jsonl
(what is asked and its gold), pins/<suite>.json (digests of the rows), responses/<suite>.jsonl,
lmms_eval/<suite>.json (its own numbers), official/<suite>.json (verdicts of the published rule),
contamination.json where asked for, results.json, results.md, items.scored.jsonl. `official/` can be made
again; `work/` holds lmms-eval's log and, while it runs, copies of what is asked. (Earlier versions had a
`data/` too.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from harness.evals.fields import SuiteQuestion
from harness.evals.results import LmmsEval, Settings
from harness.runs import folder as folders
from harness.runs.folder import FolderKind, OpenFolder
from harness.scoring import Item
from vzero.errors import InputError
from vzero.runtime import artefacts, owned

CONTENT = (
    *("results.json", "results.md", "items.scored.jsonl", "contamination.json", "extractions.jsonl"),
    *("against.json", "protocol.json", "responses", "lmms_eval", "official", "items", "pins", "data", "work"),
)
EVALUATION = FolderKind(
    "the folder of an evaluation",
    "an evaluation",
    "evaluation",
    CONTENT,
    ("responses", "extractions.jsonl"),  # whose rows name what they are of
    ("responses/*.jsonl",),
)


Model = TypeVar("Model", bound=BaseModel)


class AskedItem(BaseModel):
    """A line of items/<suite>.jsonl; `part` is its part's config, `row` the dataset's without pictures."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    item: Item
    together: dict[str, str]
    part: str | None
    row: dict[str, JsonValue] = {}

    @classmethod
    def of(cls, question: SuiteQuestion, part: str | None) -> AskedItem:
        """NaN becomes null, and a whole float an integer: the hub stores MathVista's `precision` as a float,
        with which lmms-eval cannot round."""

        def number(text: str) -> float:
            return int(value) if (value := float(text)).is_integer() else value

        plain = json.dumps(dict(question.row), default=str)
        row = json.loads(plain, parse_constant=lambda _: None, parse_float=number)
        return cls(item=question.item, together=dict(question.together), part=part, row=row)


def opened(folder: Path, settings: Settings, fresh: bool) -> AbstractContextManager[OpenFolder]:
    """Create or resume the evaluation in `folder` and hold its lock; see `harness.runs.folder.opened`."""
    return folders.opened(folder, EVALUATION, settings.model_dump(mode="json"), fresh)


def read(folder: Path) -> dict[str, Any]:
    """The run.json of an evaluation.

    Raises:
        InputError: `folder` is not one.
    """
    return EVALUATION.read(folder)


def settings(folder: Path) -> Settings:
    """What an evaluation was made with.

    Raises:
        InputError: `folder` is not one, or of a version that this one does not read.
    """
    try:
        return Settings.model_validate(read(folder)["evaluation"])
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"{folder / folders.RECORD} has settings that cannot be read ({where}).") from None


def responses(folder: Path, suite: str) -> Path:
    """Where a suite's answers are stored."""
    return folder / "responses" / f"{suite}.jsonl"


def pins(folder: Path, suite: str) -> Path:
    """Where a suite's rows are pinned as they were first seen, with those that were set aside."""
    return folder / "pins" / f"{suite}.json"


def record(folder: Path, suite: str) -> Path:
    """Where lmms-eval's own numbers stand; it is there once the whole suite is answered."""
    return folder / "lmms_eval" / f"{suite}.json"


def lmms_eval(folder: Path, suite: str) -> LmmsEval | None:
    """What stands there."""
    path = record(folder, suite)
    return read_model(LmmsEval, path) if path.exists() else None


@contextmanager
def new_folder(work: Path, name: str) -> Iterator[Path]:
    """A folder below `work` that nobody could know, for what a library interprets. It is not in the machine's
    temporary folder, since an attempt that is ended by a signal leaves it: the next one then finds it here.

    Args:
        work: of an evaluation that this process has locked.
        name: what it holds.
    """
    work.mkdir(parents=True, exist_ok=True)
    for left in work.glob(f"new-{name}-*"):
        owned.remove(left)
    with TemporaryDirectory(prefix=f"new-{name}-", dir=work) as place:
        yield Path(place)


def write_items(folder: Path, suite: str, items: Iterable[AskedItem]) -> None:
    """What will be asked, in order."""
    artefacts.write_jsonl(folder / "items" / f"{suite}.jsonl", (one.model_dump(mode="json") for one in items))


def items(folder: Path, suite: str) -> list[AskedItem]:
    """What was asked; nothing where the suite was never opened."""
    path = folder / "items" / f"{suite}.jsonl"
    try:
        return [AskedItem.model_validate(row) for row in artefacts.read_jsonl(path)] if path.exists() else []
    except ValueError:
        raise damaged(path) from None


def read_model(kind: type[Model], path: Path) -> Model:
    """A JSON file of the folder.

    Raises:
        InputError: it is damaged, or of another version.
    """
    try:
        return kind.model_validate(artefacts.read_digested(path))
    except ValueError:
        raise damaged(path) from None


def damaged(path: Path) -> InputError:
    """What to say of a file that can be made again."""
    return InputError(
        f"{path} is damaged or of another version; delete it, then evaluate again with the same command."
    )
