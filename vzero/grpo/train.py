"""Train one role of one iteration: from a checkpoint and prompts to a checkpoint, resumable after a kill."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PrinterCallback, ProcessorMixin
from transformers.utils import logging

from vzero.config import (
    EngineConfig,
    GrpoSettings,
    LaunchConfig,
    LoraConfig,
    RolloutsConfig,
    SamplingConfig,
)
from vzero.grpo import adapters, resume, sharding
from vzero.grpo.data import Prompt, image_opener, training_order
from vzero.grpo.frozen import freeze_vision, spare_frozen_parts
from vzero.grpo.group_sharding import GroupSharding
from vzero.grpo.groups import Ahead, Reward
from vzero.grpo.policy_rollout import PolicyRollout
from vzero.grpo.recorder import Phases, Recorder
from vzero.grpo.settings import Batches, plan_batches, trl_config
from vzero.grpo.trainer import GroupTrainer, Parts
from vzero.rollout import forks, thinking
from vzero.rollout.encoding import SHARED_IMAGE_MODELS
from vzero.rollout.pictures import Pictures
from vzero.rollout.protocol import Engine
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.rollout.vllm_policy import open_policy
from vzero.runtime import checkpoints, processes
from vzero.runtime.progress import Progress
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        role, iteration, seed: "questioner" or "solver", 1..T, the run's; they enter every seed.
        checkpoint: where the policy starts, and the frozen reference of its KL term.
        folder: receives `checkpoint/`, `metrics.jsonl`, `rollouts.jsonl`, `timings.jsonl`.
        work: scratch with the checkpoints to resume from.
        ahead: told of each group while the others of its generation batch are still being drawn.
        launch: how several processes hold the weights, where the optimizer's states lie, how often to save.
        lora: adapters to train in place of the weights.
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
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    lora: LoraConfig | None = None
    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)

    @classmethod
    def of_stage(
        cls,
        ctx: StageContext,
        role: Literal["questioner", "solver"],
        prompts: Sequence[Prompt],
        reward: Reward,
        ahead: Ahead | None = None,
    ) -> Job:
        """The training of a role that a stage's preset asks for."""
        preset = ctx.preset
        return cls(
            role,
            ctx.stage.iteration,
            preset.seed,
            getattr(preset, role).grpo,
            preset.engine,
            ctx.inputs[role],
            prompts,
            reward,
            ctx.folder,
            ctx.work,
            ctx.progress,
            ahead,
            preset.launch,
            preset.lora,
            preset.rollouts,
        )

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
    batches = plan_batches(job.settings, len(job.prompts), processes.world().size)
    model = _policy(job)
    configs = copy.deepcopy((model.config, model.generation_config))
    phases = Phases()
    recorder = Recorder(job.folder, job.progress, phases, batches.steps_per_generation)
    resumed = processes.broadcast(lambda: resume.last_whole(_scratch(job), recorder.rows))
    recorder.rewind(resumed[0] if resumed else None)
    if batches.steps:
        processor = thinking.load_processor(job.checkpoint, job.engine.thinking)
        trainer = build_trainer(job, batches, model, processor, recorder, phases)
        with full_disk_as_oserror(job.work):
            trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
    # TRL writes pad ids and cache switches of its own into the configs, and its padding into the tokenizer.
    model.config, model.generation_config = configs
    _save(job, model, trained=batches.steps > 0)
    return {
        "prompts": len(job.prompts),
        "prompts_used": batches.prompts_used,
        "generations": batches.generations,
        "steps": batches.steps,
    }


def _policy(job: Job) -> Any:
    """The model that is trained, or that gets adapters, on its device; of several processes that split it,
    each has its part."""
    if job.lora is not None:
        return adapters.load_frozen(job.checkpoint, device_name())
    load = sharding.load if job.launch.strategy == "fsdp2" else checkpoints.load_model
    return load(job.checkpoint, torch.float32, device_name())


