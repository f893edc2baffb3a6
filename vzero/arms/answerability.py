"""Whether a question has an answer, judged without a label: the majority must follow its moved option.

The frozen Solver votes again on each kept question with the options moved on by one place (A's text to B,
..., D's to A). Where one option is right, both votes find its text; where none is, or two are, the majorities
agree as seldom as two draws do. Ours; that a trustworthy answer survives a permutation of the options is
Pezeshkpour and Hruschka's idea (arXiv 2308.11483). It costs another `votes.n` answers per kept question, and
it also drops hard questions that do have an answer; the ground truth of a pocket run says how many.
"""

from __future__ import annotations

from typing import Any

from vzero import voting
from vzero.arms.solver_votes import Poll, solver_votes, tokens_of
from vzero.parsing import OPTION_MARKS, OPTIONS, option_texts
from vzero.prompts import parse_answer
from vzero.rollout import bulk
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext


def rotate_options(text: str) -> str | None:
    """`text` with the content of A) at B), of B) at C), of C) at D) and of D) at A).

    None unless the marks A) B) C) D) stand in this order, each once and with something behind it.
    """
    parts = option_texts(text) or ()
    bodies = [part.strip() for part in parts]
    if not parts or not all(bodies):
        return None
    moved = [bodies[-1], *bodies[:-1]]
    # Only the body of a part is exchanged: the spaces around it stay.
    pieces = [part.replace(old, new, 1) for part, old, new in zip(parts, bodies, moved, strict=True)]
    return text[: text.index(OPTION_MARKS[0])] + "".join(
        mark + piece for mark, piece in zip(OPTION_MARKS, pieces, strict=True)
    )


def run(ctx: StageContext) -> dict[str, Any]:
    """Ask again about every kept question; writes `checks.jsonl`, a row for each labelled one."""
    labels = artefacts.read_rows(ctx.inputs["labels"] / "labels.jsonl")
    polls = {}
    for row in labels:
        if row["kept"] and (text := rotate_options(row["text"])) is not None:
            name = row["question_id"]
            seed = derive(ctx.preset.seed, "check-options", ctx.stage.iteration, name)
            polls[name] = Poll(text, row["image_id"], seed)
    replies = solver_votes(ctx, list(polls.values()), "checks.jsonl")
    votes = {
        name: [parse_answer(reply.text) for reply in given]
        for name, given in zip(polls, replies, strict=True)
    }
    rows = [_check(row, votes.get(row["question_id"])) for row in labels]
    artefacts.write_jsonl(ctx.folder / "checks.jsonl", rows)
    return {
        "checked": len(polls),
        "answerable": sum(row["answerable"] for row in rows),
        "tokens": tokens_of(replies),
        **bulk.lost(replies, ctx.preset.engine.thinking),
    }


def _check(label: dict[str, Any], votes: list[str | None] | None) -> dict[str, Any]:
    """`answer` is the majority of the second votes, as an option of the question as first asked."""
    found = voting.tally(votes or [])
    answer = None if found.answer is None else OPTIONS[(OPTIONS.index(found.answer) - 1) % len(OPTIONS)]
    return {
        "question_id": label["question_id"],
        "votes": votes,
        "answer": answer,
        "confidence": found.confidence,
        "answerable": answer is not None and answer == label["answer"],
    }
