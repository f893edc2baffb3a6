"""The Questioner's two stages: learn to ask what the frozen Solver finds neither easy nor hopeless, then write one question an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from vzero import artefacts, bulk, voting
from vzero.config import SamplingConfig
from vzero.grpo.groups import Group, Reward, Scores
from vzero.images import ImageRecord, load_records, open_image
from vzero.prompts import Question, has_control_tokens, parse_answer, parse_question, questioner_messages, solver_messages
from vzero.rewards import INVALID, dual_track
from vzero.rollout.protocol import Engine, Request
from vzero.seeding import derive
from vzero.stage import StageContext


def read_question(text: str, finish_reason: str, dialect: str) -> Question | None:
    """The question in one completion; None (invalid) when it was cut off, does not parse or would break the Solver's prompt."""
    question = parse_question(text) if finish_reason == "stop" else None
    return None if question is None or has_control_tokens(question.text, dialect) else question


def run_training(ctx: StageContext) -> dict[str, Any]:
    """Train the Questioner against the frozen Solver; writes `checkpoint/`, `metrics.jsonl`, `rollouts.jsonl`, `timings.jsonl`."""
    import torch

    from vzero.grpo.data import Prompt, image_opener
    from vzero.grpo.train import Job, train
    from vzero.rollout.engines import open_engine

    preset, iteration = ctx.preset, ctx.stage.iteration
    torch.set_num_threads(preset.engine.threads)
    settings = preset.questioner.grpo
    reward = vote_reward(
        engine=open_engine(preset.engine, ctx.inputs["solver"]),
        votes=preset.questioner.votes,
        dialect=preset.dialect,
        opener=image_opener(images_kept=2 * settings.prompts_per_generation),
        seed_of=lambda generation, key, index: derive(preset.seed, "questioner-vote", iteration, generation, key, index),
        keep=(preset.solver.keep_low, preset.solver.keep_high),
    )
    messages = questioner_messages(preset.dialect)
    prompts = [Prompt(record.image_id, messages, record) for record in load_records(ctx.inputs["images"])]
    return train(
        Job(
            "questioner",
            iteration,
            preset.seed,
            settings,
            preset.engine,
            ctx.inputs["questioner"],
            prompts,
            reward,
            ctx.folder,
            ctx.work,
            ctx.progress,
        )
    )


def vote_reward(
    engine: Engine,
    votes: SamplingConfig,
    dialect: str,
    opener: Callable[[ImageRecord], Image.Image],
    seed_of: Callable[[int, str, int], int],
    keep: tuple[float, float],
) -> Reward:
    """The dual-track reward, asking the Solver behind `engine`.

    Args:
        engine: the frozen Solver's; asked once a generation batch, one request a valid question.
        votes: `n` answers a question.
        dialect: of the Solver's prompt.
        opener: image of a record.
        seed_of: (generation, image id, index in the group) -> seed of a request.
        keep: bounds of the confidence filter, for the metric `would_keep` alone.

    The reward raises what the engine raises: a Solver that cannot be asked ends the stage and is never a reward.
    """

    def reward(groups: Sequence[Group], generation: int) -> Scores:
        asked: list[tuple[Question, Request]] = []
        where: list[tuple[int, int]] = []
        for g, group in enumerate(groups):
            for i, completion in enumerate(group.completions):
                question = read_question(completion.text, completion.finish_reason, dialect)
                if question is not None:
                    asked.append(
                        (
                            question,
                            Request(
                                solver_messages(dialect, question.text),
                                opener(group.prompt.image),
                                seed_of(generation, group.prompt.key, i),
                            ),
                        )
                    )
                    where.append((g, i))
        rollouts = engine.generate([request for _, request in asked], votes) if asked else []
        answers = [[parse_answer(one.text) for one in rollout.completions] for rollout in rollouts]
        rewards = [[INVALID] * len(group.completions) for group in groups]
        grounds: list[list[dict[str, Any]]] = [[{"votes": None, "intuitive": None} for _ in group.completions] for group in groups]
        for (g, i), (question, _), votes_cast in zip(where, asked, answers, strict=True):
            rewards[g][i] = dual_track(votes_cast, question.intuitive)
            grounds[g][i] = {"votes": votes_cast, "intuitive": question.intuitive}
        count = sum(len(group.completions) for group in groups)
        tokens = sum(len(one.token_ids) for rollout in rollouts for one in rollout.completions)
        return Scores(rewards, _metrics([question for question, _ in asked], answers, count, keep), tokens, grounds)

    return reward


def _metrics(
    questions: Sequence[Question], answers: Sequence[Sequence[str | None]], count: int, keep: tuple[float, float]
) -> dict[str, float | None]:
    """valid: share of all completions; the others are means over valid questions, None where there is none."""
    tallies = [voting.tally(votes) for votes in answers]
    return {
        "valid": len(questions) / count,
        "confidence": _mean([tally.confidence for tally in tallies]),
        "agreement": _mean([tally.answer == question.intuitive for tally, question in zip(tallies, questions, strict=True)]),
        "would_keep": _mean([voting.keep(tally, *keep) for tally in tallies]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def run_writing(ctx: StageContext) -> dict[str, Any]:
    """Write one question an image; writes `questions.jsonl`, invalid ones included."""
    import torch

    from vzero.rollout.engines import open_engine

    preset, iteration = ctx.preset, ctx.stage.iteration
    torch.set_num_threads(preset.engine.threads)
    records = load_records(ctx.inputs["images"])
    messages = questioner_messages(preset.dialect)
    sampling = preset.questioner.write.model_copy(update={"n": 1})
    replies = bulk.ask(
        open_engine(preset.engine, ctx.inputs["questioner"]),
        records,
        lambda record: Request(messages, open_image(record), derive(preset.seed, "write", iteration, record.image_id)),
        sampling,
        chunk=preset.engine.batch_sequences,
        log=ctx.work / "written.jsonl",
        progress=ctx.progress,
        unit="questions",
    )
    rows = [_row(iteration, record.image_id, reply, preset.dialect) for record, (reply,) in zip(records, replies, strict=True)]
    artefacts.write_jsonl(ctx.folder / "questions.jsonl", rows)
    return {
        "questions": len(rows),
        "valid": sum(row["valid"] for row in rows),
        "truncated": sum(row["finish_reason"] == "length" for row in rows),
        "tokens": sum(row["tokens"] for row in rows),
    }


def _row(iteration: int, image_id: str, reply: bulk.Reply, dialect: str) -> dict[str, Any]:
    question = read_question(reply.text, reply.finish_reason, dialect)
    return {
        "question_id": f"{iteration}-{image_id}",
        "image_id": image_id,
        "raw": reply.text,
        "finish_reason": reply.finish_reason,
        "tokens": reply.tokens,
        "valid": question is not None,
        "description": question.description if question else None,
        "text": question.text if question else None,
        "intuitive": question.intuitive if question else None,
    }
