"""What hangs below `GrpoStep`: how TRL's trainer is set up, fed, saved and restored.

TRL has no hooks for most of this, so private methods are overridden: versions are pinned, tests watch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from trl import GRPOConfig

from vzero.grpo import adapters, log_probs, sharding
from vzero.grpo.groups import Reward
from vzero.grpo.micro_batches import Assembly, MicroBatch
from vzero.grpo.policy_rollout import PolicyRollout
from vzero.grpo.recorder import Phases, Recorder
from vzero.grpo.step import GrpoStep
from vzero.runtime import checkpoints


@dataclass(frozen=True)
class Parts:
    """What a step is made of; `importance_cap` is None where rollouts are not weighed."""

    rollout: PolicyRollout
    reward: Reward
    recorder: Recorder
    phases: Phases
    importance_cap: float | None = None


class GroupTrainer(GrpoStep):
    """`GrpoStep` as Hugging Face's trainer runs it."""

    def __init__(
        self,
        model: PreTrainedModel,
        config: GRPOConfig,
        processor: ProcessorMixin,
        parts: Parts,
        callbacks: list[TrainerCallback],
        strategy: str = "ddp",
        adapter: PeftConfig | None = None,
    ) -> None:
        """`strategy` is how several processes hold the weights: "ddp" or "fsdp2" (see sharding.py)."""
        from datasets import Dataset

        prompts = len(parts.rollout.prompts)
        super().__init__(
            model=model,
            reward_funcs=_never_called,
            args=config,
            # TRL's data loader only counts steps: `experience` knows the prompts of a generation by its
            # number, so no order of samplers, workers and resumed loaders can bring others.
            train_dataset=Dataset.from_dict({"row": list(range(prompts))}),
            processing_class=processor,
            callbacks=callbacks,
            peft_config=adapter,
        )
        self.rollout, self.reward = parts.rollout, parts.reward
        self.recorder, self.phases = parts.recorder, parts.phases
        self.importance_cap = parts.importance_cap
        self._batches: list[MicroBatch] = []  # of the current generation batch
        models = [self.model, *([] if self.ref_model is None else [self.ref_model])]
        packs = [log_probs.prepare(one) for one in models]
        steps = config.steps_per_generation // config.gradient_accumulation_steps
        self.assembly = Assembly(
            processor,
            parts.rollout.opener,
            count=config.steps_per_generation,
            steps=steps,
            shares_prompts=all(packs),
            sorts=self.loss_type == "dapo",
        )
        if strategy == "fsdp2":
            for one in models:
                sharding.split(one)
            # Split already: accelerate would wrap it into a copy in each process.
            self.accelerator.prepare_model = lambda model, *_, **__: model

    def _prepare_inputs(self, generation_batch: Any) -> MicroBatch:
        """The next micro-batch. TRL calls this before each; its own method shuffles sequences and scores the
        padded generation batch."""
        place = self._step % self.args.steps_per_generation
        if place == 0:
            with self.phases.measure("experience"):
                self._batches = self.experience(self.state.global_step // self.assembly.steps)
        batch: MicroBatch = self._batches[place]
        return batch

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: PreTrainedModel | None = None
    ) -> None:
        """Restore every weight that is trained, or raise.

        By hand: Transformers 5 saves Qwen2.5-VL under its old parameter names, and the trainer's resume
        matches names as they are and ignores those it does not know. It would go on from the *initial*
        weights without a word. Here weights come back the way any checkpoint is loaded.
        """
        if isinstance(self.model, PeftModel):
            adapters.load(self.model, Path(resume_from_checkpoint))
            return
        saved = checkpoints.load_model(Path(resume_from_checkpoint), dtype=self.model.dtype).state_dict()
        if sharding.is_split(self.model):
            sharding.load_model_state_dict(self.model, saved)
        else:
            (model or self.model).load_state_dict(saved, strict=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """An ordinary folder with the full weights, however they are held."""
        if not sharding.is_split(self.model):
            super().save_model(output_dir, _internal_call)
            return
        weights = sharding.model_state_dict(self.model)  # all processes must ask, one writes
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not sharding.is_split(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = sharding.optimizer_state_dict(self.model, self.optimizer.optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not sharding.is_split(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        sharding.load_optimizer_state_dict(self.model, self.optimizer.optimizer, state)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _clip_grad_norm(self, model: Any) -> Any:
        """The norm of split gradients is split too; the log needs its value."""
        norm = super()._clip_grad_norm(model)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: Any = None
    ) -> None:
        """No card: checkpoints to resume from are scratch."""


def _never_called(**_: Any) -> list[float]:
    """Stands where TRL wants a reward function; ours is asked for whole groups, in `experience`."""
    raise AssertionError("TRL's own reward path is not used")
