"""Every benchmark, by shape. Run by `make bench`; one of them: `make bench ARGS="-k votes"`; quickly:
`ARGS="--rounds 1"`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import generation, hostile, scoring, training
from benchmarks.conftest import Versus
from benchmarks.shapes import POCKET, SHAPES, Shape

by_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.replace(" ", "-"))


@by_shape
def test_votes(versus: Versus, shape: Shape) -> None:
    versus("votes, ten calls", shape.name, lambda: generation.votes(shape))


@by_shape
def test_batched_votes(versus: Versus, shape: Shape) -> None:
    versus("votes, one batch", shape.name, lambda: generation.batched_votes(shape))


@by_shape
def test_prompt_reuse(versus: Versus, shape: Shape) -> None:
    versus("image and prompt reuse", shape.name, lambda: generation.prompt_reuse(shape))


@by_shape
def test_decode(versus: Versus, shape: Shape) -> None:
    versus("decoding loop", shape.name, lambda: generation.decode(shape))


def test_slots(versus: Versus) -> None:
    versus("slots refilled", "pocket", lambda: generation.slots(POCKET))


@pytest.mark.parametrize("filters", ["none", "top-k 40", "top-p 0.9"])
@by_shape
def test_draw(versus: Versus, shape: Shape, filters: str) -> None:
    versus(f"draw a token, {filters}", shape.name, lambda: generation.draw_step(shape, filters))


@pytest.mark.parametrize("against", ["log_softmax", "selective_log_softmax"])
@by_shape
def test_token_logprobs(versus: Versus, shape: Shape, against: str) -> None:
    versus(f"token log-probs, {against}", shape.name, lambda: scoring.token_logprobs(shape, against))


@by_shape
def test_grpo_loss(versus: Versus, shape: Shape, tmp_path: Path) -> None:
    versus("GRPO loss", shape.name, lambda: scoring.grpo_loss(shape, tmp_path))


@by_shape
def test_packing(versus: Versus, shape: Shape) -> None:
    versus("shared prompts, packed", shape.name, lambda: scoring.packing(shape))


@pytest.mark.parametrize("kind", ["well-formed", "hostile"])
def test_parsing(versus: Versus, kind: str) -> None:
    versus(f"reward parsing, {kind}", "any", lambda: hostile.parsing(kind))


@pytest.mark.parametrize("role", ["questioner", "solver"])
def test_generation_batch(versus: Versus, role: str, tmp_path: Path) -> None:
    versus(f"generation batch, {role}", "pocket", lambda: training.batch_of(role, tmp_path))
