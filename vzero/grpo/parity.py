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
from typing import Any

import torch
from torch import Tensor

ALARM = 0.05  # nats; float32 on both sides gives 1e-5 (results/vllm-cpu)
METRIC = "sampling/logprob_gap"


def mean_gap(engine: Sequence[Tensor], trainer: Sequence[Tensor], mask: Sequence[Tensor]) -> float:
    """Mean absolute difference over tokens.

    Args:
        engine, trainer: for each micro-batch, log-probabilities (sequences, completion time).
        mask: 1 at drawn tokens, the same shapes.
    """
    gaps = [
        (one.float() - other.float()).abs()[kept.bool()]
        for one, other, kept in zip(engine, trainer, mask, strict=True)
    ]
    return float(torch.cat(gaps).mean())


def of_batches(batches: Sequence[dict[str, Any]]) -> float | None:
    """The gap over the micro-batches whose old log-probabilities the trainer computed; None where there is
    none."""
    both = [
        batch
        for batch in batches
        if batch.get("old_per_token_logps") is not None and batch.get("sampling_per_token_logps") is not None
    ]
    if not both:
        return None
    columns = ("sampling_per_token_logps", "old_per_token_logps", "completion_mask")
    return mean_gap(*([batch[name] for batch in both] for name in columns))


def say_if_alarming(gap: float, step: int) -> None:
    """One line for the stage's log."""
    if not gap <= ALARM:  # NaN too
        print(
            f"warning: after optimizer step {step} the rollout engine's log-probabilities differ from the trainer's by {gap:.3f} nats a "
            f"token on average (alarm: {ALARM}); rollouts do not come from the policy that is trained, see docs/engines.md.",
            file=sys.stderr,
            flush=True,
        )
