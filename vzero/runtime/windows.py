"""The vision tower of Qwen2.5-VL with windows of one length attended to together.

Most of its layers attend within windows of 8 x 8 patches (arXiv 2502.13923, section 2.1.1). Hugging Face
calls attention once a window and waits for the GPU three times a layer to learn where windows end; a picture
of one megapixel has 88 of them in each of 28 layers. Pictures have few lengths of windows, so here a layer
makes a call for each length. Bit-equal on the CPU, gradients too: no window sees another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen

_KEPT = "vzero_places"  # an attribute of the ends of the windows, which all layers of one forward share


class GroupedWindows(qwen.Qwen2_5_VLVisionAttention):
    """Hugging Face's attention of the tower, by `sdpa`, in as many calls as windows have lengths."""

    def forward(
        self,
        hidden_states: Tensor,
        cu_seqlens: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **_: Any,
    ) -> Tensor:
        """As in Hugging Face's: (patches, hidden) -> (patches, hidden).

        Args:
            cu_seqlens: (windows + 1,), where windows begin and end among the patches.
            position_embeddings: cosines and sines, (patches, head size) each.
        """
        assert position_embeddings is not None
        states = self.qkv(hidden_states).reshape(len(hidden_states), 3, self.num_heads, -1).unbind(1)
        query, key = qwen.apply_rotary_pos_emb_vision(*states[:2], *position_embeddings)
        places, order = _places(cu_seqlens)
        attended = []
        for rows in places:
            q, k, v = (
                one.index_select(0, rows.flatten()).unflatten(0, rows.shape).transpose(1, 2)
                for one in (query, key, states[2])
            )
            found = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=self.scaling)
            attended.append(found.transpose(1, 2).flatten(0, 1).flatten(1))
        projected: Tensor = self.proj(torch.cat(attended).index_select(0, order))
        return projected


def _places(ends: Tensor) -> tuple[list[Tensor], Tensor]:
    """For each length of window, (windows, length) places of their patches; and for each patch its number
    among all of these. Found once a forward: it waits for the GPU."""
    kept: tuple[list[Tensor], Tensor] | None = getattr(ends, _KEPT, None)
    if kept is None:
        known = ends.long().cpu()
        every = torch.tensor_split(torch.arange(int(known[-1])), known[1:-1])
        lengths = sorted({len(one) for one in every} - {0})
        places = [torch.stack([one for one in every if len(one) == length]) for length in lengths]
        order = torch.cat([one.flatten() for one in places]).argsort()
        kept = [one.to(ends.device) for one in places], order.to(ends.device)
        setattr(ends, _KEPT, kept)
    return kept


def group(model: Any) -> bool:
    """Let the tower of a Qwen2.5-VL attend in groups, in place; False, and left alone, where `model` is
    another, or does not use `sdpa`."""
    layers = [one for one in model.modules() if type(one) is qwen.Qwen2_5_VLVisionAttention]
    if not layers or layers[0].config._attn_implementation != "sdpa":
        return False
    for one in layers:
        one.__class__ = GroupedWindows
    return True
