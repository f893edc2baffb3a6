"""Votes, rollouts and the sampler: our engine against `transformers.generate` and its logits processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from benchmarks.case import Case, drawn_tokens
from benchmarks.shapes import POCKET, SEED, Shape, Subject, device, fit_for_cpu, subject
from benchmarks.workload import ENGINE_BATCH, engine, group_requests, mixed_requests, requests
from harness.perf.profile.stock import generate_separately
from vzero.config import SamplingConfig
from vzero.presets import load_preset
from vzero.rollout.protocol import Request
from vzero.rollout.sampling import adjust, draw, log_distribution, uniforms
from vzero.rollout.transformers_engine import TransformersEngine

SLOTS = 32
WHOLE_LAYER = "every decoded token reads the whole layer"


def votes(shape: Shape) -> Case:
    """Ten votes a question: one request with n = 10, against ten calls of `generate` for each question."""
    fit_for_cpu(shape, WHOLE_LAYER)
    of, asked, sampling = subject(shape), requests(4 if shape == POCKET else 1), _votes(shape)
    one = sampling.model_copy(update={"n": 1})

    def stock() -> float:
        calls = [(request, index) for request in asked for index in range(sampling.n)]
        return sum(_generate(of, [request], one, index) for request, index in calls)

    return Case(
        lambda: _ours(of, asked, sampling),
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
    fit_for_cpu(shape, WHOLE_LAYER)
    sampling = _votes(shape)
    return _of_group(
        shape,
        sampling,
        f"one request a question, n = {sampling.n}",
        f"one generate call, {sampling.n} copies of each prompt",
    )


def prompt_reuse(shape: Shape) -> Case:
    """A group's questions about one picture up to the first token of each vote: pictures encoded and prompts
    read."""
    n, questions = (10, 16) if shape == POCKET else (5, 2)
    return _of_group(
        shape,
        SamplingConfig(n=n, max_new_tokens=1),
        "each picture and prompt once",
        f"generate: each prompt {n} times, each picture {questions * n} times",
    )


def _of_group(shape: Shape, sampling: SamplingConfig, ours_is: str, stock_is: str) -> Case:
    """A group's questions about one picture in one call of either side."""
    of, asked = subject(shape), group_requests(16 if shape == POCKET else 2)
    sizes = {"votes": sampling.n, "max_new_tokens": sampling.max_new_tokens}
    return Case(
        lambda: _ours(of, asked, sampling),
        lambda: _generate(of, asked, sampling),
        ours_is,
        stock_is,
        "completion token",
        {"questions": len(asked), "pictures": 1, **sizes},
        [of.model],
    )


def decode(shape: Shape) -> Case:
    """Different prompts, one completion each, the same batch: nothing to share, so this is the decoding
    loop."""
    fit_for_cpu(shape, WHOLE_LAYER)
    of, asked = subject(shape), requests(64 if shape == POCKET else 8)
    sampling = SamplingConfig(n=1, max_new_tokens=40 if shape == POCKET else 8)
    return Case(
        lambda: _ours(of, asked, sampling),
        lambda: _generate(of, asked, sampling),
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
    of, asked = subject(shape), mixed_requests(2 * SLOTS)
    sampling = SamplingConfig(n=1, temperature=2.0, max_new_tokens=96)  # so hot that some ramble on
    few = TransformersEngine(of.model, of.processor, SLOTS)

    def stock() -> float:
        calls = (asked[start : start + SLOTS] for start in range(0, len(asked), SLOTS))
        return sum(drawn_tokens(few.generate(call, sampling)) for call in calls)

    return Case(
        lambda: drawn_tokens(few.generate(asked, sampling)),
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
    rows, vocabulary, place = 1280 if shape == POCKET else 16, shape.vocabulary, device()
    top_k, top_p = 40 if filters == "top-k 40" else 0, 0.9 if filters == "top-p 0.9" else 1.0
    sampling = SamplingConfig(max_new_tokens=1, top_k=top_k, top_p=top_p)
    logits = (3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(SEED))).to(place)
    forbidden = torch.zeros(vocabulary, dtype=torch.bool, device=place)
    forbidden[:8] = True
    numbers = torch.from_numpy(uniforms([(SEED, i) for i in range(rows)], 1)[:, 0]).to(place)
    processors = LogitsProcessorList([SuppressTokensLogitsProcessor(list(range(8)), device=place)])
    if top_k:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        processors.append(TopPLogitsWarper(top_p))

    def theirs() -> torch.Tensor:
        before: Any = torch.zeros(rows, 1, dtype=torch.int64, device=place)
        return torch.softmax(processors(before, logits.float()), dim=-1)

    def apart() -> float:
        ours = log_distribution(adjust(logits, sampling, forbidden, None), sampling).exp()
        return float((ours - theirs()).abs().max())

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
        difference=apart,
    )


def _votes(shape: Shape) -> SamplingConfig:
    """The pocket preset's votes; four tokens of them for a slice."""
    votes_of_preset = load_preset("pocket").solver.votes
    return votes_of_preset if shape == POCKET else votes_of_preset.model_copy(update={"max_new_tokens": 4})


def _ours(of: Subject, asked: Sequence[Request], sampling: SamplingConfig) -> float:
    return drawn_tokens(engine(of).generate(asked, sampling))


def _generate(of: Subject, asked: Sequence[Request], sampling: SamplingConfig, index: int = 0) -> float:
    return drawn_tokens(generate_separately(engine(of), asked, sampling, ENGINE_BATCH, SEED + index))
