"""A whole generation batch of each role on the pocket model: rollouts, votes, rewards, log-probabilities, two
optimizer steps.

Ours is the trainer that a stage builds. The other side is a plain `GRPOTrainer` with the same settings,
prompts and pictures: it draws by `generate`, and for the Questioner's reward asks the frozen Solver by
`generate` too, ten copies of each prompt. The learning rate is so small that no weight changes, so every
repetition starts from the same policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PrinterCallback
from trl import GRPOTrainer

from benchmarks.case import Case, drawn_tokens
from benchmarks.shapes import POCKET, SEED, device, pocket, subject
from benchmarks.workload import ENGINE_BATCH, engine, questions
from harness.perf.profile import training
from harness.perf.profile.counts import Scope
from harness.perf.profile.stock import generate_separately, trl_dataset
from harness.perf.profile.workload import Recorded, vote_reward
from vzero.arms.objectives import label_reward
from vzero.config import EngineConfig, GrpoSettings, Preset
from vzero.grpo.data import Prompt, image_opener
from vzero.grpo.frozen import freeze_vision
from vzero.grpo.settings import plan_batches, trl_config
from vzero.images.records import load_records
from vzero.pocket.images import write
from vzero.presets import load_preset
from vzero.prompts import parse_answer, questioner_messages, read_question, solver_messages
from vzero.rewards import INVALID, dual_track, pseudo_label
from vzero.rollout.protocol import Request
from vzero.runtime import artefacts, checkpoints

PROMPTS = 16  # a quarter of the presets' generation batch, in two optimizer steps as theirs
Side = tuple[Callable[[], float], list[Any]]  # does the work and says how many tokens were drawn; its models


def batch_of(role: str, folder: Path) -> Case:
    """One generation batch of the Questioner or the Solver.

    Args:
        role: "questioner" or "solver".
        folder: scratch.
    """
    preset, asks = load_preset("pocket"), role == "questioner"
    settings = _small(preset.questioner.grpo if asks else preset.solver.grpo)
    prompts = _prompts(asks, folder)
    ours, our_models = _ours(preset, asks, settings, prompts, folder / "ours")
    stock, stock_models = _stock(preset, asks, settings, prompts, folder / "stock")
    votes = ", ten votes a question by generate" if asks else ""
    sizes = {"prompts": PROMPTS, "group": settings.group_size, "micro_batch": settings.micro_batch}
    return Case(
        ours,
        stock,
        "the stage's own trainer",
        f"stock TRL GRPOTrainer, generate{votes}",
        "completion token",
        {"role": role, **sizes, "optimizer_steps": 2},
        [*our_models, *stock_models],
    )


def solver_bench(checkpoint: Path, folder: Path) -> training.Bench:
    """The Solver's generation batch by the stage's own trainer, from any pocket checkpoint."""
    return training.build(
        training.Training(
            role="solver",
            settings=_small(load_preset("pocket").solver.grpo),
            engine=EngineConfig(),
            checkpoint=checkpoint,
            prompts=_prompts(False, folder),
            reward=label_reward,
            seed=SEED,
            folder=folder,
            scope=Scope(),
        )
    )


def _small(grpo: GrpoSettings) -> GrpoSettings:
    """One generation batch of `PROMPTS` in two optimizer steps that move nothing."""
    size = {
        "prompts_per_generation": PROMPTS,
        "prompts_per_step": PROMPTS // 2,
        "micro_batch": PROMPTS // 2 * grpo.group_size,
        "max_generations": 1,
        "learning_rate": training.STILL,
    }
    return grpo.model_copy(update=size)


def _prompts(asks: bool, folder: Path) -> list[Prompt]:
    artefacts.write_jsonl(folder / "images.jsonl", write(folder, SEED, PROMPTS))
    records = load_records(folder)
    if asks:
        return [Prompt(one.image_id, questioner_messages("pocket"), one) for one in records]
    # Not every question is about its picture; that does not change the work.
    pairs = zip(records, questions(PROMPTS), strict=True)
    return [Prompt(one.image_id, solver_messages("pocket", text), one, "A") for one, (_, text) in pairs]


def _ours(
    preset: Preset, asks: bool, settings: GrpoSettings, prompts: Sequence[Prompt], folder: Path
) -> Side:
    scope, solver = Scope(), subject(POCKET)
    votes = Recorded(engine(solver), scope, "votes") if asks else None
    bench = training.build(
        training.Training(
            role="questioner" if asks else "solver",
            settings=settings,
            engine=EngineConfig(),
            checkpoint=checkpoints.resolve("pocket"),
            prompts=prompts,
            reward=vote_reward(preset, votes, len(prompts)) if votes is not None else label_reward,
            seed=SEED,
            folder=folder,
            scope=scope,
            votes=votes,
        )
    )

    def run() -> float:
        bench.run(stock=False)
        return sum(drawn_tokens(one.rollouts) for one in (bench.rollout, votes) if one is not None)

    return run, [bench.trainer.model, bench.trainer.ref_model, *([solver.model] if asks else [])]


def _stock(
    preset: Preset, asks: bool, settings: GrpoSettings, prompts: Sequence[Prompt], folder: Path
) -> Side:
    policy, reward = pocket(), _StockReward(preset, prompts)
    if settings.freeze_vision:
        freeze_vision(policy.model)
    config = trl_config(settings, plan_batches(settings, len(prompts)), folder, SEED, cuda=device() == "cuda")
    # A drawn image token ends stock TRL's step.
    config.generation_kwargs = {"suppress_tokens": sorted(engine(policy).forbidden)}
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=reward.votes if asks else reward.label,
        args=config,
        train_dataset=trl_dataset(prompts, reward.opener),
        processing_class=policy.processor,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.args.save_strategy = "no"

    def run() -> float:
        reward.drawn = 0
        trainer.train()
        return reward.drawn

    return run, [trainer.model, trainer.ref_model, *([reward.solver.model] if asks else [])]


class _StockReward:
    """The rewards as functions for TRL, asking the Solver by `generate`; `drawn` counts tokens."""

    def __init__(self, preset: Preset, prompts: Sequence[Prompt]) -> None:
        self.preset, self.prompts, self.drawn = preset, prompts, 0
        self.opener, self.solver = image_opener(2 * PROMPTS), pocket()

    def votes(
        self, completions: Any, completion_ids: list[list[int]], row: list[int], **_: Any
    ) -> list[float]:
        tokenizer = self.solver.processor.tokenizer
        self.drawn += sum(map(len, completion_ids))
        rewards, valid, asked = [INVALID] * len(completions), [], []
        for i, (completion, ids) in enumerate(zip(completions, completion_ids, strict=True)):
            finish = "stop" if ids[-1] == tokenizer.eos_token_id else "length"
            question = read_question(completion[0]["content"], finish, "pocket")
            if question is not None:
                image = self.opener(self.prompts[row[i]].image)
                valid.append((i, question))
                asked.append(Request(solver_messages("pocket", question.text), image, 0))
        if not asked:
            return rewards
        sampling, solver = self.preset.questioner.votes, engine(self.solver)
        found = generate_separately(solver, asked, sampling, ENGINE_BATCH, SEED)
        self.drawn += drawn_tokens(found)
        for (i, question), rollout in zip(valid, found, strict=True):
            drawn = [one.token_ids for one in rollout.completions]
            texts = tokenizer.batch_decode(drawn, skip_special_tokens=True)
            rewards[i] = dual_track([parse_answer(text) for text in texts], question.intuitive)
        return rewards

    def label(
        self, completions: Any, completion_ids: list[list[int]], row: list[int], **_: Any
    ) -> list[float]:
        self.drawn += sum(map(len, completion_ids))
        answers = [parse_answer(one[0]["content"]) for one in completions]
        labels = [self.prompts[index].label for index in row]
        return [pseudo_label(answer, label) for answer, label in zip(answers, labels, strict=True)]
