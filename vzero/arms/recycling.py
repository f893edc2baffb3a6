"""Which questions the Solver trains on where those of the Questioner's own training are not thrown away.

That training asks some thousand questions an iteration, and its reward pays the same frozen Solver for ten
votes on each: the pseudo-labels are there already. (The reward's votes follow `questioner.votes`, bought
labels `solver.votes`.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vzero import voting
from vzero.prompts import read_question
from vzero.runtime import artefacts
from vzero.runtime.stage import StageContext


def run(ctx: StageContext) -> dict[str, Any]:
    """Label the questions that the Questioner's training asked by the votes its reward paid for; writes
    `labels.jsonl`, those of the `label` stage first where there is one. Nothing is drawn.

    A question asked again of the same image counts once, by its first votes.
    """
    preset, iteration = ctx.preset, ctx.stage.iteration
    bought = artefacts.read_rows(ctx.inputs["labels"] / "labels.jsonl") if "labels" in ctx.inputs else []
    rollouts = artefacts.read_rows(ctx.inputs["rollouts"] / "rollouts.jsonl", "train-questioner")
    asked = [row for row in rollouts if row["votes"]]
    known = {(row["image_id"], row["text"]) for row in bought}
    recycled = []
    for row in asked:
        question = read_question(row["text"], row["finish_reason"], preset.prompt_format)
        if question is None or (row["prompt"], question.text) in known:
            continue
        known.add((row["prompt"], question.text))
        tally = voting.tally(row["votes"])
        label = {
            "question_id": question_id(iteration, row),
            "image_id": row["prompt"],
            "text": question.text,
            "intuitive": row["intuitive"],
            "votes": row["votes"],
            "answer": tally.answer,
            "confidence": tally.confidence,
            "kept": voting.keep(tally, preset.solver.keep_low, preset.solver.keep_high),
        }
        recycled.append(label)
    rows = [*bought, *recycled]
    artefacts.write_jsonl(ctx.folder / "labels.jsonl", rows)
    return {
        "asked": len(asked),
        "recycled": len(recycled),
        "bought": len(bought),
        "kept_recycled": sum(row["kept"] for row in recycled),
        "kept": sum(row["kept"] for row in rows),
    }


def question_id(iteration: int, rollout: Mapping[str, Any]) -> str:
    """Of a question out of `rollouts.jsonl`; no question that is written has such an id."""
    return f"{iteration}-{rollout['prompt']}-asked-{rollout['generation']}-{rollout['index']}"
