"""Train one role of one iteration: from a checkpoint and prompts to a checkpoint, resumable after a kill."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PrinterCallback, ProcessorMixin
from transformers.utils import logging

from vzero.config import EngineConfig, GrpoSettings, LoraConfig, RolloutsConfig, SamplingConfig
from vzero.errors import InputError
from vzero.grpo import adapters, resume, sharding
from vzero.grpo.data import Prompt, image_opener, training_order, trl_dataset
from vzero.grpo.group_reward import GroupReward
from vzero.grpo.group_sharding import GroupSharding
from vzero.grpo.groups import Ahead, Reward
from vzero.grpo.policy_rollout import PolicyRollout
from vzero.grpo.recorder import Phases, Recorder
from vzero.grpo.settings import Batches, plan_batches, trl_config
from vzero.grpo.trainer import GroupTrainer, device_name
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.rollout.vllm_policy import VllmPolicy, open_policy
from vzero.runtime import checkpoints, processes
from vzero.runtime.progress import Progress
from vzero.runtime.seeding import derive


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        role: "questioner" or "solver"; enters every seed.
        iteration: 1..T; enters every seed.
        seed: the run's.
        checkpoint: where the policy starts, and the frozen reference of its KL term.
        folder: receives `checkpoint/`, `metrics.jsonl`, `rollouts.jsonl`, `timings.jsonl`.
        work: scratch with the checkpoints to resume from.
        ahead: told of each group of a generation batch while the others are still being drawn; None if nobody
            wants to know.
        strategy: how several processes hold the weights, "ddp" or "fsdp2".
        lora: adapters to train in place of the weights; None trains these.
        rollouts: who draws from the policy.
    """

    role: str
    iteration: int
    seed: int
    settings: GrpoSettings
    engine: EngineConfig
    checkpoint: Path
    prompts: Sequence[Prompt]
    reward: Reward
    folder: Path
    work: Path
    progress: Progress
    ahead: Ahead | None = None
    strategy: str = "ddp"
    lora: LoraConfig | None = None
    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)

    def seed_for(self, *parts: str | int) -> int:
        """A seed of this training and one purpose."""
        return derive(self.seed, self.role, self.iteration, *parts)


def train(job: Job) -> dict[str, Any]:
    """Train to the end, from the last whole checkpoint in `job.work` where there is one, and save.

    Nothing to train on saves the model unchanged and says so: steps 0. Of several processes (see
    vzero.runtime.processes) all come here, and the first writes.

    Returns:
        Facts: `prompts`, `prompts_used`, `generations`, `steps`.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    here = processes.world()
    batches = plan_batches(job.settings, len(job.prompts), here.size)
    if job.lora is None:
        model = checkpoints.load_model(job.checkpoint, dtype=torch.float32, device=device_name())
    else:
        model = adapters.load_frozen(job.checkpoint, device_name())
    processor = checkpoints.load_processor(job.checkpoint)
    configs = copy.deepcopy((model.config, model.generation_config))
    phases = Phases()
    recorder = Recorder(job.folder, job.progress, phases, batches.steps_per_generation)
    whole = processes.broadcast(lambda: resume.last_whole(_output(job)))
    recorder.rewind(whole[1] if whole else 0)
    if batches.steps:
        trainer = build_trainer(job, batches, model, processor, recorder, phases)
        with full_disk_as_oserror(job.work):
            trainer.train(resume_from_checkpoint=str(whole[0]) if whole else None)
    weights = sharding.weights(model) if sharding.is_split(model) else None
    if here.first:
        if job.lora is not None:
            model = adapters.merged(model, job.checkpoint)
        model.config, model.generation_config = (
            configs  # TRL writes pad ids and cache switches of its own into them,
        )
        processor = checkpoints.load_processor(job.checkpoint)  # and its padding into the tokenizer
        with full_disk_as_oserror(job.folder):
            checkpoints.save(model, processor, job.folder / "checkpoint", weights)
    return {
        "prompts": len(job.prompts),
        "prompts_used": batches.prompts_used,
        "generations": batches.generations,
        "steps": batches.steps,
    }


@contextmanager
def full_disk_as_oserror(folder: Path) -> Iterator[None]:
    """safetensors and `torch.save` report a full disk by types of their own; callers know OSError, which can
    be resumed from."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if "os error 28" in str(error) or "inline_container" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _output(job: Job) -> Path:
    return job.work / "trainer"


