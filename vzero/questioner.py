"""The Questioner's two stages: learn to ask what the frozen Solver finds neither easy nor hopeless, then
write one question an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from PIL import Image

from vzero import voting
from vzero.arms.own_reward import reward_of
from vzero.arms.questioner_rewards import REWARDS, QuestionerReward, ScoredQuestion
from vzero.config import SamplingConfig
from vzero.grpo.data import Prompt
from vzero.grpo.group_sharding import GroupSharding
from vzero.grpo.groups import Group, Scores
from vzero.images.records import ImageRecord, load_records, open_image
from vzero.prompts import (
    Question,
    has_control_tokens,
    parse_answer,
    parse_question,
    questioner_messages,
    solver_messages,
)
from vzero.rollout import bulk
from vzero.rollout.ahead import AskedAhead
from vzero.rollout.protocol import Engine, Request, Rollout
from vzero.runtime import artefacts, processes
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext

T = TypeVar("T")


def read_question(text: str, finish_reason: str, prompt_format: str) -> Question | None:
    """The question in one completion; None (invalid) when it was cut off, does not parse or would break the
    Solver's prompt."""
    question = parse_question(text) if finish_reason == "stop" else None
    return None if question is None or has_control_tokens(question.text, prompt_format) else question


@dataclass(frozen=True)
class RewardSpec:
    """What a question is paid and what is asked to find out; the defaults are V-Zero's.

    Attributes:
        reward: of (question, intuitive answer, votes), for a whole generation batch.
        votes_see_image: whether the frozen Solver is shown the image; without it, it votes on the text alone.
        intuition: a frozen model whose one greedy answer, given as a Solver, is the intuitive one; None takes
            the Questioner's own.
    """

    reward: QuestionerReward = REWARDS["dual_track"]
    votes_see_image: bool = True
    intuition: Engine | None = None


def run_training(ctx: StageContext) -> dict[str, Any]:
    """Train the Questioner against the frozen Solver; writes `checkpoint/`, `metrics.jsonl`,
    `rollouts.jsonl`, `timings.jsonl`."""
    import torch

    from vzero.grpo.data import image_opener
    from vzero.grpo.settings import plan_batches
    from vzero.grpo.train import Job, train
    from vzero.rollout.engines import open_engine, open_solver

    preset, iteration = ctx.preset, ctx.stage.iteration
    torch.set_num_threads(preset.engine.threads)
    settings = preset.questioner.grpo
    engine, base = open_solver(preset.engine, ctx.inputs["solver"]), ctx.inputs.get("intuition")
    if preset.engine.name == "server" or preset.engine.urls:  # answers while this process draws
        engine = AskedAhead(engine)
    intuition = (
        engine if base == ctx.inputs["solver"] else None if base is None else open_engine(preset.engine, base)
    )
    messages = questioner_messages(preset.prompt_format)
    prompts = [Prompt(record.image_id, messages, record) for record in load_records(ctx.inputs["images"])]
    here = processes.world()
    reward = VoteReward(
        engine=engine,
        votes=preset.questioner.votes,
        prompt_format=preset.prompt_format,
        opener=image_opener(images_kept=2 * settings.prompts_per_generation),
        seed_of=lambda generation, key, index: derive(
            preset.seed, "questioner-vote", iteration, generation, key, index
        ),
        keep=(preset.solver.keep_low, preset.solver.keep_high),
        pay=RewardSpec(reward_of(preset.questioner), preset.questioner.votes_see == "image", intuition),
        deal=GroupSharding(plan_batches(settings, len(prompts), here.size).steps_per_generation, here),
    )
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
            ahead=reward.begin,
            strategy=preset.launch.strategy,
            lora=preset.lora,
            rollouts=preset.rollouts,
        )
    )


