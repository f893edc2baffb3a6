"""The questions of an iteration and their labels, wherever an arm has them from."""

from __future__ import annotations

from harness.runs.sealed import Row, Run, SealedStage
from vzero.arms.recycling import question_id
from vzero.prompts import read_question
from vzero.selfplay import plan


def questions_of(run: Run, iteration: int) -> list[Row] | None:
    """Rows of `questions.jsonl`; of an arm that writes none and recycles, in the same form, all that the
    Questioner's training asked. None before there are any."""
    written = run.of_iteration("write-questions", iteration)
    return recycled_of(run, iteration) if written is None else written.rows("questions.jsonl")


def recycled_of(run: Run, iteration: int) -> list[Row] | None:
    """All that the Questioner's training asked, in the form of `questions.jsonl`; None where nothing is
    recycled."""
    recycled = run.of_iteration("recycle", iteration)
    if recycled is None:
        return None
    asked = run.stages[recycled.stage.inputs["rollouts"]].rows("rollouts.jsonl")
    return [_question(run, iteration, row) for row in asked]


def labelled_of(run: Run, iteration: int) -> SealedStage | None:
    """The stage whose `labels.jsonl` says what the votes made of them: the votes that were bought, or the
    recycled ones where none were."""
    return run.of_iteration("label", iteration) or run.of_iteration("recycle", iteration)


def trained_of(run: Run, iteration: int) -> SealedStage | None:
    """The stage whose `labels.jsonl` the Solver's training reads: in `answer` the labels, in `kept` which
    questions it trains on, whichever stage chose them. None before there are any."""
    training = (one for one in plan(run.preset) if one.kind == "train-solver" and one.iteration == iteration)
    return next((run.stages.get(one.inputs["labels"]) for one in training), None)


def _question(run: Run, iteration: int, row: Row) -> Row:
    found = read_question(row["text"], row["finish_reason"], run.preset.prompt_format)
    return {
        "question_id": question_id(iteration, row),
        "image_id": row["prompt"],
        "raw": row["text"],
        "finish_reason": row["finish_reason"],
        "tokens": row["tokens"],
        "valid": found is not None and row["votes"] is not None,
        "description": found.description if found else None,
        "text": found.text if found else None,
        "intuitive": row["intuitive"],
    }
