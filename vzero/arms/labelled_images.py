"""The defect "label-selection": images are chosen by true answers, in a method that claims to need none.

Public code lets the base answer the question that came with each image, grades it by the answer that came
with it, and trains on the images where it was right between a tenth and nine tenths of the time
(utils/dataset_select.py and the 3B script of SatonoDia/V-Zero at 73d156a, `0.1 <= acc <= 0.9`). Here the
pocket world plays the annotator: one question with an answer for each scene.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from vzero.errors import InputError
from vzero.images.records import load_records, open_image
from vzero.prompts import parse_answer, solver_messages
from vzero.rollout import bulk
from vzero.rollout.protocol import Request
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
    import torch

    from vzero.rollout.engines import open_solver

    preset, source = ctx.preset, ctx.inputs["images"]
    torch.set_num_threads(preset.engine.threads)
    annotated = annotate(source, preset.seed)
    records = [record for record in load_records(source) if record.image_id in annotated]
    votes = preset.solver.votes
    replies = bulk.ask(
        open_solver(preset.engine, ctx.inputs["solver"]),
        records,
        lambda record: Request(
            solver_messages(preset.prompt_format, annotated[record.image_id][0]),
            open_image(record),
            derive(preset.seed, "label-selection", record.image_id),
        ),
        votes,
        chunk=max(1, preset.engine.batch_sequences // votes.n),
        log=ctx.work / "graded.jsonl",
        progress=ctx.progress,
        unit="images",
    )
    graded = []
    for record, given in zip(records, replies, strict=True):
        question, gold = annotated[record.image_id]
        right = sum(parse_answer(reply.text) == gold for reply in given) / len(given)
        graded.append(
            {
                "image_id": record.image_id,
                "question": question,
                "gold": gold,
                "right": right,
                "chosen": LOW <= right <= HIGH,
            }
        )
    chosen = {row["image_id"] for row in graded if row["chosen"]}
    if not chosen:
        raise InputError(
            "The defect label-selection chose none of the images; the base is nearly always right or nearly always wrong."
        )
    rows = [row for row in artefacts.read_jsonl(source / "images.jsonl") if row["image_id"] in chosen]
    artefacts.write_jsonl(
        ctx.folder / "images.jsonl", [{**row, "path": f"../{source.name}/{row['path']}"} for row in rows]
    )
    artefacts.write_jsonl(ctx.folder / "graded.jsonl", graded)
    return {
        "graded": len(graded),
        "chosen": len(rows),
        "tokens": sum(reply.tokens for given in replies for reply in given),
    }


def annotate(images: Path, seed: int) -> dict[str, tuple[str, str]]:
    """image_id -> a question about it and its right option, from the scenes that the pocket world keeps: of a
    family that the scene can answer, each equally likely.

    Raises:
        InputError: the images have no truth beside them.
    """
    if not (images / "ground_truth.jsonl").exists():
        raise InputError(
            "The defect label-selection needs images with true answers, which only the pocket world has here."
        )
    from vzero.pocket.families import one_about
    from vzero.pocket.world import scene_from_json

    found = {}
    for row in artefacts.read_jsonl(images / "ground_truth.jsonl"):
        rng = random.Random(derive(seed, "annotate", row["image_id"]))
        asked = one_about(rng, scene_from_json(row["scene"]))
        if asked is not None:
            found[row["image_id"]] = (asked.text, asked.gold)
    return found
