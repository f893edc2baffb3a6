"""Attention over a packed row (see packing.py), as an attention implementation of Hugging Face's.

On a GPU one call of FlexAttention (arXiv 2412.05496), which reads only what is seen. Elsewhere two dense
calls of PyTorch's own attention: prompts among themselves, and sequences over their prompt and themselves,
with padding inside. Anything but a packed row is attended to as `sdpa` does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vzero.grpo.packing import Layout

NAME = "vzero_shared_prompt"


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | BlockMask | None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Hugging Face's attention interface; `options` are its own (dropout, scaling ...), handed on.

    Args:
        query, key, value: (1, heads, tokens, head size) of a packed row, or whatever `sdpa` takes.
        attention_mask, layout: `Packed.mask` and `.layout` of a packed row.

    Returns:
        (1, tokens, heads, head size).
    """
    # Rotations leave float32 behind under autocast, twice what any kernel needs to read.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if isinstance(attention_mask, BlockMask):
        return _flex(query, key, value, attention_mask, options["scaling"]), None
    if layout is None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return attended
    rows = [one[0].transpose(0, 1) for one in (query, key, value)]  # (tokens, heads, head size)
    prompts = [_gather(one, layout.prompts) for one in rows]
    of_prompts = sdpa_attention_forward(module, *prompts, None, **options)[0]
    own = [_gather(one, layout.sequences) for one in rows]
    visible = [
        torch.cat([of[layout.group], one], dim=2) for of, one in zip(prompts[1:], own[1:], strict=True)
    ]
    of_sequences = sdpa_attention_forward(module, own[0], *visible, attention_mask, **options)[0]
    padded = torch.cat([of_prompts.flatten(0, 1), of_sequences.flatten(0, 1)])
    return padded.index_select(0, layout.order)[None], None


def _flex(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float) -> Tensor:
    """One call over the row, filled up to the length of its mask."""
    tokens = query.shape[2]
    filled = (pad(one, (0, 0, 0, mask.seq_lengths[0] - tokens)) for one in (query, key, value))
    found: Tensor = _kernel(query.device.type)(*filled, block_mask=mask, scale=scaling, enable_gqa=True)
    return found[:, :, :tokens].transpose(1, 2)


@cache
def _kernel(device: str) -> Callable[..., Any]:
    """Compiled for a GPU. Elsewhere as PyTorch computes it without a compiler, over the whole matrix: for
    tests."""
    kernel: Callable[..., Any] = flex_attention
    return torch.compile(kernel, dynamic=True) if device == "cuda" else kernel


def reads_blocks(device: torch.device) -> bool:
    """Whether packed rows on `device` are read by FlexAttention, which has no backward pass on a CPU."""
    return device.type == "cuda"


def _gather(states: Tensor, places: Tensor) -> Tensor:
    """(tokens, heads, head size) at (rows, columns) places -> (rows, heads, columns, head size)."""
    found = states.index_select(0, places.flatten())
    return found.view(*places.shape, *states.shape[1:]).transpose(1, 2)


def use(config: Any) -> None:
    """Let a text model of this configuration attend to packed rows; other batches are attended to as before,
    by `sdpa`."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config._attn_implementation = NAME
