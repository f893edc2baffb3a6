"""Do rollouts come from the policy that is trained? The log-probabilities of an engine against the trainer's
own.

The loss differentiates the trainer's distribution, so completions drawn from another one (a prompt expanded
twice, stale weights, other kernels or precision) bias every step without a word. The gap is the mean over
drawn tokens of |log p_engine - log p_trainer| in nats. One part of it is wanted: engines never draw
structural tokens, which lifts all others by -log(1 - p(structural)).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from vzero.errors import RolloutError
from vzero.grpo.micro_batches import MicroBatch

ALARM = 0.05  # nats; float32 on both sides gives 1e-5 (results/vllm-cpu)
METRIC = "sampling/logprob_gap"


def mean_gap(batches: Sequence[MicroBatch]) -> float:
    """Mean absolute difference over the tokens of micro-batches that have both log-probabilities."""
    gaps = []
    for batch in batches:
        if batch.engine_log_probs is None or batch.old_log_probs is None:
            raise ValueError("a micro-batch without log-probabilities of the engine and of the trainer")
        difference = batch.engine_log_probs.float() - batch.old_log_probs.float()
        gaps.append(difference.abs()[batch.completion_mask.bool()])
    return float(torch.cat(gaps).mean())


def warn_above_alarm(gap: float, step: int) -> None:
    """One line for the stage's log."""
    if not gap <= ALARM:  # NaN too
        print(
            f"warning: after optimizer step {step} the rollout engine's log-probabilities differ from the "
            f"trainer's by {gap:.3f} nats a token on average (alarm: {ALARM}); rollouts do not come from the "
            "policy that is trained, see docs/engines.md.",
            file=sys.stderr,
            flush=True,
        )


def refuse_above(gap: float, bound: float) -> None:
    """What is wrong with an engine when it first draws stays wrong, and no weight has been changed by it yet.

    Raises:
        RolloutError: the gap exceeds the bound, or is no number.
    """
    if not gap <= bound:  # NaN too
        raise RolloutError(
            f"The rollout engine's log-probabilities differ from the trainer's by {gap:.3f} nats a token at "
            f"its first generation (rollouts.max_logprob_gap = {bound:g}): it does not draw from the policy, "
            "and no weight was changed; see docs/engines.md, or start anew with rollouts.engine=transformers."
        )
