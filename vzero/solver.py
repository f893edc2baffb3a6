"""The Solver's two stages: vote on the questions and label those it neither knows nor guesses, then learn
from its own majority."""

from __future__ import annotations

from typing import Any

from vzero import voting
from vzero.arms import defects
from vzero.arms.objectives import reward_of
from vzero.arms.solver_votes import Poll, solver_votes, tokens_of
from vzero.images.records import records_by_id
from vzero.prompts import solver_messages
from vzero.rollout import bulk
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext


def run_labelling(ctx: StageContext) -> dict[str, Any]:
    """Let the frozen Solver vote on each valid question; writes `labels.jsonl` and `votes.jsonl`."""
    preset, config = ctx.preset, ctx.preset.solver
    written = artefacts.read_rows(ctx.inputs["questions"] / "questions.jsonl")
    questions = [row for row in written if row["valid"]]
    seeds = (derive(preset.seed, "label", ctx.stage.iteration, row["question_id"]) for row in questions)
    polls = [Poll(row["text"], row["image_id"], seed) for row, seed in zip(questions, seeds, strict=True)]
    replies = solver_votes(ctx, polls, "votes.jsonl")
    read, count = defects.reader(preset.defects), defects.counter(preset.defects)
    labels, votes = [], []
    for question, given in zip(questions, replies, strict=True):
        if not given:  # dropped, and counted below
            continue
        answers = [read(reply.text) for reply in given]
        tally = count(answers)
        labels.append(
            {
                **{name: question[name] for name in ("question_id", "image_id", "text", "intuitive")},
                "votes": answers,
                "answer": tally.answer,
                "confidence": tally.confidence,
                "kept": voting.keep(tally, config.keep_low, config.keep_high),
            }
        )
        votes += [
            {
                "question_id": question["question_id"],
                "index": index,
                "text": reply.text,
                "answer": answer,
                "finish_reason": reply.finish_reason,
                "tokens": reply.tokens,
            }
            for index, (reply, answer) in enumerate(zip(given, answers, strict=True))
        ]
    artefacts.write_jsonl(ctx.folder / "votes.jsonl", votes)
    artefacts.write_jsonl(ctx.folder / "labels.jsonl", labels)
    return {
        "written": len(written),
        "valid": len(questions),
        "kept": sum(label["kept"] for label in labels),
        "mean_confidence": sum(label["confidence"] for label in labels) / len(labels) if labels else None,
        "tokens": tokens_of(replies),
        **bulk.lost(replies, preset.engine.thinking),
    }


def run_training(ctx: StageContext) -> dict[str, Any]:
    """Train the Solver on the kept questions; writes `checkpoint/` and the trainer's logs."""
    import torch

    from vzero.arms import sft
    from vzero.grpo.data import Prompt, fitting_prompts
    from vzero.grpo.train import Job, train

    preset, config = ctx.preset, ctx.preset.solver
    torch.set_num_threads(preset.engine.threads)
    if config.objective == "sft":
        return sft.run_training(ctx)
    records = records_by_id(ctx.inputs["images"])
    kept = [row for row in artefacts.read_rows(ctx.inputs["labels"] / "labels.jsonl") if row["kept"]]
    prompts = []
    for row in kept:
        messages = solver_messages(preset.prompt_format, row["text"])
        prompts.append(Prompt(row["question_id"], messages, records[row["image_id"]], row["answer"]))
    reward = reward_of(config, preset.seed, ctx.stage.iteration, kept)
    prompts, too_long = fitting_prompts(ctx, "solver", prompts)
    return {**train(Job.of_stage(ctx, "solver", prompts, reward)), **too_long}
