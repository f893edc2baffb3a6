"""Rollouts of an engine that is not quite the policy, weighed as what they are.

An engine with other kernels or precision draws a token with probability q where the trainer's policy has pi.
Truncated importance sampling weighs the token's surrogate loss by min(pi / q, C): unbiased but for the
truncation, which bounds its variance (Ionides 2008, Truncated Importance Sampling). TRL has the same as
"token_truncate", for rollouts by its own vLLM alone; the KL term is not weighed there either. The published
code has no correction.
"""

from __future__ import annotations

from torch import Tensor


def weighed(advantages: Tensor, policy: Tensor, engine: Tensor, cap: float) -> Tensor:
    """Advantages by token, each multiplied by its weight. The clipped surrogate is linear in the advantage
    for positive factors, so this is the surrogate loss of each token multiplied by it.

    Args:
        advantages: (sequences,).
        policy, engine: (sequences, completion time), log-probabilities of the drawn tokens before any step on
            them.
        cap: C.

    Returns:
        (sequences, completion time); at padding something finite.
    """
    return advantages[:, None] * (policy - engine).exp().clamp(max=cap)