def build_trainer(
    job: Job,
    batches: Batches,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    recorder: Recorder,
    phases: Phases,
) -> GroupTrainer:
    """The trainer of `job`, ready to run: `model` is trained in place, and its completions are drawn from it
    as it is at that moment.

    Public because a profile has to measure the very trainer that a stage runs.
    """
    if job.settings.freeze_vision:
        freeze_vision(model)
    order = [job.prompts[index] for index in training_order(len(job.prompts), batches, job.seed_for("order"))]
    deal = GroupSharding(batches.steps_per_generation, processes.world())
    opener = image_opener(images_kept=2 * batches.prompts_per_generation)
    rollout = PolicyRollout(
        prompts=order,
        engine=_policy_engine(job, model, processor),
        sampling=_sampling(job.settings),
        opener=opener,
        seed_of=_seed_of(job),
        ahead=job.ahead,
        deal=deal,
        phases=phases,
    )
    reward = GroupReward(
        prompts=order,
        group_size=batches.group_size,
        reward=job.reward,
        steps_per_generation=batches.steps_per_generation,
        recorder=recorder,
        phases=phases,
    )
    config = trl_config(
        job.settings, batches, _output(job), job.seed_for("trainer"), cuda=torch.cuda.is_available()
    )
    os.environ.setdefault(
        "TRL_EXPERIMENTAL_SILENCE", "1"
    )  # `rollout_func` is experimental: versions are pinned, tests watch it
    trainer = GroupTrainer(
        model=model,
        config=config,
        processor=processor,
        dataset=trl_dataset(order, opener, _dealt(deal, batches)),
        reward=reward,
        rollout=rollout,
        callbacks=[recorder, resume.MarkWhole()],
        recorder=recorder,
        phases=phases,
        strategy=job.strategy,
        adapter=None if job.lora is None else adapters.peft_config(model, job.lora),
        importance_cap=job.settings.importance_cap
        if job.settings.importance_correction == "token_truncate"
        else None,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _dealt(deal: GroupSharding, batches: Batches) -> list[int]:
    """Rows of the training order as accelerate has to meet them, generation by generation."""
    each = batches.prompts_per_generation
    return [
        row
        for start in range(0, batches.prompts_used, each)
        for row in deal.dealt(range(start, start + each))
    ]


def _policy_engine(
    job: Job, model: PreTrainedModel, processor: ProcessorMixin
) -> TransformersEngine | VllmPolicy:
    if job.rollouts.engine == "transformers":
        return TransformersEngine(model, processor, job.engine.batch_sequences)
    config = job.engine.model_copy(update={"gpu_memory": job.rollouts.gpu_memory})
    return open_policy(config, job.checkpoint, lambda: sharding.gathered(adapters.whole_weights(model)))


def freeze_vision(model: PreTrainedModel) -> None:
    """No gradient for the part of `model` that sees.

    Raises:
        InputError: it is not where it is in the models known.
    """
    tower = checkpoints.vision_tower(model)
    if tower is None:
        raise InputError(
            f"freeze_vision does not know where {type(model).__name__} keeps its vision tower; "
            "set freeze_vision=false."
        )
    tower.requires_grad_(False)


def _sampling(settings: GrpoSettings) -> SamplingConfig:
    """The policy's own distribution: no filter, temperature 1, so that rollouts are what the loss
    differentiates."""
    return SamplingConfig(
        n=settings.group_size,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        max_new_tokens=settings.max_completion_tokens,
    )


def _seed_of(job: Job) -> Callable[[int, str], int]:
    return lambda generation, key: job.seed_for("rollout", generation, key)
