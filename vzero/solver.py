"""The Solver's two stages: vote on the questions and label those it neither knows nor guesses, then learn
from its own majority."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vzero import voting
from vzero.arms import defects
from vzero.arms.objectives import reward_of
from vzero.arms.own_reward import solver_reward
from vzero.config import SolverConfig
from vzero.images.records import load_records, open_image
from vzero.prompts import solver_messages
from vzero.rollout import bulk
from vzero.rollout.protocol import Request
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext

def run_labelling(ctx: StageContext) -> dict[str, Any]:
    """Let the frozen Solver vote on each valid question; writes `labels.jsonl` and `votes.jsonl`."""
    import torch

    from vzero.rollout.engines import open_solver

    preset, iteration = ctx.preset, ctx.stage.iteration
    torch.set_num_threads(preset.engine.threads)
    records = {record.image_id: record for record in load_records(ctx.inputs["images"])}
    written = artefacts.read_jsonl(ctx.inputs["questions"] / "questions.jsonl")
    questions = [row for row in written if row["valid"]]

    def request(question: dict[str, Any]) -> Request:
        return Request(
            solver_messages(preset.prompt_format, question["text"]),
            open_image(records[question["image_id"]]),
            derive(preset.seed, "label", iteration, question["question_id"]),
        )

    votes = preset.solver.votes
    replies = bulk.ask(
        open_solver(preset.engine, ctx.inputs["solver"]),
        questions,
        request,
        votes,
        chunk=max(1, preset.engine.batch_sequences // votes.n),
        log=ctx.work / "votes.jsonl",
        progress=ctx.progress,
        unit="questions",
    )
    read, count = defects.reader(preset.defects), defects.counter(preset.defects)
    answers = [[read(reply.text) for reply in given] for given in replies]
    labels = [
        _label(question, cast, count(cast), preset.solver)
        for question, cast in zip(questions, answers, strict=True)
    ]
    artefacts.write_jsonl(
        ctx.folder / "votes.jsonl",
        [
            {
                "question_id": question["question_id"],
                "index": index,
                "text": reply.text,
                "answer": answer,
                "finish_reason": reply.finish_reason,
                "tokens": reply.tokens,
            }
            for question, given, cast in zip(questions, replies, answers, strict=True)
            for index, (reply, answer) in enumerate(zip(given, cast, strict=True))
        ],
    )
    artefacts.write_jsonl(ctx.folder / "labels.jsonl", labels)
    return {
        "written": len(written),
        "valid": len(labels),
        "kept": sum(label["kept"] for label in labels),
        "mean_confidence": sum(label["confidence"] for label in labels) / len(labels) if labels else None,
        "tokens": sum(reply.tokens for given in replies for reply in given),
    }


def _label(
    question: dict[str, Any], votes: Sequence[str | None], tally: voting.Tally, config: SolverConfig
) -> dict[str, Any]:
    return {
        **{name: question[name] for name in ("question_id", "image_id", "text", "intuitive")},
        "votes": list(votes),
        "answer": tally.answer,
        "confidence": tally.confidence,
        "kept": voting.keep(tally, config.keep_low, config.keep_high),
    }


def run_training(ctx: StageContext) -> dict[str, Any]:
    """Train the Solver on the kept questions; writes `checkpoint/`, `metrics.jsonl`, `rollouts.jsonl`,
    `timings.jsonl`."""
    import torch

    from vzero.grpo.data import Prompt
    from vzero.grpo.train import Job, train

    preset = ctx.preset
    torch.set_num_threads(preset.engine.threads)
    if preset.solver.objective == "sft":
        from vzero.arms import sft

        return sft.run_training(ctx)
    records = {record.image_id: record for record in load_records(ctx.inputs["images"])}
    kept = [row for row in artefacts.read_jsonl(ctx.inputs["labels"] / "labels.jsonl") if row["kept"]]
    prompts = [
        Prompt(
            row["question_id"],
            solver_messages(preset.prompt_format, row["text"]),
            records[row["image_id"]],
            row["answer"],
        )
        for row in kept
    ]
    if preset.solver.reward_source is not None:
        reward = solver_reward(
            preset.solver.reward_source, {row["question_id"]: row.get("votes", ()) for row in kept}
        )
    else:
        reward = reward_of(preset.solver.objective, preset.seed, ctx.stage.iteration)
    return train(
        Job(
            "solver",
            ctx.stage.iteration,
            preset.seed,
            preset.solver.grpo,
            preset.engine,
            ctx.inputs["solver"],
            prompts,
            reward,
            ctx.folder,
            ctx.work,
            ctx.progress,
            strategy=preset.launch.strategy,
            lora=preset.lora,
            rollouts=preset.rollouts,
        )
    )
