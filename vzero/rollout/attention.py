"""Attention of single tokens over a prompt that several completions share, as an attention implementation of
Hugging Face's.

The prompt's keys are read once for all of its completions and each completion's own once: a decode step is
bound by the memory that attention reads. Both parts are one softmax, so nothing but the order of sums differs
from attention over one row of keys (compare cascade inference of FlashInfer, arXiv 2501.01005, and Hydragen,
arXiv 2402.05099).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vzero.rollout.kv_cache import SharedPrompts

NAME = "vzero_shared_prompt_decoding"


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    shared_prompts: SharedPrompts | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Hugging Face's attention interface; whatever reads no `shared_prompts` is attended to by `sdpa`.

    Args:
        query: (rows, heads, 1, head size).
        key, value: (columns, rows, key heads, head size), each row's own tokens.
        attention_mask: (rows, 1, 1, columns) bool, those that the row sees.
        shared_prompts: the prompts, and which row continues which.

    Returns:
        (rows, 1, heads, head size).
    """
    if shared_prompts is None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return attended
    assert attention_mask is not None
    rows, heads, _, size = query.shape
    keys, values = (of[module.layer_idx] for of in (shared_prompts.keys, shared_prompts.values))
    units, key_heads, width, _ = keys.shape
    grouped = query.view(rows, key_heads, heads // key_heads, size).to(keys.dtype)
    cells, each = shared_prompts.cells, shared_prompts.each
    of_prompt = _scores(_by_unit(grouped, cells, units, each), keys.transpose(2, 3))
    of_prompt.masked_fill_(shared_prompts.hidden, -torch.inf)
    own = _scores(grouped, key.permute(1, 2, 3, 0)).masked_fill_(~attention_mask, -torch.inf)
    scores = torch.cat([_by_row(of_prompt, cells, each), own], dim=-1)
    weights = scores.mul_(size**-0.5 if scaling is None else scaling).softmax(dim=-1).to(values.dtype)
    prompt_weights = _by_unit(weights[..., :width], cells, units, each)
    found = _by_row(torch.matmul(prompt_weights, values), cells, each)
    found = found + torch.matmul(weights[..., width:], value.permute(1, 2, 0, 3))
    return found.view(rows, 1, heads, size), None


def _scores(query: Tensor, keys: Tensor) -> Tensor:
    """Products in float32, as in PyTorch's own attention: large scores that were rounded are far off."""
    with torch.autocast(query.device.type, enabled=False):
        if query.dtype == torch.float32 or not query.is_cuda:
            return torch.matmul(query.float(), keys.float())
        flat = torch.bmm(query.flatten(0, 1), keys.flatten(0, 1), torch.float32)
        return flat.view(*query.shape[:3], keys.shape[3])


def _by_unit(states: Tensor, cells: Tensor, units: int, each: int) -> Tensor:
    """(rows, key heads, group, size) -> (units, key heads, `each` x group, size), zeros in empty cells."""
    _, key_heads, group, size = states.shape
    filled = states.new_zeros(units * each, key_heads, group, size).index_copy_(0, cells, states)
    return filled.view(units, each, key_heads, group, size).transpose(1, 2).flatten(2, 3)


def _by_row(states: Tensor, cells: Tensor, each: int) -> Tensor:
    """The way back."""
    units, key_heads, rows, size = states.shape
    split = states.view(units, key_heads, each, rows // each, size).transpose(1, 2)
    return split.flatten(0, 1).index_select(0, cells)


@contextmanager
def decoding(config: Any) -> Iterator[None]:
    """Let a text model of this configuration read shared prompts inside.

    Raises:
        RuntimeError: it does already: what comes after would not know how it attended before.
    """
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    if config._attn_implementation == NAME:
        raise RuntimeError("one model is asked twice at once")
    before, config._attn_implementation = config._attn_implementation, NAME
    try:
        yield
    finally:
        config._attn_implementation = before
