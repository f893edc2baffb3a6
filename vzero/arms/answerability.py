"""Whether a question has an answer, judged without a label: does the Solver's majority follow its option when
the options change places?

The frozen Solver votes again on each question the filter keeps, with the options moved on by one place (A's
text to B, ..., D's to A). Where one option is right, both votes find its text. Where none is, or two are, the
votes have nothing to hold on to but places and luck, and the two majorities agree as seldom as two draws do.
Ours; the idea that a trustworthy answer survives a permutation of the options is Pezeshkpour and Hruschka's
(arXiv 2308.11483). It costs another `votes.n` answers for each kept question, and it also drops hard
questions that do have an answer: how many of either, the shadow measures of a pocket run say.
"""

from __future__ import annotations

from typing import Any

from vzero import voting
from vzero.images.records import load_records, open_image
from vzero.parsing import OPTION_MARKS, OPTIONS
from vzero.prompts import parse_answer, solver_messages
from vzero.rollout import bulk
from vzero.rollout.protocol import Request
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext


def rotate_options(text: str) -> str | None:
    """`text` with the content of A) at B), of B) at C), of C) at D) and of D) at A).

    None where the marks A) B) C) D) do not stand in this order, each once and with something behind it: then
    it cannot be told what an option is.
    """
    starts = [text.find(mark) for mark in OPTION_MARKS]
    if min(starts) < 0 or starts != sorted(starts) or any(text.count(mark) != 1 for mark in OPTION_MARKS):
        return None
    ends = [*starts[1:], len(text)]
    parts = [
        text[start + len(mark) : end] for start, mark, end in zip(starts, OPTION_MARKS, ends, strict=True)
    ]
    bodies = [part.strip() for part in parts]
    if not all(bodies):
        return None
    moved = [bodies[-1], *bodies[:-1]]
    pieces = [
        part.replace(old, new, 1) for part, old, new in zip(parts, bodies, moved, strict=True)
    ]  # the spaces around stay
    return text[: starts[0]] + "".join(mark + piece for mark, piece in zip(OPTION_MARKS, pieces, strict=True))


def run(ctx: StageContext) -> dict[str, Any]:
    """Ask again about every kept question; writes `checks.jsonl`, a row for each labelled one, `answerable`
    false where not asked."""
    import torch

    from vzero.rollout.engines import open_solver

    preset, iteration = ctx.preset, ctx.stage.iteration
    torch.set_num_threads(preset.engine.threads)
    records = {record.image_id: record for record in load_records(ctx.inputs["images"])}
    labels = artefacts.read_jsonl(ctx.inputs["labels"] / "labels.jsonl")
    rotated = {
        row["question_id"]: text
        for row in labels
        if row["kept"] and (text := rotate_options(row["text"])) is not None
    }
    asked = [row for row in labels if row["question_id"] in rotated]

    def request(row: dict[str, Any]) -> Request:
        name = row["question_id"]
        seed = derive(preset.seed, "check-options", iteration, name)
        return Request(
            solver_messages(preset.prompt_format, rotated[name]), open_image(records[row["image_id"]]), seed
        )

    votes = preset.solver.votes
    replies = bulk.ask(
        open_solver(preset.engine, ctx.inputs["solver"]),
        asked,
        request,
        votes,
        chunk=max(1, preset.engine.batch_sequences // votes.n),
        log=ctx.work / "checks.jsonl",
        progress=ctx.progress,
        unit="questions",
    )
    cast = {
        row["question_id"]: [parse_answer(one.text) for one in given]
        for row, given in zip(asked, replies, strict=True)
    }
    rows = [_row(row, cast.get(row["question_id"])) for row in labels]
    artefacts.write_jsonl(ctx.folder / "checks.jsonl", rows)
    return {
        "checked": len(asked),
        "answerable": sum(row["answerable"] for row in rows),
        "tokens": sum(one.tokens for given in replies for one in given),
    }


def _row(label: dict[str, Any], votes: list[str | None] | None) -> dict[str, Any]:
    """`answer` is the majority of the second votes, as an option of the question as it was first asked."""
    found = voting.tally(votes or [])
    answer = None if found.answer is None else OPTIONS[(OPTIONS.index(found.answer) - 1) % len(OPTIONS)]
    return {
        "question_id": label["question_id"],
        "votes": votes,
        "answer": answer,
        "confidence": found.confidence,
        "answerable": answer is not None and answer == label["answer"],
    }
