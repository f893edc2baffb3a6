"""From logits to drawn tokens: pure tensor functions, the same whichever model made the logits.

The filters act in the order of Hugging Face's `generate`: forbidden tokens, repetition penalty, temperature,
top-k, top-p. A draw is the inverse of the cumulative distribution (tokens in id order) at a uniform number
that belongs to the request's seed, the completion's index and the step alone, so neighbours in a batch cannot
change it. Logits are (rows, vocabulary), any float type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vzero.config import SamplingConfig

_MASK_64 = (1 << 64) - 1


def uniforms(rows: Sequence[tuple[int, int]], count: int) -> np.ndarray:
    """For each (seed of a request, index of a completion) its first `count` uniform numbers in [0, 1): (rows,
    count) float64.

    A longer series begins with the shorter one. Philox is counter-based and specified bit by bit, hence the
    same on every machine.
    """
    philox = np.random.Philox(key=0)
    generator, state = np.random.Generator(philox), philox.state  # one, set anew: making one takes longer
    found = np.empty((len(rows), count))
    for row, (seed, index) in zip(found, rows, strict=True):
        state["state"]["key"] = np.array([seed & _MASK_64, index], dtype=np.uint64)
        philox.state = state
        generator.random(out=row)
    return found


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Repetition penalty (CTRL, arXiv 1909.05858, with the sign fix everybody uses): the logit of a `seen`
    token, (rows, vocabulary) bool, is divided by `penalty` where positive and multiplied where negative."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Drop (to -inf) every logit below the row's k-th largest. Ties with the k-th stay. `k` of 0 keeps
    all."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    least = logits.shape[-1] - k
    if logits.is_cpu:  # numpy's partition and sort are several times faster than torch's
        threshold = torch.from_numpy(np.partition(logits.numpy(), least)[:, least, None])
    else:
        threshold = torch.topk(logits, k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < threshold, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep each row's likeliest tokens until their mass reaches `p`, drop (to -inf) the rest. At least one
    stays; of equal ones the lower id comes first."""
    if p >= 1:
        return logits
    ordered = (
        torch.from_numpy(np.sort(logits.numpy())) if logits.is_cpu else logits.sort(dim=-1).values
    ).flip(-1)
    probabilities = torch.softmax(ordered, dim=-1, dtype=torch.float64)
    mass_before = probabilities.cumsum(dim=-1) - probabilities
    kept = (mass_before < p).sum(dim=-1, keepdim=True)
    least = ordered.gather(-1, kept - 1)
    above, equal = logits > least, logits == least
    stays = above | (equal & (equal.cumsum(dim=-1) <= kept - above.sum(dim=-1, keepdim=True)))
    return logits.masked_fill(~stays, -torch.inf)


def adjust(logits: Tensor, sampling: SamplingConfig, forbidden: Tensor, seen: Tensor | None) -> Tensor:
    """Float32 logits after the rules that hold for greedy decoding as well: `forbidden` tokens, (vocabulary,)
    bool, at -inf, then the repetition penalty, which needs `seen`."""
    logits = logits.float().masked_fill(forbidden, -torch.inf)
    if sampling.repetition_penalty != 1:
        if seen is None:
            raise ValueError("a repetition penalty needs to know the tokens seen so far")
        logits = penalise(logits, seen, sampling.repetition_penalty)
    return logits


def log_distribution(logits: Tensor, sampling: SamplingConfig) -> Tensor:
    """Natural logarithm of the distribution that is drawn from, for adjusted logits and a temperature above
    0: (rows, vocabulary)."""
    shifted = logits - logits.max(dim=-1, keepdim=True).values  # a tiny temperature must not overflow
    filtered = keep_top_p(keep_top_k(shifted / sampling.temperature, sampling.top_k), sampling.top_p)
    return torch.log_softmax(filtered, dim=-1)


def invert(log_probabilities: Tensor, numbers: Tensor) -> Tensor:
    """Draw by inverse cumulative distribution at `numbers`, (rows,) float64 in [0, 1).

    Returns:
        (rows,) int64: the lowest id whose cumulative probability exceeds the row's number; never an id of
        probability 0.
    """
    cumulative = log_probabilities.double().exp().cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()
    found = torch.searchsorted(cumulative, numbers[:, None] * total, right=True)
    # Rounding may lift number * total to the total itself; the last token with any probability is meant then.
    last = torch.searchsorted(cumulative, total)
    return torch.minimum(found, last)[:, 0]


def draw(
    logits: Tensor, sampling: SamplingConfig, numbers: Tensor, forbidden: Tensor, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One token a row, of the model's own logits; `numbers` (see `invert`) are not used at temperature 0.

    Returns:
        Token ids (rows,) int64 and their log-probabilities (rows,) float32 under the distribution drawn from.
        At temperature 0 that distribution is certain of the largest logit (the lowest id of equal ones), so
        the log-probability is 0.

    Raises:
        FloatingPointError: a row has NaN or no finite largest logit.
    """
    adjusted = adjust(logits, sampling, forbidden, seen)
    largest = adjusted.max(dim=-1).values
    # NaN and +inf survive a maximum; -inf means that nothing is left to draw.
    if not bool(torch.isfinite(largest).all()):
        raise FloatingPointError("the model's logits are not finite")
    if sampling.temperature == 0:
        return adjusted.argmax(dim=-1), torch.zeros_like(largest)
    log_probabilities = log_distribution(adjusted, sampling)
    tokens = invert(log_probabilities, numbers)
    return tokens, log_probabilities.gather(-1, tokens[:, None])[:, 0]
