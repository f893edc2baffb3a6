"""What hangs below `GrpoStep`: how TRL's trainer is set up, fed, saved and restored.

TRL has no hooks for most of this, so private methods are overridden: versions are pinned, tests watch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig as PeftConfig
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from trl import GRPOConfig
from trl.trainer.utils import add_fused_lm_head

from vzero.config import LaunchConfig
from vzero.grpo import log_probs, sharding, states
from vzero.grpo.groups import Reward
from vzero.grpo.micro_batches import Assembly, MicroBatch
from vzero.grpo.policy_rollout import PolicyRollout
from vzero.grpo.recorder import Phases, Recorder
from vzero.grpo.step import GrpoStep


@dataclass(frozen=True)
class Parts:
    """What a step is made of; `importance_cap` is None where rollouts are not weighed, `max_logprob_gap` what
    the engine may be off at first."""

    rollout: PolicyRollout
    reward: Reward
    recorder: Recorder
    phases: Phases
    max_logprob_gap: float
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
        launch: LaunchConfig,
        adapter: PeftConfig | None = None,
        reference: PreTrainedModel | None = None,
    ) -> None:
        """`reference` is that of the KL term; with adapters it is the model without them, and None here."""
        from datasets import Dataset

        prompts = len(parts.rollout.prompts)
        kl, config.beta = config.beta, 0.0  # or TRL would load a reference of its own, whole and in float32
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
        self.beta = config.beta = kl
        self.ref_model = reference
        if reference is not None:
            add_fused_lm_head(reference)
        self.rollout, self.reward = parts.rollout, parts.reward
        self.recorder, self.phases = parts.recorder, parts.phases
        self.importance_cap, self.max_logprob_gap = parts.importance_cap, parts.max_logprob_gap
        self._batches: list[MicroBatch] = []  # of the current generation batch
        models = [self.model, *([] if reference is None else [reference])]
        packs = [log_probs.prepare(one) for one in models]
        if self.accelerator.is_main_process:
            log_probs.warn_if_padded(self.model)
        steps = config.steps_per_generation // config.gradient_accumulation_steps
        self.assembly = Assembly(
            processor,
            parts.rollout.opener,
            count=config.steps_per_generation,
            steps=steps,
            shares_prompts=all(packs),
            sorts=self.loss_type == "dapo",
            pictures=parts.rollout.pictures,
        )
        if launch.optimizer_states == "host":
            _, options = self.get_optimizer_cls_and_kwargs(config, self.model)
            self.optimizer_cls_and_kwargs = (states.HostAdamW, options)
        if launch.strategy == "fsdp2":
            if not sharding.is_split(self.model):  # its adapters are new
                sharding.split(self.model)
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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Nothing: `_save_optimizer_and_scheduler` writes what a checkpoint needs."""
        Path(output_dir or self.args.output_dir).mkdir(parents=True, exist_ok=True)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        states.save(self.model, self.optimizer.optimizer, Path(output_dir))  # the learning rate is constant

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: PreTrainedModel | None = None
    ) -> None:
        """Restore every weight that is trained, or raise. Hugging Face's own ignores names that it does not
        know, and would go on from the initial weights without a word."""
        states.load_weights(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            states.load_moments(self.model, self.optimizer.optimizer, Path(checkpoint))

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
