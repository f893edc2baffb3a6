"""From `GrpoSettings` to batches and TRL's `GRPOConfig`.

TRL's defaults are not V-Zero's: its KL weight is 0, its KL carries an importance correction, its learning
rate decays, it has no dual clip, no weight decay, and trains three epochs. `trl_config` names every field
whose default is another or that the objective and the optimizer rest on; tests/unit/test_grpo_settings.py
holds the others to the public code's values too. The formulas are in step.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vzero.config import GrpoSettings

if TYPE_CHECKING:
    from trl import GRPOConfig


@dataclass(frozen=True)
class Batches:
    """How a number of prompts becomes optimizer steps.

    Attributes:
        micro_batch: sequences of one forward pass.
        group_size: completions of one prompt.
        generations: generation batches in the whole training; 0 when there is nothing to train on.
        processes: that share each of these batches (group_sharding.py).
    """

    prompts_per_generation: int
    prompts_per_step: int
    micro_batch: int
    group_size: int
    generations: int
    processes: int = 1

    @property
    def steps_per_generation(self) -> int:
        """Optimizer steps made from one generation batch."""
        return self.prompts_per_generation // self.prompts_per_step

    @property
    def accumulation(self) -> int:
        """Forward passes of one optimizer step in each process."""
        return self.prompts_per_step * self.group_size // (self.micro_batch * self.processes)

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.generations * self.steps_per_generation

    @property
    def prompts_used(self) -> int:
        """Prompts trained on, counted once for each epoch."""
        return self.generations * self.prompts_per_generation


def plan_batches(settings: GrpoSettings, available: int, processes: int = 1) -> Batches:
    """Fit the batches to `available` prompts.

    The last incomplete generation batch of an epoch is dropped, as the public code does. Fewer prompts than
    one whole batch shrink the batch instead (to whole steps; fewer than one step make one smaller step),
    since dropping them would train on nothing. That smaller step has as many prompts for each process, so up
    to `processes` - 1 prompts are left out of it; one each is the least.

    Raises:
        ValueError: so many processes cannot share an optimizer step.
    """
    settings.require_divisible(processes)
    per_generation, per_step = settings.prompts_per_generation, settings.prompts_per_step
    if processes <= available < per_generation:
        per_step = min(per_step, available - available % processes)
        per_generation = available - available % per_step
    generations = available // per_generation * settings.epochs
    if settings.max_generations is not None:
        generations = min(generations, settings.max_generations)
    sequences = per_step // processes * settings.group_size
    micro = next(size for size in range(min(settings.micro_batch, sequences), 0, -1) if sequences % size == 0)
    return Batches(per_generation, per_step, micro, settings.group_size, generations, processes)


def trl_config(settings: GrpoSettings, batches: Batches, output: Path, seed: int, cuda: bool) -> GRPOConfig:
    """The complete `GRPOConfig` of one training stage.

    Args:
        output: where checkpoints to resume from are put.
        cuda: train in bf16 autocast over float32 weights with gradient checkpointing; otherwise float32 on
            the CPU.
    """
    from trl import GRPOConfig

    seed %= 2**32  # what NumPy takes
    return GRPOConfig(
        output_dir=str(output),
        # batches
        per_device_train_batch_size=batches.micro_batch,
        gradient_accumulation_steps=batches.accumulation,
        steps_per_generation=batches.steps_per_generation * batches.accumulation,
        num_generations=settings.group_size,
        num_iterations=1,
        num_train_epochs=1,  # the dataset already is the schedule of all epochs; see data.training_order
        shuffle_dataset=False,
        dataloader_pin_memory=cuda,
        pad_to_multiple_of=None,
        ddp_find_unused_parameters=False,
        # objective
        loss_type=settings.loss,
        beta=settings.kl_coefficient,
        use_bias_correction_kl=False,
        epsilon=settings.clip_epsilon,
        epsilon_high=settings.clip_epsilon,
        delta=settings.dual_clip,
        disable_dropout=True,  # or old and new log-probabilities would come from two functions
        # optimizer
        optim="adamw_torch_fused" if cuda else "adamw_torch",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=settings.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.999,
        max_grad_norm=settings.max_grad_norm,
        # sampling: what the policy is differentiated as; our engine draws with the same values
        max_completion_length=settings.max_completion_tokens,
        temperature=1.0,
        vllm_importance_sampling_correction=False,
        # numerics
        use_cpu=not cuda,
        bf16=cuda,
        gradient_checkpointing=cuda,
        seed=seed,
        data_seed=seed,
        save_strategy="no",  # resume.py says when
        # reports: `recorder.py` writes them
        logging_steps=1,
        logging_nan_inf_filter=False,
        log_multimodal=False,
        report_to="none",
        disable_tqdm=True,
    )
