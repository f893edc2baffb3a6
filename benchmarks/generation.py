"""Votes, rollouts and the sampler: our engine against `transformers.generate` and its logits processors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.case import Case, Unfit
from benchmarks.shapes import POCKET, SEED, SLICE_7B, Shape, Subject, device, subject
from benchmarks.workload import ENGINE_BATCH, engine, group_requests, mixed_requests, requests
from harness.perf.profile.stock import generate_separately
from vzero.config import SamplingConfig
from vzero.presets import load_preset
from vzero.rollout.protocol import Request, Rollout
from vzero.rollout.sampling import adjust, draw, log_distribution, uniforms
from vzero.rollout.transformers_engine import TransformersEngine

SLOTS = 32


def votes(shape: Shape) -> Case:
    """Ten votes a question: one request with n = 10, against ten calls of `generate` for each question."""
    _small_enough(shape)
    of, asked = subject(shape), requests(4 if shape == POCKET else 1)
    sampling = _votes(shape)
    ours = engine(of)

    def stock() -> float:
        one = sampling.model_copy(update={"n": 1})
        calls = [(request, index) for request in asked for index in range(sampling.n)]
        return sum(_tokens(_generate(of, [request], one, ours, index)) for request, index in calls)

    return Case(
        lambda: _tokens(ours.generate(asked, sampling)),
        stock,
        f"one request a question, n = {sampling.n}",
        f"{sampling.n} generate calls a question",
        "completion token",
        {"questions": len(asked), "votes": sampling.n, "max_new_tokens": sampling.max_new_tokens},
        [of.model],
    )


def batched_votes(shape: Shape) -> Case:
    """Ten votes a question, the stock side decoding all of them in one batch: what sharing pictures and
    prompts alone is worth."""
    _small_enough(shape)
    of, asked = subject(shape), group_requests(16 if shape == POCKET else 2)
    sampling = _votes(shape)
    ours = engine(of)
    return Case(
        lambda: _tokens(ours.generate(asked, sampling)),
        lambda: _tokens(_generate(of, asked, sampling, ours, 0)),
        f"one request a question, n = {sampling.n}",
        f"one generate call, {sampling.n} copies of each prompt",
        "completion token",
        {
            "questions": len(asked),
            "pictures": 1,
            "votes": sampling.n,
            "max_new_tokens": sampling.max_new_tokens,
        },
        [of.model],
    )


def prompt_reuse(shape: Shape) -> Case:
    """A group's questions about one picture up to the first token of each vote: pictures encoded and prompts
    read."""
    of, asked = subject(shape), group_requests({POCKET: 16}.get(shape, 2))
    n = 10 if shape == POCKET else 5
    sampling = SamplingConfig(n=n, max_new_tokens=1)
    ours = engine(of)
    return Case(
        lambda: _tokens(ours.generate(asked, sampling)),
        lambda: _tokens(_generate(of, asked, sampling, ours, 0)),
        "each picture and prompt once",
        f"generate: each prompt {n} times, each picture {len(asked) * n} times",
        "completion token",
        {"questions": len(asked), "pictures": 1, "votes": n, "max_new_tokens": 1},
        [of.model],
    )


def decode(shape: Shape) -> Case:
    """Different prompts, one completion each, the same batch: nothing to share, so this is the decoding
    loop."""
    _small_enough(shape)
    of, asked = subject(shape), requests(64 if shape == POCKET else 8)
    sampling = SamplingConfig(n=1, max_new_tokens=40 if shape == POCKET else 8)
    ours = engine(of)
    return Case(
        lambda: _tokens(ours.generate(asked, sampling)),
        lambda: _tokens(_generate(of, asked, sampling, ours, 0)),
        "our decoding loop: finished rows leave, the cache grows in place",
        "generate, the same batch",
        "completion token",
        {"prompts": len(asked), "max_new_tokens": sampling.max_new_tokens},
        [of.model],
    )


def slots(shape: Shape) -> Case:
    """Completions of very different lengths in few slots: a freed slot is refilled, or a batch waits for its
    longest.

    Both sides are our engine and draw the same tokens, since a draw depends on its request alone.
    """
    of = subject(shape)
    asked = mixed_requests(2 * SLOTS)
    sampling = SamplingConfig(n=1, temperature=2.0, max_new_tokens=96)  # so hot that some ramble on
    few = TransformersEngine(of.model, of.processor, SLOTS)

    def stock() -> float:
        return sum(
            _tokens(few.generate(asked[start : start + SLOTS], sampling))
            for start in range(0, len(asked), SLOTS)
        )

    return Case(
        lambda: _tokens(few.generate(asked, sampling)),
        stock,
        f"one call, {SLOTS} slots refilled as completions end",
        f"the same engine, {SLOTS} requests a call: each batch waits for its longest",
        "completion token",
        {"requests": len(asked), "slots": SLOTS, "max_new_tokens": sampling.max_new_tokens},
        [of.model],
    )


def draw_step(shape: Shape, filters: str) -> Case:
    """One token for each row of logits.

    Args:
        filters: "none" (rollouts), "top-k 40" (votes in the reward) or "top-p 0.9" (votes for labels), as the
            presets have them.
    """
    rows, vocabulary = (1280, shape.vocabulary) if shape == POCKET else (16, shape.vocabulary)
    known = {"none": {}, "top-k 40": {"top_k": 40}, "top-p 0.9": {"top_p": 0.9}}
    sampling = SamplingConfig(max_new_tokens=1, **known[filters])
    generator = torch.Generator().manual_seed(SEED)
    logits = (3 * torch.randn(rows, vocabulary, generator=generator)).to(device())
    forbidden = torch.zeros(vocabulary, dtype=torch.bool, device=device())
    forbidden[:8] = True
    numbers = torch.from_numpy(np.concatenate([uniforms(SEED, i, 1) for i in range(rows)])).to(device())
    processors = _processors(sampling, forbidden)

    def theirs() -> torch.Tensor:
        return torch.softmax(
            processors(torch.zeros(rows, 1, dtype=torch.int64, device=device()), logits.float()), dim=-1
        )

    def stock() -> float:
        torch.multinomial(theirs(), num_samples=1).squeeze(1)
        return rows

    def ours() -> float:
        draw(logits, sampling, numbers, forbidden)
        return rows

    return Case(
        ours,
        stock,
        "vzero.rollout.sampling.draw: a row's own uniform number, log-probability of the draw included",
        "the logits processors of generate, softmax, multinomial",
        "token",
        {"rows": rows, "vocabulary": vocabulary, "filters": filters},
        difference=lambda: float(
            (log_distribution(adjust(logits, sampling, forbidden, None), sampling).exp() - theirs())
            .abs()
            .max()
        ),
    )


def _processors(sampling: SamplingConfig, forbidden: torch.Tensor) -> object:
    from transformers.generation.logits_process import (
        LogitsProcessorList,
        SuppressTokensLogitsProcessor,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    found = [SuppressTokensLogitsProcessor(forbidden.nonzero()[:, 0].tolist(), device=device())]
    if sampling.top_k:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(sampling.top_p))
    return LogitsProcessorList(found)


def _votes(shape: Shape) -> SamplingConfig:
    """The pocket preset's votes; four tokens of them for a slice."""
    votes_of_preset = load_preset("pocket").solver.votes
    return votes_of_preset if shape == POCKET else votes_of_preset.model_copy(update={"max_new_tokens": 4})


def _small_enough(shape: Shape) -> None:
    if shape == SLICE_7B and device() == "cpu":
        raise Unfit("needs a GPU: every decoded token reads the whole layer")


def _generate(
    of: Subject, asked: Sequence[Request], sampling: SamplingConfig, ours: object, index: int
) -> list[Rollout]:
    return generate_separately(
        of.model, of.processor, asked, sampling, ENGINE_BATCH, sorted(ours.forbidden), SEED + index
    )


def _tokens(rollouts: Sequence[Rollout]) -> float:
    return sum(len(one.token_ids) for rollout in rollouts for one in rollout.completions)
