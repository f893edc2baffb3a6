"""TRL's `GRPOTrainer` with five seams: our rollouts, groups kept whole, prompts shared, no needless pass,
weights really restored.

Departures from stock TRL, and why:
- Completions come from a `vzero` engine around the live policy, one request a prompt, each seeded by what it
  is for. A resumed training therefore draws exactly what the undisturbed one would have drawn.
- TRL shuffles the sequences of a generation batch, so a group may be torn over two optimizer steps. Here a
  step takes whole prompts, in the order of the dataset, which is already a random one (see
  data.training_order).
- TRL computes a prompt and its picture once a completion and pads the whole generation batch to its longest
  prompt and completion. Here a micro-batch is packed and its groups share their prompts (see packing.py);
  models whose attention is not known to allow that read padded micro-batches, sorted by length and cut to
  their own longest. Either way the objective and its gradient are the same.
- TRL scores the whole generation batch with the old policy. In its first optimizer step the policy still is
  the old one and the ratio one by construction, so only later steps are scored.
- In several processes TRL deals out sequences in the order of the dataset, so that the steps of a generation
  would take other prompts than in one process. Here each process holds whole groups of every step (see
  deal.py).
- Transformers 5 saves Qwen2.5-VL under its old parameter names, and the trainer's resume matches names as
  they are and ignores those it does not know: it would go on from the *initial* weights without a word. Here
  weights come back the way any checkpoint is loaded.
Old log-probabilities come from the trainer's own forward pass, so the ratio never compares two
implementations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import PeftModel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from vzero.errors import RolloutError
from vzero.grpo import adapters, importance, log_probs, micro_batches, parity, sharding
from vzero.grpo.recorder import Phases, Recorder
from vzero.runtime import checkpoints


class GroupTrainer(GRPOTrainer):
    """`GRPOTrainer` whose optimizer steps take whole groups. Phases are timed by its callers."""

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        config: GRPOConfig,
        processor: ProcessorMixin,
        dataset: Any,
        reward: Callable,
        rollout: Callable,
        callbacks: list[TrainerCallback],
        recorder: Recorder,
        phases: Phases,
        strategy: str = "ddp",
        adapter: PeftConfig | None = None,
        importance_cap: float | None = None,
    ) -> None:
        """`strategy` is how several processes hold the weights: "ddp" or "fsdp2" (see sharding.py)."""
        super().__init__(
            model=model,
            reward_funcs=reward,
            args=config,
            train_dataset=dataset,
            processing_class=processor,
            rollout_func=rollout,
            callbacks=callbacks,
            peft_config=adapter,
        )
        self._recorder, self._phases = recorder, phases
        self._scores_later = False
        self._importance_cap = importance_cap
        models = [self.model, *([] if self.ref_model is None else [self.ref_model])]
        self._packs = all(log_probs.prepare(one) for one in models)
        if strategy == "fsdp2":
            for one in models:
                sharding.split(one)
            self.accelerator.prepare_model = lambda model, *_, **__: model  # as it is: not a copy a process

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """The next micro-batch. In place of TRL's own method, which shuffles sequences and scores the padded
        generation batch.

        Args:
            generation_batch: rows of this process's part of the generation batch, each prompt `group_size`
                times in a row.
        """
        slots = self.args.steps_per_generation
        if self._step % slots == 0 or self._buffered_inputs is None:
            with self._phases.measure("experience"):
                self._scores_later = True
                try:
                    batch = self._generate_and_score_completions(generation_batch)
                finally:
                    self._scores_later = False
                self._recorder.record_rollouts(batch["advantages"].tolist())
                self._buffered_inputs = self._micro_batches(batch)
                self._score(self._buffered_inputs)
        return self._buffered_inputs[self._step % slots]

    def _micro_batches(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        count, group = self.args.steps_per_generation, self.num_generations
        if self._packs:
            return micro_batches.shared(batch, count, group)
        if (
            self.loss_type == "dapo"
        ):  # its sum over tokens does not depend on which sequences make a micro-batch
            steps = count // self.args.gradient_accumulation_steps
            batch = micro_batches.reordered(batch, micro_batches.by_length(batch, steps, group))
        return micro_batches.padded(batch, count)

    def _score(self, batches: list[dict[str, Any]]) -> None:
        """Add the log-probabilities that the loss compares with. Those of the old policy are left out in the
        first optimizer step, where the policy still is the one that drew, so that the ratio is one: TRL's
        loss then takes its own, detached. An importance correction needs them all."""
        model = self.accelerator.unwrap_model(self.model)
        with torch.no_grad(), disable_gradient_checkpointing(model, self.args.gradient_checkpointing_kwargs):
            for i, batch in enumerate(batches):
                if i >= self.args.gradient_accumulation_steps or self._importance_cap is not None:
                    batch["old_per_token_logps"] = self._log_probs(self.model, batch)
                if self.ref_model is not None:
                    batch["ref_per_token_logps"] = self._log_probs(self.ref_model, batch)
                elif self.beta:
                    with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
                        batch["ref_per_token_logps"] = self._log_probs(self.model, batch)
            self._watch_parity(batches)
            if self._importance_cap is not None:
                self._correct(batches, self._importance_cap)

    def _watch_parity(self, batches: list[dict[str, Any]]) -> None:
        """Log how far the engine that drew is from the policy. Where the loss needs no old log-probabilities,
        one micro-batch is scored."""
        probe = batches[0]
        if probe.get("sampling_per_token_logps") is None:
            return
        known = [batch for batch in batches if "old_per_token_logps" in batch]
        gap = parity.of_batches(
            known or [{**probe, "old_per_token_logps": self._log_probs(self.model, probe)}]
        )
        if gap is not None:
            gap = float(self.accelerator.gather(torch.tensor([gap], device=self.accelerator.device)).mean())
            self._metrics["train"][parity.METRIC].append(gap)
            if self.accelerator.is_main_process:
                parity.say_if_alarming(gap, self.state.global_step)

    def _correct(self, batches: list[dict[str, Any]], cap: float) -> None:
        for batch in batches:
            if batch.get("sampling_per_token_logps") is None:
                raise RolloutError("importance_correction needs an engine that reports log-probabilities.")
            drawn = batch["sampling_per_token_logps"]
            batch["advantages"] = importance.weighed(
                batch["advantages"], batch["old_per_token_logps"], drawn, cap
            )

    def _log_probs(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        ids, mask = (
            torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], dim=1)
            for name in ("ids", "mask")
        )
        inputs = {name: batch.get(name) for name in micro_batches.MODEL_INPUTS}
        return self._get_per_token_logps_and_entropies(
            model, ids, mask, batch["completion_ids"].shape[1], **inputs
        )[0]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        **inputs: Any,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        """TRL's one way to log-probabilities and entropies, of the old policy, the reference and the policy
        that is trained.

        While a generation batch is drawn TRL asks for the first two over the whole padded batch, and takes
        None for an answer: they are computed by micro-batch in `_score`.
        """
        if self._scores_later:
            return None, None, None
        if not self._packs:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, **inputs
            )
        with self.accelerator.autocast():
            return *log_probs.completion_log_probs(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                inputs["num_images"],
                inputs["pixel_values"],
                inputs["image_grid_thw"],
            ), None

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: PreTrainedModel | None = None
    ) -> None:
        """Restore every weight that is trained, or raise."""
        if isinstance(self.model, PeftModel):
            adapters.load(self.model, Path(resume_from_checkpoint))
            return
        saved = checkpoints.load_model(Path(resume_from_checkpoint), dtype=self.model.dtype).state_dict()
        if sharding.is_split(self.model):
            sharding.set_weights(self.model, saved)
        else:
            (model or self.model).load_state_dict(saved, strict=True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """An ordinary folder of whole weights, however they are held."""
        if not sharding.is_split(self.model):
            super().save_model(output_dir, _internal_call)
            return
        found = sharding.weights(self.model)
        if self.args.should_save:
            self._save(output_dir, state_dict=found)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not sharding.is_split(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        found = sharding.moments(self.model, self.optimizer.optimizer)
        if self.args.should_save:
            torch.save(found, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not sharding.is_split(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        found = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        sharding.set_moments(self.model, self.optimizer.optimizer, found)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: Any = None
    ) -> None:
        """No card: checkpoints to resume from are scratch."""


def device_name() -> str:
    """Where a stage computes."""
    return "cuda" if torch.cuda.is_available() else "cpu"