@dataclass(frozen=True)
class VoteReward:
    """The Questioner's reward, asking the Solver behind `engine`.

    Attributes:
        engine: the frozen Solver's; asked one request a valid question.
        votes: `n` answers a question.
        prompt_format: of the Solver's prompt.
        opener: image of a record.
        seed_of: (generation, image id, index in the group) -> seed of a request.
        keep: bounds of the confidence filter, for the metric `would_keep` alone.
        pay: what is paid.
        deal: of a generation batch to several processes: each asks about its own questions, and all are paid
            as one batch.

    It raises what the engine raises: a Solver that cannot be asked ends the stage and is never a reward.
    """

    engine: Engine
    votes: SamplingConfig
    prompt_format: str
    opener: Callable[[ImageRecord], Image.Image]
    seed_of: Callable[[int, str, int], int]
    keep: tuple[float, float]
    pay: RewardSpec = RewardSpec()
    deal: GroupSharding = field(default_factory=GroupSharding)

    def __call__(self, groups: Sequence[Group], generation: int) -> Scores:
        """See `vzero.grpo.groups.Reward`."""
        read = self._read(groups)
        requests = self._requests(read, generation)
        rollouts = self.engine.generate(self._shown(requests), self.votes) if requests else []
        intuition = self.pay.intuition
        firsts = _first_answers(intuition, requests, self.votes) if intuition and requests else []
        valid = [question for _, _, question in read if question is not None]
        intuitive = (
            [parse_answer(one.completions[0].text) for one in firsts]
            if firsts
            else [question.intuitive for question in valid]
        )
        asked = [
            ScoredQuestion(question.text, own, tuple(parse_answer(one.text) for one in rollout.completions))
            for question, own, rollout in zip(valid, intuitive, rollouts, strict=True)
        ]
        rest = iter(asked)
        paid = [None if question is None else next(rest) for _, _, question in read]
        batch = self.deal.all_gather(paid)
        values = self.deal.shard(self.pay.reward.score(batch))
        tokens = sum(len(one.token_ids) for rollout in (*rollouts, *firsts) for one in rollout.completions)
        reward_inputs = _by_group([_grounds(one) for one in paid], groups)
        everyone = [one for one in batch if one is not None]
        return Scores(
            _by_group(values, groups), _metrics(everyone, len(batch), self.keep), tokens, reward_inputs
        )

    def begin(self, groups: Sequence[Group], generation: int) -> None:
        """Let a Solver that can be asked ahead vote on the first groups of a generation batch."""
        if isinstance(self.engine, AskedAhead):
            self.engine.begin(self._shown(self._requests(self._read(groups), generation)), self.votes)

    def _read(self, groups: Sequence[Group]) -> list[tuple[Prompt, int, Question | None]]:
        return [
            (group.prompt, index, read_question(one.text, one.finish_reason, self.prompt_format))
            for group in groups
            for index, one in enumerate(group.completions)
        ]

    def _requests(
        self, read: Sequence[tuple[Prompt, int, Question | None]], generation: int
    ) -> list[Request]:
        return [
            Request(
                solver_messages(self.prompt_format, question.text),
                self.opener(prompt.image),
                self.seed_of(generation, prompt.key, index),
            )
            for prompt, index, question in read
            if question is not None
        ]

    def _shown(self, requests: Sequence[Request]) -> Sequence[Request]:
        return (
            requests
            if self.pay.votes_see_image
            else [Request(one.messages, None, one.seed) for one in requests]
        )


def _grounds(asked: ScoredQuestion | None) -> dict[str, Any]:
    """What a reward rests on, for rollouts.jsonl."""
    return (
        {"votes": None, "intuitive": None}
        if asked is None
        else {"votes": list(asked.votes), "intuitive": asked.intuitive}
    )


def _by_group(values: Sequence[T], groups: Sequence[Group]) -> list[list[T]]:
    rest = iter(values)
    return [[next(rest) for _ in group.completions] for group in groups]


def _first_answers(engine: Engine, requests: Sequence[Request], votes: SamplingConfig) -> list[Rollout]:
    """One greedy answer to each request, as long as a vote may be."""
    greedy = SamplingConfig(n=1, temperature=0.0, max_new_tokens=votes.max_new_tokens)
    return engine.generate(requests, greedy)


def _metrics(
    asked: Sequence[ScoredQuestion], count: int, keep: tuple[float, float]
) -> dict[str, float | None]:
    """valid: share of all `count` completions; the others are means over valid questions, None where there is
    none."""
    tallies = [voting.tally(one.votes) for one in asked]
    return {
        "valid": len(asked) / count,
        "confidence": _mean([tally.confidence for tally in tallies]),
        "agreement": _mean(
            [tally.answer == one.intuitive for tally, one in zip(tallies, asked, strict=True)]
        ),
        "would_keep": _mean([voting.keep(tally, *keep) for tally in tallies]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def run_writing(ctx: StageContext) -> dict[str, Any]:
    """Write `per_image` questions an image; writes `questions.jsonl`, invalid ones included."""
    import torch

    from vzero.rollout.engines import open_engine

    preset, iteration = ctx.preset, ctx.stage.iteration
    torch.set_num_threads(preset.engine.threads)
    messages = questioner_messages(preset.prompt_format)
    asked = [
        (record, index)
        for index in range(preset.questioner.per_image)
        for record in load_records(ctx.inputs["images"])
    ]

    def request(one: tuple[ImageRecord, int]) -> Request:
        record, index = one
        return Request(
            messages,
            open_image(record),
            derive(preset.seed, "write", iteration, record.image_id, *([index] if index else [])),
        )

    replies = bulk.ask(
        open_engine(preset.engine, ctx.inputs["questioner"]),
        asked,
        request,
        preset.questioner.write.model_copy(update={"n": 1}),
        chunk=preset.engine.batch_sequences,
        log=ctx.work / "written.jsonl",
        progress=ctx.progress,
        unit="questions",
    )
    rows = [
        _row(iteration, record.image_id, reply, preset.prompt_format, index)
        for (record, index), (reply,) in zip(asked, replies, strict=True)
    ]
    artefacts.write_jsonl(ctx.folder / "questions.jsonl", rows)
    return {
        "questions": len(rows),
        "valid": sum(row["valid"] for row in rows),
        "truncated": sum(row["finish_reason"] == "length" for row in rows),
        "tokens": sum(row["tokens"] for row in rows),
    }


def _row(
    iteration: int, image_id: str, reply: bulk.Reply, prompt_format: str, index: int = 0
) -> dict[str, Any]:
    """`index` counts the questions about one image from 0."""
    question = read_question(reply.text, reply.finish_reason, prompt_format)
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
