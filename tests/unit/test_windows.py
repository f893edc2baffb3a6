"""The grouped vision tower against Hugging Face's own: bits, gradients, calls of attention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen

from tests import tiny_idefics3, tiny_model
from vzero.runtime import checkpoints, windows

PATCH = 3 * 2 * 14 * 14
SIDES = st.integers(1, 10).map(lambda merged: 2 * merged)
GRIDS = st.lists(st.tuples(st.integers(1, 2), SIDES, SIDES), min_size=1, max_size=3)
MEGAPIXEL = (1, 62, 82)  # patches of a picture of 1154 x 866


class AttentionCalls(TorchFunctionMode):
    """Counts calls of PyTorch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.nn.functional.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


def tower(grouped: bool) -> torch.nn.Module:
    """A narrow tower with the windows of the real one; every other layer sees whole pictures."""
    config = qwen.Qwen2_5_VLVisionConfig(
        depth=2,
        hidden_size=32,
        num_heads=2,
        intermediate_size=32,
        out_hidden_size=16,
        fullatt_block_indexes=[1],
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    made = qwen.Qwen2_5_VisionTransformerPretrainedModel._from_config(config, attn_implementation="sdpa")
    assert not grouped or windows.group(made)
    return made


def features_of(model: torch.nn.Module, pixels: torch.Tensor, grid: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Features, and calls of attention."""
    with AttentionCalls() as calls:
        return model(pixels, grid).pooler_output, calls.count


def run(model: torch.nn.Module, grids: list[tuple[int, int, int]]) -> tuple[torch.Tensor, list, int]:
    """Features, gradients of their weighted sum, and calls of attention forward."""
    grid = torch.tensor(grids)
    pixels = torch.randn(
        int(grid.prod(1).sum()), PATCH, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()
    features, calls = features_of(model, pixels, grid)
    model.zero_grad()
    (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
    return features.detach(), [pixels.grad, *(one.grad.clone() for one in model.parameters())], calls


@pytest.mark.slow
@given(GRIDS)
@settings(deadline=None, max_examples=12)
def test_features_and_gradients_are_hugging_faces_to_the_bit(grids: list[tuple[int, int, int]]) -> None:
    torch.set_num_threads(1)
    (stock, stock_gradients, _), (ours, gradients, calls) = (run(tower(g), grids) for g in (False, True))
    assert torch.equal(stock, ours)
    assert all(torch.equal(one, other) for one, other in zip(stock_gradients, gradients, strict=True))
    # A side ends in at most one narrower window: four shapes a picture; and one length a picture when whole.
    assert calls <= 4 * len(grids) + len(grids)


def test_a_picture_of_one_megapixel_takes_four_calls_a_layer() -> None:
    grid = torch.tensor([MEGAPIXEL] * 2)
    pixels = torch.zeros(int(grid.prod(1).sum()), PATCH)
    with torch.no_grad():  # one layer of windows, one of whole pictures
        stock, ours = (features_of(tower(grouped), pixels, grid)[1] for grouped in (False, True))
    windows_of_a_picture = -(-62 // 8) * -(-82 // 8)
    assert (stock, ours) == (2 * windows_of_a_picture + 2, 4 + 1)


def test_checkpointed_layers_give_the_same_gradients() -> None:
    plain, checkpointed = tower(True), tower(True).train()
    checkpointed.gradient_checkpointing_enable()
    grids = [(1, 10, 18), (1, 8, 4)]
    for one, other in zip(run(plain, grids)[1], run(checkpointed, grids)[1], strict=True):
        assert torch.equal(one, other)


def test_models_are_opened_with_it(tmp_path: Path) -> None:
    model = checkpoints.load_model(tiny_model.build(tmp_path / "model"))
    layers = [block.attn for block in model.model.visual.blocks]
    assert layers and all(type(one) is windows.GroupedWindows for one in layers)


@pytest.mark.parametrize("kind", ["another family", "another attention"])
def test_other_towers_are_left_alone(kind: str) -> None:
    if kind == "another family":
        model = tiny_idefics3.model(tiny_idefics3.processor(["a"]).tokenizer)
    else:
        model = tiny_model.model(tiny_model.vocabulary())
        model.model.visual.config._attn_implementation = "eager"
    before = [type(one) for one in model.modules()]
    assert not windows.group(model) and [type(one) for one in model.modules()] == before