def _reference(job: Job) -> Any:
    """The frozen reference of the KL term; None where there is none, or it is the model without adapters.

    Where the policy computes in bfloat16, the reference keeps its weights so: its numbers are the same to the
    bit, in half the memory.
    """
    if job.lora is not None or not job.settings.kl_coefficient:
        return None
    device = device_name()
    if job.launch.strategy == "fsdp2":
        return sharding.load(job.checkpoint, torch.bfloat16 if device == "cuda" else torch.float32, device)
    reference = checkpoints.load_model(job.checkpoint, torch.float32, device)
    return checkpoints.rounded_as_autocast(reference) if device == "cuda" else reference


def _save(job: Job, model: PreTrainedModel, trained: bool) -> None:
    """The checkpoint of the stage, and its adapter where one was trained, by the first process."""
    weights = sharding.model_state_dict(model) if sharding.is_split(model) else None
    if not processes.world().first:
        return
    with full_disk_as_oserror(job.folder):
        if job.lora is not None:
            configs = model.config, model.generation_config
            if trained:
                adapters.save(model, job.lora, job.folder / "adapter")
            model = adapters.merged(model, job.checkpoint)
            model.config, model.generation_config = configs
        processor = checkpoints.load_processor(job.checkpoint)
        checkpoints.save(model, processor, job.folder / "checkpoint", weights)


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


def _scratch(job: Job) -> Path:
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
    settings = job.settings
    if settings.freeze_vision:
        freeze_vision(model)
    spare_frozen_parts(model)
    shared = model.config.model_type in SHARED_IMAGE_MODELS
    pictures = Pictures(processor, job.engine.threads) if shared else None
    rollout = PolicyRollout(
        prompts=[job.prompts[i] for i in training_order(len(job.prompts), batches, job.seed_for("order"))],
        per_generation=batches.prompts_per_generation,
        engine=_policy_engine(job, model, processor, pictures),
        sampling=rollout_sampling(settings),
        opener=image_opener(images_kept=batches.prompts_per_generation),
        seed_of=lambda generation, key: job.seed_for("rollout", generation, key),
        sharding=GroupSharding(batches.steps_per_generation, processes.world()),
        phases=phases,
        pictures=pictures,
        ahead=job.ahead,
    )
    weighs = settings.importance_correction == "token_truncate"
    cap = settings.importance_cap if weighs else None
    trainer = GroupTrainer(
        model,
        trl_config(settings, batches, _scratch(job), job.seed_for("trainer"), torch.cuda.is_available()),
        processor,
        Parts(rollout, job.reward, recorder, phases, job.rollouts.max_logprob_gap, cap),
        callbacks=[
            recorder,
            resume.Checkpoints(job.launch.checkpoint_minutes, batches.steps_per_generation, recorder.rows),
        ],
        launch=job.launch,
        adapter=None if job.lora is None else adapters.peft_config(model, job.lora),
        reference=_reference(job),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _policy_engine(
    job: Job, model: PreTrainedModel, processor: ProcessorMixin, pictures: Pictures | None
) -> Engine:
    if job.rollouts.engine == "transformers":
        if job.lora is not None or forks.count(job.engine) == 1:  # adapters come later
            return TransformersEngine(model, processor, job.engine.batch_sequences, pictures=pictures)
        trained = [one for one in model.parameters() if one.requires_grad]
        return forks.forked(job.engine, lambda *most: TransformersEngine(model, processor, *most), trained)
    config = job.engine.model_copy(update={"gpu_memory": job.rollouts.gpu_memory})
    return open_policy(config, job.checkpoint, lambda: sharding.full_tensors(adapters.whole_weights(model)))


def rollout_sampling(settings: GrpoSettings) -> SamplingConfig:
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


def device_name() -> str:
    """Where a stage computes."""
    return "cuda" if torch.cuda.is_available() else "cpu"
