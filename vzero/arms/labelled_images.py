"""The defect "label_selection": images are chosen by true answers, in a method that claims to need none.

Public code lets the base answer the question that came with each image and trains on the images where it was
right 0.1 to 0.9 of the time (utils/dataset_select.py and the 3B script of SatonoDia/V-Zero at 73d156a). Here
the pocket world plays the annotator: one question with an answer for each scene.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from vzero.arms.solver_votes import Poll, solver_votes, tokens_of
from vzero.errors import InputError
from vzero.prompts import parse_answer
from vzero.rollout import bulk
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext

LOW, HIGH = 0.1, 0.9


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `images.jsonl`, the chosen rows, and `graded.jsonl`: question, gold and the base's share of right
    answers for every image.

    Raises:
        InputError: images without true answers, or none that is chosen.
    """
    source, seed = ctx.inputs["images"], ctx.preset.seed
    rows = artefacts.read_rows(source / "images.jsonl")
    annotated = annotate(source, seed)
    ids = [row["image_id"] for row in rows if row["image_id"] in annotated]
    polls = [Poll(annotated[one][0], one, derive(seed, "label-selection", one)) for one in ids]
    replies = solver_votes(ctx, polls, "graded.jsonl", "images")
    graded = []
    for image_id, given in zip(ids, replies, strict=True):
        if not given:  # dropped, and counted below
            continue
        question, gold = annotated[image_id]
        right = sum(parse_answer(reply.text) == gold for reply in given) / len(given)
        graded.append(
            {
                "image_id": image_id,
                "question": question,
                "gold": gold,
                "right": right,
                "chosen": LOW <= right <= HIGH,
            }
        )
    chosen = {row["image_id"] for row in graded if row["chosen"]}
    if not chosen:
        raise InputError(
            "The defect label_selection chose none of the images; the base is nearly always right or nearly"
            " always wrong."
        )
    kept = [{**row, "path": f"../{source.name}/{row['path']}"} for row in rows if row["image_id"] in chosen]
    artefacts.write_jsonl(ctx.folder / "images.jsonl", kept)
    artefacts.write_jsonl(ctx.folder / "graded.jsonl", graded)
    return {
        "graded": len(graded),
        "chosen": len(kept),
        "tokens": tokens_of(replies),
        **bulk.lost(replies, ctx.preset.engine.thinking),
    }


def annotate(images: Path, seed: int) -> dict[str, tuple[str, str]]:
    """image_id -> a question about it and its right option, of a family that the scene can answer.

    Raises:
        InputError: the images have no ground truth beside them.
    """
    if not (images / "ground_truth.jsonl").exists():
        raise InputError(
            "The defect label_selection needs images with true answers, which only the pocket world has here."
        )
    from vzero.pocket.families import ask_any
    from vzero.pocket.world import scene_from_json

    found = {}
    for row in artefacts.read_rows(images / "ground_truth.jsonl"):
        rng = random.Random(derive(seed, "annotate", row["image_id"]))
        question = ask_any(rng, scene_from_json(row["scene"]))
        if question is not None:
            found[row["image_id"]] = (question.text, question.gold)
    return found
