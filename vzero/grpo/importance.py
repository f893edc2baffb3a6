"""Rollouts of an engine that is not quite the policy, weighed as what they are.

An engine with other kernels or precision draws a token with probability q where the trainer's policy has pi.
Truncated importance sampling weighs the token's surrogate loss by min(pi / q, C): unbiased but for the
truncation, which bounds its variance (Ionides 2008, Truncated Importance Sampling). TRL has the same as
"token_truncate", for rollouts by its own vLLM alone; the KL term is not weighed there either. The public code
has no correction.
"""

from __future__ import annotations

from dataclasses import replace

from vzero.errors import RolloutError
from vzero.grpo.micro_batches import MicroBatch


def weighed(batch: MicroBatch, cap: float) -> MicroBatch:
    """The same batch with an advantage for each token, multiplied by its weight.

    The clipped surrogate is linear in the advantage for positive factors, so this is the surrogate loss of
    each token multiplied by it.

    Args:
        batch: scored by the policy before any step on it.
        cap: C.

    Raises:
        RolloutError: the engine reports no log-probabilities.
    """
    if batch.engine_log_probs is None or batch.old_log_probs is None:
        raise RolloutError("importance_correction needs an engine that reports log-probabilities.")
    weights = (batch.old_log_probs - batch.engine_log_probs).exp().clamp(max=cap)
    return replace(batch, advantages=batch.advantages[:, None] * weights)
