"""What the Questioner wrote, question by question: picture, votes, label, truth and reward; and a sample of
twenty."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.ground_truth import pocket_truths
from harness.analysis.questions import labelled_of, questions_of, trained_of
from harness.report.pictures import Picture, thumbnails
from harness.runs.sealed import Row, Run
from vzero.images.records import ImageRecord, load_records
from vzero.pocket.ground_truth import Truth
from vzero.rewards import INVALID, dual_track

PICTURES = 3_072  # at most, chosen by hash: as many as a pocket run has
SAMPLE = 20
SHARES = {"kept": 9, "dropped": 9, "invalid": 2}  # of the sample, where there are enough


@dataclass(frozen=True)
class Label:
    """How a question was labelled: each reply and the letter read in it, the majority and its share, and the
    label to train on (`answer`; None: none, or not chosen yet)."""

    votes: tuple[str | None, ...]
    replies: tuple[str, ...]
    majority: str | None
    confidence: float
    answer: str | None

    @property
    def other(self) -> str | None:
        """The label to train on where it is not the majority."""
        return None if self.answer == self.majority else self.answer


@dataclass(frozen=True)
class WrittenQuestion:
    """A question of the Questioner on its way through the loop.

    Attributes:
        state: "kept" (the Solver trains on it), "dropped", "invalid" (not in the required form; `text` is
            then what was written) or "unlabelled" (not chosen from yet).
        picture: its key among the run's thumbnails; None where there is no record of it.
        reward: V-Zero's own (dual_track), whatever the arm trains on; None without votes.
        truth: None where the images have none.
    """

    question_id: str
    iteration: int
    state: str
    text: str
    intuitive: str | None
    picture: str | None
    label: Label | None
    reward: float | None
    truth: Truth | None

    @property
    def verdict(self) -> str:
        """Of the label: "right", "wrong", "ill-posed", or empty where nothing is known."""
        if self.truth is None:
            return ""
        if not self.truth.well_posed:
            return "ill-posed"
        answer = self.label.answer if self.label else None
        return "" if answer is None else "right" if answer == self.truth.answer else "wrong"


def written_questions(run: Run) -> tuple[tuple[WrittenQuestion, ...], int, Mapping[str, Picture]]:
    """The questions about at most `PICTURES` pictures, the same pictures in every iteration; how many were
    written in all; and the thumbnails."""
    images = run.stages.get("00-images")
    if images is None:
        return (), 0, {}
    records = {record.image_id: record for record in load_records(images.folder)}
    chosen = dict.fromkeys(sorted(records, key=_hash)[:PICTURES])
    found: list[WrittenQuestion] = []
    total = 0
    for iteration in range(1, run.preset.iterations + 1):
        rows = questions_of(run, iteration) or []
        total += len(rows)
        found += _of_iteration(run, iteration, [row for row in rows if row["image_id"] in chosen], records)
    return tuple(found), total, thumbnails([records[name] for name in chosen]) if found else {}


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()


def _of_iteration(
    run: Run, iteration: int, questions: Sequence[Row], records: Mapping[str, ImageRecord]
) -> Iterator[WrittenQuestion]:
    labelled = labelled_of(run, iteration)
    labels = {row["question_id"]: row for row in labelled.rows("labels.jsonl")} if labelled else {}
    training = trained_of(run, iteration)
    trained = {row["question_id"]: row for row in training.rows("labels.jsonl")} if training else {}
    replies: dict[str, list[Row]] = {}
    for vote in labelled.rows("votes.jsonl") if labelled else []:
        replies.setdefault(vote["question_id"], []).append(vote)
    truths = pocket_truths(run, [row for row in questions if row["valid"]]) or {}
    for row in questions:
        name = row["question_id"]
        label = _label(labels[name], trained.get(name), replies.get(name, [])) if name in labels else None
        yield WrittenQuestion(
            question_id=name,
            iteration=iteration,
            state=_state(row, trained.get(name)),
            text=row["text"] if row["valid"] else row["raw"],
            intuitive=row["intuitive"],
            picture=records[row["image_id"]].sha256,
            label=label,
            reward=_reward(row, label),
            truth=truths.get(name),
        )


def _state(question: Row, trained: Row | None) -> str:
    if not question["valid"]:
        return "invalid"
    return "unlabelled" if trained is None else "kept" if trained["kept"] else "dropped"


def _reward(question: Row, label: Label | None) -> float | None:
    if not question["valid"]:
        return INVALID
    return dual_track(label.votes, question["intuitive"]) if label else None


def _label(label: Row, trained: Row | None, replies: Sequence[Row]) -> Label:
    texts = tuple(one["text"] for one in sorted(replies, key=lambda one: one["index"]))
    answer = trained["answer"] if trained else None
    return Label(tuple(label["votes"]), texts, label["answer"], label["confidence"], answer)


def sample(questions: Sequence[WrittenQuestion], count: int = SAMPLE) -> list[WrittenQuestion]:
    """Up to `count` questions, spread over iterations and over kept, dropped and invalid ones."""
    iterations = sorted({one.iteration for one in questions})
    found: list[WrittenQuestion] = []
    for index, iteration in enumerate(iterations):
        own = [one for one in questions if one.iteration == iteration]
        quota = count // len(iterations) + (index < count % len(iterations))
        chosen = spread({one.question_id: one.state for one in own}, quota)
        found += [one for one in own if one.question_id in chosen]
    return found


def example(questions: Sequence[WrittenQuestion]) -> WrittenQuestion | None:
    """One that the Solver trains on by votes, well-posed where that is known; None where there is none."""
    fit = [one for one in questions if one.state == "kept" and one.label and one.verdict != "ill-posed"]
    return min(fit, key=lambda one: _hash(one.question_id), default=None)


def spread(states: Mapping[str, str], quota: int) -> frozenset[str]:
    """`quota` ids (or all there are): a share of each state where it exists, the rest from what is left."""
    order = sorted(states, key=_hash)
    chosen: list[str] = []
    for state, part in SHARES.items():
        chosen += [name for name in order if states[name] == state][: round(quota * part / SAMPLE)]
    rest = [name for name in order if name not in set(chosen)]
    return frozenset((chosen + sorted(rest, key=lambda name: states[name] == "invalid"))[:quota])
