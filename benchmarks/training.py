"""A whole generation batch of each role on the pocket model: rollouts, votes, rewards, log-probabilities, two
optimizer steps.

Ours is the trainer that a stage builds. The other side is a plain `GRPOTrainer` with the same settings,
prompts and pictures: it draws by `generate`, and for the Questioner's reward asks the frozen Solver by
`generate` too, ten copies of each prompt. The learning rate is so small that no weight changes, so every
repetition starts from the same policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.shapes import POCKET, SEED, Subject, device, pocket, subject
from benchmarks.workload import engine, questions
from harness.perf.profile.stock import generate_separately, trl_dataset
from vzero.arms.objectives import label_reward
from vzero.config import EngineConfig, GrpoSettings, Preset
from vzero.grpo.data import Prompt, image_opener
from vzero.grpo.groups import Reward
from vzero.grpo.recorder import Phases, Recorder
from vzero.grpo.settings import plan_batches, trl_config
from vzero.images.records import ImageRecord, load_records
from vzero.pocket.world import SIDE
from vzero.presets import load_preset
from vzero.prompts import parse_answer, questioner_messages, solver_messages
from vzero.questioner import VoteReward, read_question
from vzero.rewards import INVALID, dual_track, pseudo_label
from vzero.rollout.protocol import Request
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress
from vzero.runtime.seeding import derive

PROMPTS = 16  # a quarter of the presets' generation batch, in two optimizer steps as theirs
_STILL = 1e-12


@dataclass
class Drawn:
    """Completion tokens drawn since last asked, by rollouts and votes."""

    tokens: int = field(default=0)

    def take(self) -> int:
        """The count, set back to 0."""
        taken, self.tokens = self.tokens, 0
        return taken


def batch_of(role: str, folder: Path) -> Case:
    """One generation batch of the Questioner or the Solver.

    Args:
        role: "questioner" or "solver".
        folder: scratch.
    """
    preset = load_preset("pocket")
    section = preset.questioner if role == "questioner" else preset.solver
    size = {
        "prompts_per_generation": PROMPTS,
        "prompts_per_step": PROMPTS // 2,
        "max_generations": 1,
        "learning_rate": _STILL,
    }
    micro = PROMPTS // 2 * section.grpo.group_size
    settings = section.grpo.model_copy(update={**size, "micro_batch": micro})
    prompts = _prompts(role, folder)
    ours, our_models = _ours(role, preset, settings, prompts, folder / "ours")
    stock, stock_models = _stock(role, preset, settings, prompts, folder / "stock")
    return Case(
        ours,
        stock,
        "the stage's own trainer",
        "stock TRL GRPOTrainer, generate"
        + (", ten votes a question by generate" if role == "questioner" else ""),
        "completion token",
        {
            "role": role,
            "prompts": PROMPTS,
            "group": settings.group_size,
            "micro_batch": micro,
            "optimizer_steps": 2,
        },
        [*our_models, *stock_models],
    )


def _prompts(role: str, folder: Path) -> list[Prompt]:
    rows = []
    for i, (image, _) in enumerate(questions(PROMPTS)):
        path = folder / f"{i}.png"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(path)
        rows.append(
            {
                "image_id": f"bench-{i}",
                "path": path.name,
                "sha256": artefacts.sha256_file(path),
                "width": SIDE,
                "height": SIDE,
            }
        )
    artefacts.write_jsonl(folder / "images.jsonl", rows)
    messages = [
        questioner_messages("pocket") if role == "questioner" else solver_messages("pocket", text)
        for _, text in questions(PROMPTS)
    ]
    records = load_records(folder)
    return [Prompt(record.image_id, one, record, "A") for record, one in zip(records, messages, strict=True)]


def _ours(
    role: str, preset: Preset, settings: GrpoSettings, prompts: Sequence[Prompt], folder: Path
) -> tuple[Callable[[], float], list[Any]]:
    from vzero.grpo import train as stage

    phases, progress = Phases(), Progress(folder / "progress.jsonl")
    batches, policy, solver = plan_batches(settings, len(prompts)), pocket(), subject(POCKET)
    opener = image_opener(2 * PROMPTS)
    job = stage.Job(
        role,
        1,
        SEED,
        settings,
        EngineConfig(),
        Path(policy.model.config._name_or_path),
        prompts,
        _our_votes(solver, preset, opener) if role == "questioner" else label_reward,
        folder,
        folder / "work",
        progress,
    )
    recorder = Recorder(folder, progress, phases, batches.steps_per_generation)
    trainer = stage.build_trainer(
        job, batches, policy.model, policy.processor, recorder, phases
    )  # the very one that a stage builds
    trainer.args.save_strategy = "no"

    def run() -> float:
        trainer.train()
        return sum(phases.tokens.values())

    return run, [trainer.model, trainer.ref_model, *([solver.model] if role == "questioner" else [])]


def _our_votes(solver: Subject, preset: Preset, opener: Callable[[ImageRecord], Any]) -> Reward:
    return VoteReward(
        engine(solver),
        preset.questioner.votes,
        "pocket",
        opener,
        lambda generation, key, index: derive(SEED, "bench-vote", generation, key, index),
        (preset.solver.keep_low, preset.solver.keep_high),
    )


def _stock(
    role: str, preset: Preset, settings: GrpoSettings, prompts: Sequence[Prompt], folder: Path
) -> tuple[Callable[[], float], list[Any]]:
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    from vzero.grpo.train import freeze_vision

    drawn, policy, solver = Drawn(), pocket(), pocket()
    if settings.freeze_vision:
        freeze_vision(policy.model)
    config = trl_config(settings, plan_batches(settings, len(prompts)), folder, SEED, cuda=device() == "cuda")
    config.generation_kwargs = {
        "suppress_tokens": sorted(engine(policy).forbidden)
    }  # a drawn image token ends stock TRL's step
    opener = image_opener(2 * PROMPTS)
    reward = (
        _stock_votes(solver, preset, prompts, opener, drawn)
        if role == "questioner"
        else _stock_label(prompts, drawn)
    )
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=reward,
        args=config,
        train_dataset=trl_dataset(prompts, opener),
        processing_class=policy.processor,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.args.save_strategy = "no"

    def run() -> float:
        trainer.train()
        return drawn.take()

    return run, [trainer.model, trainer.ref_model, *([solver.model] if role == "questioner" else [])]


def _stock_votes(
    solver: Subject,
    preset: Preset,
    prompts: Sequence[Prompt],
    opener: Callable[[ImageRecord], Any],
    drawn: Drawn,
) -> Callable[..., list[float]]:
    ours = engine(solver)
    end = solver.processor.tokenizer.eos_token_id

    def votes(completions: Any, completion_ids: list[list[int]], row: list[int], **_: Any) -> list[float]:
        drawn.tokens += sum(map(len, completion_ids))
        texts = [one[0]["content"] for one in completions]
        finished = ["stop" if ids[-1] == end else "length" for ids in completion_ids]
        read = [read_question(text, finish, "pocket") for text, finish in zip(texts, finished, strict=True)]
        valid = [(i, question) for i, question in enumerate(read) if question is not None]
        asked = [
            Request(solver_messages("pocket", question.text), opener(prompts[row[i]].image), 0)
            for i, question in valid
        ]
        rewards = [INVALID] * len(read)
        if not asked:
            return rewards
        found = generate_separately(
            solver.model,
            solver.processor,
            asked,
            preset.questioner.votes,
            EngineConfig().batch_sequences,
            sorted(ours.forbidden),
            SEED,
        )
        for (i, question), rollout in zip(valid, found, strict=True):
            ids = [one.token_ids for one in rollout.completions]
            drawn.tokens += sum(map(len, ids))
            answers = [
                parse_answer(text)
                for text in solver.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
            ]
            rewards[i] = dual_track(answers, question.intuitive)
        return rewards

    return votes


def _stock_label(prompts: Sequence[Prompt], drawn: Drawn) -> Callable[..., list[float]]:
    def label(completions: Any, completion_ids: list[list[int]], row: list[int], **_: Any) -> list[float]:
        drawn.tokens += sum(map(len, completion_ids))
        answers = [parse_answer(one[0]["content"]) for one in completions]
        return [
            pseudo_label(answer, prompts[index].label) for answer, index in zip(answers, row, strict=True)
        ]

    return label
