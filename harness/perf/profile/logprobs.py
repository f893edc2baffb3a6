"""Do the engine that draws and the trainer agree on log-probabilities? docs/performance.md says what a gap
holds."""

from __future__ import annotations

from collections.abc import Sequence

from harness.perf.profile.results import LogprobGap
from vzero.grpo.micro_batches import MicroBatch
from vzero.rollout.protocol import Rollout


def logprob_gap(rollouts: Sequence[Rollout], micro_batches: Sequence[MicroBatch]) -> LogprobGap:
    """Mean and largest |difference| a token between engine and trainer.

    The reference stands in where no old log-probabilities are computed: it holds the same weights here.
    Nothing is compared where the trainer computes neither, or no longer keeps sequences in the order of the
    rollouts.
    """
    drawn = iter([one for rollout in rollouts for one in rollout.completions])
    differences: list[float] = []
    for batch in micro_batches:
        values = batch.ref_log_probs if batch.old_log_probs is None else batch.old_log_probs
        if values is None:
            return LogprobGap()
        for ids, mine in zip(batch.completion_ids.tolist(), values.tolist(), strict=True):
            one = next(drawn, None)
            if one is None or tuple(ids[: len(one.token_ids)]) != one.token_ids:
                return LogprobGap()
            differences += [abs(a - b) for a, b in zip(one.logprobs, mine, strict=False)]
    if next(drawn, None) is not None or not differences:  # an engine without log-probabilities
        return LogprobGap()
    mean = sum(differences) / len(differences)
    return LogprobGap(mean=mean, max=max(differences), tokens=len(differences))
