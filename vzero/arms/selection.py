"""Which questions the Solver trains on and with which labels, where that is not what the votes and the filter
say by themselves.

Pure: it reads what earlier stages wrote, draws no tokens and writes a `labels.jsonl` of the same form. Arms
that differ only here share every stage before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vzero.errors import InputError
from vzero.parsing import OPTIONS
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext

Row = dict[str, Any]


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `labels.jsonl`: `answer` is what the Solver is trained on, `kept` whether it is trained on this
    question at all.

    Raises:
        InputError: labels "truth" for images without true answers.
    """
    solver, seed, iteration = ctx.preset.solver, ctx.preset.seed, ctx.stage.iteration
    rows = _with_labels(ctx) if "labels" in ctx.inputs else _without_votes(ctx)
    if "checks" in ctx.inputs:
        fit = {
            row["question_id"]: row["answerable"]
            for row in artefacts.read_jsonl(ctx.inputs["checks"] / "checks.jsonl")
        }
        rows = [{**row, "kept": row["kept"] and fit[row["question_id"]]} for row in rows]

    def lot(row: Row) -> int:
        return derive(seed, "select", iteration, row["question_id"])

    # True answers exist for fewer questions than the filter keeps: the others make up the number, so that
    # steps can be equal.
    fills = solver.labels == "truth" and solver.filter == "confidence"
    candidates = [
        row for row in rows if row["answer"] is not None and (row["kept"] or fills or solver.filter == "none")
    ]
    if solver.labels == "none":
        candidates = rows
    limit = ctx.stage.config.get("at_most")
    if limit is None and fills:
        limit = sum(row["kept"] for row in rows)
    ordered = sorted(candidates, key=lambda row: (fills and not row["kept"], lot(row)))
    chosen = {row["question_id"] for row in ordered[:limit]}
    artefacts.write_jsonl(
        ctx.folder / "labels.jsonl", [{**row, "kept": row["question_id"] in chosen} for row in rows]
    )
    return {"valid": len(rows), "candidates": len(candidates), "kept": len(chosen), "at_most": limit}


def _with_labels(ctx: StageContext) -> list[Row]:
    rows = artefacts.read_jsonl(ctx.inputs["labels"] / "labels.jsonl")
    label = _LABELS[ctx.preset.solver.labels](ctx, rows)
    return [{**row, "answer": label[row["question_id"]]} for row in rows]


def _without_votes(ctx: StageContext) -> list[Row]:
    written = artefacts.read_jsonl(ctx.inputs["questions"] / "questions.jsonl")
    names = ("question_id", "image_id", "text", "intuitive")
    return [
        {**{name: row[name] for name in names}, "votes": [], "answer": None, "confidence": None, "kept": True}
        for row in written
        if row["valid"]
    ]


def _majority(ctx: StageContext, rows: Sequence[Row]) -> dict[str, str | None]:
    return {row["question_id"]: row["answer"] for row in rows}


def random_labels(seed: int, iteration: int, rows: Sequence[Row]) -> dict[str, str]:
    """One of A-D for each question, equally likely and independent of the votes."""
    return {
        row["question_id"]: OPTIONS[
            derive(seed, "random-label", iteration, row["question_id"]) % len(OPTIONS)
        ]
        for row in rows
    }


def _random(ctx: StageContext, rows: Sequence[Row]) -> dict[str, str]:
    return random_labels(ctx.preset.seed, ctx.stage.iteration, rows)


def _truth(ctx: StageContext, rows: Sequence[Row]) -> dict[str, str | None]:
    """The pocket world's right option of each question, None where no option is right. With
    `vzero.arms.labelled_images` the one place where the shadow is opened before the evaluation."""
    path = ctx.inputs["images"] / "ground_truth.jsonl"
    if not path.exists():
        raise InputError(
            'labels = "truth" needs images whose questions have known answers, and these have none; '
            'use images.source = "pocket", or leave the arm supervised out.'
        )
    from vzero.pocket.ground_truth import truth
    from vzero.pocket.world import scene_from_json

    scenes = {row["image_id"]: row["scene"] for row in artefacts.read_jsonl(path)}
    return {
        row["question_id"]: truth(row["text"], scene_from_json(scenes[row["image_id"]])).answer
        for row in rows
    }


_LABELS: Mapping[str, Callable[[StageContext, Sequence[Row]], Mapping[str, str | None]]] = {
    "majority": _majority,
    "random": _random,
    "truth": _truth,
}
