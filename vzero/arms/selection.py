"""Which questions the Solver trains on and with which labels, where votes and filter alone do not say it.

It reads what earlier stages wrote, draws no tokens and writes a `labels.jsonl` of the same form, so arms that
differ only here share every stage before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vzero.arms.reward_file import RewardFile, read_source
from vzero.arms.scored import ScoredQuestion
from vzero.config import OWN
from vzero.errors import InputError
from vzero.images.records import records_by_id
from vzero.parsing import OPTIONS
from vzero.runtime import artefacts
from vzero.runtime.schemas import Known
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext

Row = dict[str, Any]


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `labels.jsonl`: `answer` is the label to train on, `kept` whether the question is trained on.

    Raises:
        InputError: labels "truth" for images without true answers, or a reward file that fails.
    """
    solver = ctx.preset.solver
    rows = _labelled(ctx) if "labels" in ctx.inputs else _unlabelled(ctx)
    if solver.selection_source is not None:
        rows = _as_the_file_says(ctx, read_source(solver.selection_source), rows)
    if "checks" in ctx.inputs:
        checks = artefacts.read_rows(ctx.inputs["checks"] / "checks.jsonl")
        answerable = {row["question_id"] for row in checks if row["answerable"]}
        rows = [{**row, "kept": row["kept"] and row["question_id"] in answerable} for row in rows]

    # True answers exist for fewer questions than the filter keeps: dropped ones make up the number, so that
    # optimizer steps can be equal.
    fills = solver.labels == "truth" and solver.filter == "confidence"
    unfiltered = fills or solver.filter == "none"
    candidates = [
        row
        for row in rows
        if (solver.labels == "none" or row["answer"] is not None) and (row["kept"] or unfiltered)
    ]
    limit = ctx.stage.config.get("at_most")
    if limit is None and fills:
        limit = sum(row["kept"] for row in rows)

    def lot(row: Row) -> tuple[bool, int]:
        drawn = derive(ctx.preset.seed, "select", ctx.stage.iteration, row["question_id"])
        return fills and not row["kept"], drawn

    chosen = {row["question_id"] for row in sorted(candidates, key=lot)[:limit]}
    artefacts.write_jsonl(
        ctx.folder / "labels.jsonl", [{**row, "kept": row["question_id"] in chosen} for row in rows]
    )
    return {"valid": len(rows), "candidates": len(candidates), "kept": len(chosen), "at_most": limit}


def _labelled(ctx: StageContext) -> list[Row]:
    """The voted rows, each with the label that the preset asks for."""
    rows = artefacts.read_rows(ctx.inputs["labels"] / "labels.jsonl")
    if ctx.preset.solver.labels == "random":
        labels: Sequence[str | None] = random_labels(ctx.preset.seed, ctx.stage.iteration, rows)
    elif ctx.preset.solver.labels == "truth":
        labels = _true_labels(ctx, rows)
    else:
        return rows
    return [{**row, "answer": label} for row, label in zip(rows, labels, strict=True)]


def _as_the_file_says(ctx: StageContext, file: RewardFile, rows: list[Row]) -> list[Row]:
    """The rows with the labels and the choice of a reward file, whichever it defines."""
    questions = _questions(ctx, rows)
    if ctx.preset.solver.labels == OWN:
        questions = [replace(one, label=file.label(one)) for one in questions]
        rows = [{**row, "answer": one.label} for row, one in zip(rows, questions, strict=True)]
    if ctx.preset.solver.filter == OWN:
        rows = [{**row, "kept": kept} for row, kept in zip(rows, file.keep(questions), strict=True)]
    return rows


def _questions(ctx: StageContext, rows: Sequence[Row]) -> list[ScoredQuestion]:
    """Each row with all that its writer and its voters said, where that was written down."""
    images = records_by_id(ctx.inputs["images"])
    said: dict[str, list[str]] = {}
    if "votes" in ctx.inputs:
        for vote in artefacts.read_rows(ctx.inputs["votes"] / "votes.jsonl"):
            said.setdefault(vote["question_id"], []).append(vote["text"])
    seen = {}
    if "questions" in ctx.inputs:
        written = artefacts.read_rows(ctx.inputs["questions"] / "questions.jsonl")
        seen = {row["question_id"]: row["description"] for row in written}
    return [
        ScoredQuestion(
            row["text"],
            row["intuitive"],
            tuple(row["votes"]),
            tuple(said.get(row["question_id"], ())),
            seen.get(row["question_id"], ""),
            images[row["image_id"]],
            row["image_id"],
            row["answer"],
        )
        for row in rows
    ]


def _unlabelled(ctx: StageContext) -> list[Row]:
    """The valid questions as rows without votes, all kept."""
    written = artefacts.read_rows(ctx.inputs["questions"] / "questions.jsonl")
    names = ("question_id", "image_id", "text", "intuitive")
    return [
        {**{name: row[name] for name in names}, "votes": [], "answer": None, "confidence": None, "kept": True}
        for row in written
        if row["valid"]
    ]


def random_labels(seed: int, iteration: int, rows: Sequence[Row]) -> list[str]:
    """One of A-D for each question, equally likely and independent of the votes."""
    draws = (derive(seed, "random-label", iteration, row["question_id"]) for row in rows)
    return [OPTIONS[draw % len(OPTIONS)] for draw in draws]


def _true_labels(ctx: StageContext, rows: Sequence[Row]) -> list[str | None]:
    """The pocket world's right option of each question, None where no option is right. With
    `vzero.arms.labelled_images` the one place that opens the ground truth before the evaluation."""
    path = ctx.inputs["images"] / "ground_truth.jsonl"
    if not path.exists():
        raise InputError(
            'labels = "truth" needs images whose questions have known answers, and these have none; '
            'use images.source = "pocket", or leave the arm supervised out.'
        )
    from vzero.pocket.ground_truth import truth
    from vzero.pocket.world import scene_from_json

    scenes = Known({row["image_id"]: scene_from_json(row["scene"]) for row in artefacts.read_rows(path)})
    return [truth(row["text"], scenes[row["image_id"]]).answer for row in rows]
