"""One step of GRPO, to be read from top to bottom: rollout -> reward -> advantage -> loss.

`train` runs these lines. `experience` happens once a generation batch, `compute_loss` once a micro-batch of
its optimizer steps; Hugging Face's trainer calls them, differentiates the loss and steps AdamW. What hangs
below: rollouts in policy_rollout.py, packing and padding in micro_batches.py and log_probs.py, every number
of the configuration in settings.py, checkpoints and sharding in trainer.py.

GRPO is DeepSeekMath's (arXiv 2402.03300): its equation 3, with the KL estimator of equation 4.

Departures from the paper of V-Zero (arXiv 2601.10094) and its public code are listed in docs/method.md.

Departures from stock TRL, whose `GRPOTrainer` this is:
- An optimizer step takes whole groups, in the order of the data set, which is a random one already
  (data.py). TRL shuffles the sequences of a generation batch, which tears groups over its steps.
- Completions come from an engine of ours, one request a prompt, with a seed of its own. A resumed training
  draws exactly what an undisturbed one would have drawn.
- A group's prompt and picture are computed once and nothing is padded (packing.py). TRL computes them once a
  completion and pads the whole generation batch. The objective and its gradient are the same.
- In the first optimizer step of a generation batch the policy still is the one that drew, so its ratio is
  one and nothing is scored. TRL scores the whole generation batch.
- The old log-probabilities come from the trainer's own forward, never from the engine: the ratio must not
  compare two implementations.
- No bias-corrected KL. TRL multiplies k3 by the ratio, by default; that changes the gradient even where the
  ratio is one, and neither the paper nor the public code does it.
- The dual clip is on (`delta`), the learning rate constant, the weight of the KL term .01: see settings.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from vzero.errors import RolloutError
from vzero.grpo import parity
from vzero.grpo.groups import Group, Reward
from vzero.grpo.log_probs import completion_log_probs
from vzero.grpo.micro_batches import Assembly, MicroBatch
from vzero.grpo.policy_rollout import PolicyRollout
from vzero.grpo.recorder import Phases, Recorder


class GrpoStep(GRPOTrainer):
    """The algorithm. `trainer.GroupTrainer` adds how weights are held, saved and restored."""

    rollout: PolicyRollout
    reward: Reward
    assembly: Assembly
    recorder: Recorder
    phases: Phases
    importance_cap: float | None
    max_logprob_gap: float

    def experience(self, generation: int) -> list[MicroBatch]:
        """Everything before the gradient: the micro-batches of generation batch `generation`, counted from 0.

        Several processes each come here with whole groups of every step (group_sharding.py).
        """
        # 1. Rollout: `group_size` completions of each prompt, drawn from the policy as it is now.
        prompts, rollouts = self.rollout(generation, self.model)
        groups = [Group(one, drawn.completions) for one, drawn in zip(prompts, rollouts, strict=True)]

        # 2. Reward: for the Questioner from votes of the frozen Solver, for the Solver from a pseudo-label.
        with self.phases.measure("votes"):
            scores = self.reward(groups, generation)

        # 3. Advantage: how much better than its group a completion is.
        rewards = torch.tensor(scores.rewards, dtype=torch.float32, device=self.accelerator.device)
        advantages = group_advantages(rewards)
        self.recorder.record(groups, scores, advantages.tolist(), generation)
        self._log_generation(rewards, groups)

        # What the loss compares the policy with: itself before its first step, and the frozen reference.
        tokens = torch.tensor([rollout.tokens for rollout in rollouts], device=rewards.device).sum()
        tokens = self.accelerator.gather(tokens).sum()
        batches = self.assembly.micro_batches(prompts, rollouts, advantages, tokens)
        with torch.no_grad():
            for i, batch in enumerate(batches):
                stepped = i >= self.args.gradient_accumulation_steps  # else the ratio is one
                old = stepped or self.importance_cap is not None
                batches[i] = replace(
                    batch,
                    old_log_probs=self.log_probs(self.model, batch)[0] if old else None,
                    ref_log_probs=self._reference_log_probs(batch) if self.beta else None,
                )
            self._watch_parity(batches)
        return batches

    def compute_loss(
        self, model: Any, inputs: MicroBatch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """4. Loss of one micro-batch. TRL's arguments; the last two are not used.

        Per token, with ratio w = pi / pi_old:  -min(min(w, c) A, clip(w, 1 - e, 1 + e) A) + beta k3.

        Raises:
            RolloutError: weights are wanted and the engine reports no log-probabilities.
        """
        batch, mask = inputs, inputs.completion_mask
        new, entropy = self.log_probs(model, batch)  # (sequences, completion time)
        ratio = (new - (new.detach() if batch.old_log_probs is None else batch.old_log_probs)).exp()
        advantages = batch.advantages[:, None]
        if self.importance_cap is not None:  # the surrogate is linear in A, so this weighs each token's loss
            advantages = advantages * importance_weights(batch, self.importance_cap)
        loss = -clipped_surrogate(ratio, advantages, self.epsilon_low, self.args.delta)
        kl = None
        if batch.ref_log_probs is not None:
            kl = k3(new, batch.ref_log_probs)
            loss = loss + self.beta * kl
        self._log_micro_batch(batch, kl=kl, entropy=entropy, clipped=self._is_clipped(ratio, advantages))
        accumulation: int = self.current_gradient_accumulation_steps
        total: Tensor = (loss * mask).sum()
        if self.loss_type == "bnpo":
            return total / mask.sum().clamp(min=1.0) / accumulation
        slots: int = self.args.steps_per_generation
        tokens: Tensor = batch.generation_tokens.clamp(min=1.0) / self.accelerator.num_processes
        return total / (tokens * accumulation / slots)

    def log_probs(self, model: Any, batch: MicroBatch) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities and entropies of the completions' tokens, (sequences, completion time) each."""
        with self.accelerator.autocast():
            return completion_log_probs(model, batch)

    def _reference_log_probs(self, batch: MicroBatch) -> Tensor:
        if self.ref_model is not None:
            return self.log_probs(self.ref_model, batch)[0]
        with self.accelerator.unwrap_model(self.model).disable_adapter():  # LoRA: the base is the reference
            return self.log_probs(self.model, batch)[0]

    def _is_clipped(self, ratio: Tensor, advantages: Tensor) -> Tensor:
        epsilon: float = self.epsilon_low
        low, high = (ratio < 1 - epsilon) & (advantages < 0), (ratio > 1 + epsilon) & (advantages > 0)
        return low | high

    def _watch_parity(self, batches: list[MicroBatch]) -> None:
        """Log how far the engine that drew is from the policy. Where the loss needs no old log-probabilities,
        the first micro-batch is scored for this.

        Raises:
            RolloutError: too far, before the first optimizer step.
        """
        if batches[0].engine_log_probs is None:
            return
        scored = [batch for batch in batches if batch.old_log_probs is not None]
        probe = scored or [replace(batches[0], old_log_probs=self.log_probs(self.model, batches[0])[0])]
        gap = torch.tensor([parity.mean_gap(probe)], device=self.accelerator.device)
        gaps = self.accelerator.gather(gap)
        value = float(gaps.mean())
        if self.state.global_step == 0:  # later a gap is an alarm: weights have moved, on either side
            parity.refuse_above(float(gaps.max()), self.max_logprob_gap)
        self._metrics["train"][parity.METRIC].append(value)
        if self.accelerator.is_main_process:
            parity.warn_above_alarm(value, self.state.global_step)

    def _log_generation(self, rewards: Tensor, groups: list[Group]) -> None:
        """Means over all processes, under TRL's names; `recorder.py` picks them up."""
        drawn = [one for group in groups for one in group.completions]
        columns = [
            rewards.flatten(),
            _group_std(rewards).expand_as(rewards).flatten(),
            torch.tensor([float(len(one.token_ids)) for one in drawn], device=rewards.device),
            torch.tensor([float(one.finish_reason == "length") for one in drawn], device=rewards.device),
        ]
        reward, spread, length, truncated = (self.accelerator.gather(column) for column in columns)
        found = {
            "reward": reward.mean(),
            "reward_std": _group_std(reward[None])[0, 0],
            "frac_reward_zero_std": torch.isclose(spread, torch.zeros_like(spread)).float().mean(),
            "completions/mean_length": length.mean(),
            "completions/clipped_ratio": truncated.mean(),
        }
        for name, value in found.items():
            self._metrics["train"][name].append(value.item())

    def _log_micro_batch(
        self, batch: MicroBatch, kl: Tensor | None, entropy: Tensor | None, clipped: Tensor
    ) -> None:
        """Means over the tokens of this micro-batch in all processes."""
        values = {"kl": kl, "entropy": entropy, "clip_ratio/region_mean": clipped.float()}
        known = {name: value.detach() for name, value in values.items() if value is not None}
        mask = batch.completion_mask
        sums = torch.stack([*((value * mask).sum() for value in known.values()), mask.sum().float()])
        *totals, count = self.accelerator.reduce(sums, reduction="sum")
        for name, total in zip(known, totals, strict=True):
            self._metrics["train"][name].append((total / count.clamp(min=1.0)).item())


