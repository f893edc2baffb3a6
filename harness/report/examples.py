"""Questions and answers to look at, with their pictures. Chosen by a hash of their ids: the same each time,
and not by how they look."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from harness.analysis.accuracies import model_name
from harness.analysis.ground_truth import pocket_truths
from harness.evals.metrics import greedy_correct
from harness.runs.sealed import Row, Run, SealedStage
from vzero.errors import InputError
from vzero.images.records import ImageRecord, load_records, open_image
from vzero.pocket.ground_truth import Truth

QUESTIONS, ANSWERS = 20, 12
SHARES = {"kept": 9, "dropped": 9, "invalid": 2}  # of the questions, where there are enough
SMALL = 128  # pixels; pictures up to this size stay as they are and are scaled up in whole pixels
THUMBNAIL = 384


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: its data URI, and whether it is `small` enough to be scaled by pixels."""

    uri: str
    small: bool


@dataclass(frozen=True)
class Label:
    """How a question was labelled: each reply and the letter read in it, the majority and its share."""

    votes: tuple[str | None, ...]
    replies: tuple[str, ...]
    answer: str | None
    confidence: float


@dataclass(frozen=True)
class WrittenQuestion:
    """A question of the Questioner on its way through the loop.

    Attributes:
        state: "kept", "dropped", "invalid" (not in the required form; `text` is then what was written) or
            "unlabelled".
        truth: None where the images have none.
    """

    question_id: str
    iteration: int
    state: str
    text: str
    intuitive: str | None
    picture: Picture | None
    label: Label | None
    truth: Truth | None


@dataclass(frozen=True)
class ChangedAnswer:
    """A held-out question whose greedy answer changed sides: (letter, text) `before` from the base, `after`
    from the last Solver. Question and picture are None where the suite keeps them elsewhere."""

    suite: str
    item_id: str
    family: str
    gold: str
    gained: bool
    before: tuple[str | None, str]
    after: tuple[str | None, str]
    question: str | None
    picture: Picture | None


def picture(image: Image.Image) -> Picture:
    """A freshly encoded copy without metadata, large ones shrunk."""
    buffer = io.BytesIO()
    small = max(image.size) <= SMALL
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.save(buffer, "JPEG", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(f"data:image/{'png' if small else 'jpeg'};base64,{data}", small)


def written_questions(run: Run, count: int = QUESTIONS) -> tuple[WrittenQuestion, ...]:
    """Up to `count` questions, spread over iterations and over kept, dropped and invalid ones."""
    images, written = run.stages.get("00-images"), run.of_kind("write-questions")
    if images is None:
        return ()
    records = {record.image_id: record for record in load_records(images.folder)}
    found: list[WrittenQuestion] = []
    for index, stage in enumerate(written):
        quota = count // len(written) + (index < count % len(written))
        found += _of_iteration(run, stage, records, quota)
    return tuple(found)


def _of_iteration(
    run: Run, stage: SealedStage, records: Mapping[str, ImageRecord], quota: int
) -> list[WrittenQuestion]:
    questions = stage.rows("questions.jsonl")
    labelled = run.of_iteration("label", stage.stage.iteration)
    labels = {row["question_id"]: row for row in labelled.rows("labels.jsonl")} if labelled else {}
    states = {row["question_id"]: _state(row, labels.get(row["question_id"])) for row in questions}
    chosen = spread(states, quota)
    rows = [row for row in questions if row["question_id"] in chosen]
    truths = pocket_truths(run, [row for row in rows if row["valid"]]) or {}
    replies: dict[str, list[Row]] = {}
    for vote in labelled.rows("votes.jsonl") if labelled else []:
        replies.setdefault(vote["question_id"], []).append(vote)
    return [
        WrittenQuestion(
            question_id=name,
            iteration=stage.stage.iteration,
            state=states[name],
            text=row["text"] if row["valid"] else row["raw"],
            intuitive=row["intuitive"],
            picture=_of_record(records.get(row["image_id"])),
            label=_label(labels[name], replies.get(name, [])) if name in labels else None,
            truth=truths.get(name),
        )
        for row in rows
        for name in (row["question_id"],)
    ]


def _state(question: Row, label: Row | None) -> str:
    if not question["valid"]:
        return "invalid"
    return "unlabelled" if label is None else "kept" if label["kept"] else "dropped"


def _label(label: Row, replies: Sequence[Row]) -> Label:
    texts = tuple(one["text"] for one in sorted(replies, key=lambda one: one["index"]))
    return Label(tuple(label["votes"]), texts, label["answer"], label["confidence"])


def spread(states: Mapping[str, str], quota: int) -> frozenset[str]:
    """`quota` ids (or all there are): a share of each state where it exists, the rest from what is left."""
    order = sorted(states, key=lambda name: hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest())
    chosen: list[str] = []
    for state, part in SHARES.items():
        chosen += [name for name in order if states[name] == state][: round(quota * part / QUESTIONS)]
    rest = [name for name in order if name not in chosen]
    return frozenset((chosen + sorted(rest, key=lambda name: states[name] == "invalid"))[:quota])


def _of_record(record: ImageRecord | None) -> Picture | None:
    """None where the picture is gone or changed."""
    try:
        return None if record is None else picture(open_image(record))
    except InputError:
        return None


def changed_answers(run: Run, count: int = ANSWERS) -> tuple[ChangedAnswer, ...]:
    """Of the last model against the base: as many lost as gained, where there are enough of both."""
    rows = {model_name(one): one.rows("samples.jsonl") for one in run.of_kind("evaluate")}
    trained = [model for model in rows if model != "base"]
    if "base" not in rows or not trained:
        return ()
    after = {(row["suite"], row["item_id"]): row for row in rows[trained[-1]]}
    pairs = [(row, after[key]) for row in rows["base"] if (key := (row["suite"], row["item_id"])) in after]
    pairs.sort(key=lambda pair: hashlib.sha256(pair[0]["item_id"].encode("utf-8", "replace")).hexdigest())
    lost = [(one, two) for one, two in pairs if greedy_correct(one) and not greedy_correct(two)]
    gained = [(one, two) for one, two in pairs if greedy_correct(two) and not greedy_correct(one)]
    half = count // 2
    chosen = [*lost[: max(half, count - len(gained))], *gained[: max(half, count - len(lost))]][:count]
    shown = _drawn(run, {one["suite"] for one, _ in chosen})
    return tuple(_changed(one, two, shown.get((one["suite"], one["item_id"]))) for one, two in chosen)


def _drawn(run: Run, suites: set[str]) -> dict[tuple[str, str], tuple[str, Image.Image]]:
    """(question, picture) of every item of the pocket suites among `suites`, drawn again."""
    from vzero.pocket.suites import SUITES, items

    config = run.preset.evaluation
    return {
        (suite, item.item_id): (item.question, item.image)
        for suite in sorted(suites)
        if suite in SUITES
        for item in items(suite, config.split, config.items_per_family)
    }


def _changed(before: Row, after: Row, shown: tuple[str, Image.Image] | None) -> ChangedAnswer:
    answers = [(one["greedy"]["answer"], one["greedy"]["text"]) for one in (before, after)]
    return ChangedAnswer(
        suite=before["suite"],
        item_id=before["item_id"],
        family=before["family"],
        gold=before["gold"],
        gained=greedy_correct(after),
        before=answers[0],
        after=answers[1],
        question=shown[0] if shown else None,
        picture=picture(shown[1]) if shown else None,
    )
