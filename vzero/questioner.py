"""The Questioner's two stages: learn to ask what the frozen Solver finds neither easy nor hopeless, then
write one question per image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from vzero.arms.questioner_rewards import reward_of
from vzero.arms.vote_reward import Entropies, RewardSpec, VoteReward
from vzero.grpo.data import Prompt
from vzero.grpo.group_sharding import GroupSharding
from vzero.images.records import ImageRecord, load_records, open_image
from vzero.prompts import Question, questioner_messages, read_question
from vzero.rollout import bulk
from vzero.rollout.ahead import AskedAhead
from vzero.rollout.protocol import Engine, Request
from vzero.runtime import artefacts, processes
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext

TOO_LONG = bulk.Reply("", "context", 0)  # of an image that leaves a question no room
Read = Callable[[str, str], Question | None]  # of a reply and its finish reason


def run_training(ctx: StageContext) -> dict[str, Any]:
    """Train the Questioner against the frozen Solver; writes `checkpoint/` and the trainer's logs."""
    import torch

    from vzero.grpo.data import fitting_prompts, image_opener
    from vzero.grpo.settings import plan_batches
    from vzero.grpo.train import Job, train
    from vzero.rollout.engines import open_engine, open_solver
    from vzero.rollout.vocabulary import read_vocabulary

    preset, iteration = ctx.preset, ctx.stage.iteration
    torch.set_num_threads(preset.engine.threads)
    settings = preset.questioner.grpo
    engine, base = open_solver(preset.engine, ctx.inputs["solver"]), ctx.inputs.get("intuition")
    if preset.engine.name == "server" or preset.engine.urls:  # answers while this process draws
        engine = AskedAhead(engine)
    intuition = None
    if base is not None:
        intuition = engine if base == ctx.inputs["solver"] else open_engine(preset.engine, base)
    messages = questioner_messages(preset.prompt_format)
    every = [Prompt(record.image_id, messages, record) for record in load_records(ctx.inputs["images"])]
    prompts, too_long = fitting_prompts(ctx, "questioner", every)
    here = processes.world()
    reward = VoteReward(
        engine=engine,
        votes=preset.questioner.votes,
        prompt_format=preset.prompt_format,
        opener=image_opener(images_kept=2 * settings.prompts_per_generation),
        seed_of=lambda *place: derive(preset.seed, "questioner-vote", iteration, *place),
        keep=(preset.solver.keep_low, preset.solver.keep_high),
        spec=RewardSpec(
            reward_of(preset.questioner),
            preset.questioner.votes_see == "image",
            intuition,
            _entropies(engine, preset.questioner.token_entropies),
        ),
        sharding=GroupSharding(plan_batches(settings, len(prompts), here.size).steps_per_generation, here),
        breaks_prompt=read_vocabulary(ctx.inputs["solver"], preset.engine.thinking).breaks_prompt,
    )
    return {**train(Job.of_stage(ctx, "questioner", prompts, reward, ahead=reward.begin)), **too_long}


def _entropies(engine: Engine, tokens: int) -> Entropies | None:
    from vzero.rollout.forks import ForkedEngine
    from vzero.rollout.transformers_engine import TransformersEngine

    if not tokens:
        return None
    engine = engine.engine if isinstance(engine, ForkedEngine) else engine
    assert isinstance(engine, TransformersEngine)  # as the preset's validation says
    return partial(engine.greedy_entropies, tokens=tokens)


def run_writing(ctx: StageContext) -> dict[str, Any]:
    """Write `per_image` questions about each image; writes `questions.jsonl`, invalid ones included."""
    import torch

    from vzero.rollout.engines import open_engine
    from vzero.rollout.vocabulary import read_vocabulary

    preset, iteration = ctx.preset, ctx.stage.iteration
    torch.set_num_threads(preset.engine.threads)
    messages = questioner_messages(preset.prompt_format)
    records = load_records(ctx.inputs["images"])
    places = [(record, index) for index in range(preset.questioner.per_image) for record in records]

    def request(place: tuple[ImageRecord, int]) -> Request:
        record, index = place
        parts = [record.image_id, index] if index else [record.image_id]
        return Request(messages, open_image(record), derive(preset.seed, "write", iteration, *parts))

    replies = bulk.ask(
        open_engine(preset.engine, ctx.inputs["questioner"]),
        places,
        request,
        preset.questioner.write.model_copy(update={"n": 1}),
        log=ctx.work / "written.jsonl",
        progress=ctx.progress,
        unit="questions",
    )
    vocabulary = read_vocabulary(ctx.inputs["questioner"], preset.engine.thinking)
    breaks_prompt = vocabulary.breaks_prompt  # the Solver's: one base of both
    read = partial(read_question, prompt_format=preset.prompt_format, breaks_prompt=breaks_prompt)
    rows = [
        _row(iteration, record.image_id, given[0] if given else TOO_LONG, read, index)
        for (record, index), given in zip(places, replies, strict=True)
    ]
    artefacts.write_jsonl(ctx.folder / "questions.jsonl", rows)
    return {
        "questions": len(rows),
        "valid": sum(row["valid"] for row in rows),
        "truncated": sum(row["finish_reason"] == "length" for row in rows),
        **bulk.lost(replies, preset.engine.thinking),
        "tokens": sum(row["tokens"] for row in rows),
    }


def _row(iteration: int, image_id: str, reply: bulk.Reply, read: Read, index: int = 0) -> dict[str, Any]:
    """`index` counts the questions about one image from 0."""
    question = read(reply.text, reply.finish_reason)
    return {
        "question_id": f"{iteration}-{image_id}" + (f"-{index}" if index else ""),
        "image_id": image_id,
        "raw": reply.text,
        "finish_reason": reply.finish_reason,
        "tokens": reply.tokens,
        "valid": question is not None,
        "description": question.description if question else None,
        "text": question.text if question else None,
        "intuitive": question.intuitive if question else None,
    }