def group_advantages(rewards: Tensor) -> Tensor:
    """A = (r - mean r) / (std r + 1e-4) within each group (DeepSeekMath, section 4.1.2).

    Args:
        rewards: (groups, group size) float32.

    Returns:
        The same shape.
    """
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (_group_std(rewards) + 1e-4)


def _group_std(rewards: Tensor) -> Tensor:
    """Sample standard deviation (n - 1) of each row, (rows, 1), in TRL's order of operations."""
    n = rewards.shape[1]
    variance = ((rewards - rewards.mean(dim=1, keepdim=True)) ** 2).mean(dim=1, keepdim=True)
    return (variance * (n / (n - 1))).sqrt()


def clipped_surrogate(ratio: Tensor, advantages: Tensor, epsilon: float, dual_clip: float) -> Tensor:
    """min(min(w, c) A, clip(w, 1 - epsilon, 1 + epsilon) A): what a token's step may gain.

    PPO's clip (arXiv 1707.06347, eq. 7) with the dual clip max(., c A) for A < 0 (arXiv 1912.09729, eq. 5):
    min(w, c) inside gives the same, and changes nothing for A > 0 since 1 + epsilon < c.

    Args:
        ratio: (sequences, completion time), w.
        advantages: (sequences, 1), or by token.
        dual_clip: c.
    """
    return torch.min(
        ratio.clamp(max=dual_clip) * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages
    )


def importance_weights(batch: MicroBatch, cap: float) -> Tensor:
    """min(pi_old / q, cap) by token, for an engine that drew it with probability q.

    Truncated importance sampling (Ionides 2008): unbiased but for the truncation, which bounds its variance.
    The KL term is not weighed, as in TRL.

    Returns:
        (sequences, completion time); at padding something finite.
    """
    if batch.engine_log_probs is None or batch.old_log_probs is None:
        raise RolloutError("importance_correction needs an engine that reports log-probabilities.")
    return (batch.old_log_probs - batch.engine_log_probs).exp().clamp(max=cap)


def k3(policy: Tensor, reference: Tensor) -> Tensor:
    """The low-variance estimate of KL(policy || reference) by token (DeepSeekMath, eq. 4), never negative.

    Args:
        policy, reference: log-probabilities of tokens that the policy drew, of one shape.
    """
    return (reference - policy).exp() - (reference - policy) - 1
