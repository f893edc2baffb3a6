"""The newest questions of a run with their votes: of the Questioner's training while it goes on, else those
that were labelled last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.report.pictures import picture
from harness.tables.text import visible
from vzero import voting
from vzero.config import Preset
from vzero.errors import InputError
from vzero.images.records import ImageRecord, open_foreign, records_by_id
from vzero.parsing import parse_question
from vzero.runtime import artefacts, owned, schemas
from vzero.runtime.stage import stage_folder
from vzero.selfplay import IMAGES, Stage

SHOWN = 8
TAIL = 400_000  # bytes of a file's end that are read


class QuestionView(BaseModel):
    """A question as the page shows it.

    Attributes:
        votes: how many for each letter; "?" could not be read.
        kept: whether the filter keeps it.
        picture: a data URI; None where the picture is not at hand.
    """

    iteration: int
    text: str
    votes: list[tuple[str, int]]
    answer: str | None
    confidence: float
    intuitive: str | None
    kept: bool
    picture: str | None


def newest(run: Path, preset: Preset, stages: Sequence[Stage]) -> list[QuestionView]:
    """The last `SHOWN` of the latest stage that has any, the newest first."""
    for stage in reversed(stages):
        name = {"train-questioner": "rollouts.jsonl", "label": "labels.jsonl"}.get(stage.kind)
        path = stage_folder(run, stage.name) / (name or "")
        if name is None or not path.exists():
            continue
        found: dict[str, QuestionView] = {}
        for row in reversed(list(tail(path, stage.kind))):
            view = _view(run, preset, stage, row)
            if view is not None:
                found.setdefault(view.text, view)
            if len(found) == SHOWN:
                break
        if found:
            return list(found.values())
    return []


def tail(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The last whole rows of a file that may be growing, of a stage of this kind."""
    with open(owned.open_own(path), "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - TAIL))
        lines = stream.read().split(b"\n")[:-1]
    for line in lines[1:] if size > TAIL else lines:
        try:
            row = artefacts.parse_json(line)
            schemas.require_rows([row], kind, path.name)
        except ValueError:
            continue
        yield row


def _view(run: Path, preset: Preset, stage: Stage, row: Mapping[str, Any]) -> QuestionView | None:
    """None for what is no question, or was not voted on."""
    votes, text = row["votes"], row["text"]
    if stage.kind == "train-questioner":
        asked = parse_question(text)
        text = asked.text if asked else ""
    if not votes or not text:
        return None
    tally, counts = voting.tally(votes), Counter(vote or "?" for vote in votes)
    return QuestionView(
        iteration=stage.iteration,
        text=visible(text, 1200),
        votes=[(letter, counts[letter]) for letter in "ABCD?" if letter != "?" or counts[letter]],
        answer=tally.answer,
        confidence=tally.confidence,
        intuitive=row["intuitive"],
        kept=voting.keep(tally, preset.solver.keep_low, preset.solver.keep_high),
        picture=_picture(
            stage_folder(run, IMAGES), row["prompt" if stage.kind == "train-questioner" else "image_id"]
        ),
    )


def _picture(images: Path, name: str) -> str | None:
    made = (images / "images.jsonl").stat().st_mtime_ns
    return _encoded(images, made, name)


@lru_cache(maxsize=64)
def _encoded(images: Path, made: int, name: str) -> str | None:
    try:
        record = _records(images, made).get(name)
        return None if record is None else picture(open_foreign(record)).uri
    except InputError:
        return None


@lru_cache(maxsize=2)
def _records(images: Path, made: int) -> Mapping[str, ImageRecord]:
    """`made`: when, in nanoseconds; the stage may have been done anew."""
    return records_by_id(images)
