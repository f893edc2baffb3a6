"""Every benchmark, by shape. Run by `make bench`; some of them: `make bench ARGS="-k votes"`; quickly:
`ARGS="--rounds 1"`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks import generation, hostile, scale, scoring, training
from benchmarks.case import Case
from benchmarks.conftest import LEAST, Versus
from benchmarks.shapes import POCKET, SHAPES, Shape

Benchmark = tuple[str, str, Callable[[], Case]]  # name, shape, and what builds the case


def by_shape(name: str, of: Callable[[Shape], Case]) -> list[Benchmark]:
    return [(name, shape.name, partial(of, shape)) for shape in SHAPES]


BENCHMARKS: list[Benchmark] = [
    *by_shape("votes, ten calls", generation.votes),
    *by_shape("votes, one batch", generation.batched_votes),
    *by_shape("image and prompt reuse", generation.prompt_reuse),
    *by_shape("decoding loop", generation.decode),
    ("slots refilled", "pocket", partial(generation.slots, POCKET)),
    *(
        (f"draw a token, {filters}", shape.name, partial(generation.draw_step, shape, filters))
        for shape in SHAPES
        for filters in ("none", "top-k 40", "top-p 0.9")
    ),
    *(
        (f"token log-probs, {against}", shape.name, partial(scoring.token_logprobs, shape, against))
        for shape in SHAPES
        for against in ("log_softmax", "selective_log_softmax")
    ),
    *by_shape("shared prompts, packed", scoring.packing),
    *(
        (f"reward parsing, {kind}", "any", partial(hostile.parsing, kind))
        for kind in ("well-formed", "hostile")
    ),
]
NAMES = [f"{name}, {shape}".replace(" ", "-") for name, shape, _ in BENCHMARKS]


@pytest.mark.parametrize(("name", "shape", "build"), BENCHMARKS, ids=NAMES)
def test_benchmark(versus: Versus, name: str, shape: str, build: Callable[[], Case]) -> None:
    versus(name, shape, build)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.replace(" ", "-"))
def test_grpo_loss(versus: Versus, shape: Shape, tmp_path: Path) -> None:
    versus("GRPO loss", shape.name, lambda: scoring.grpo_loss(shape, tmp_path))


@pytest.mark.parametrize("role", ["questioner", "solver"])
def test_generation_batch(versus: Versus, role: str, tmp_path: Path) -> None:
    versus(f"generation batch, {role}", "pocket", lambda: training.batch_of(role, tmp_path))


def test_scale(pytestconfig: pytest.Config) -> None:
    """Not against stock: by size, each point a process of its own (benchmarks/scale.py)."""
    if pytestconfig.getoption("rounds") < LEAST:
        pytest.skip("its points always have three rounds: minutes")
    scale.main(pytestconfig.getoption("results") / "scale.json")
