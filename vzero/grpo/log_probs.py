"""Log-probabilities of a micro-batch's completions, each prompt and picture computed once (see packing.py).

Takes what TRL's `_get_per_token_logps_and_entropies` takes and returns what it returns, to rounding. Models
of the Qwen2-VL family only: their positions are given from outside and their attention is Hugging Face's
interface. Others go through TRL's own forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vzero.grpo import attention
from vzero.grpo.packing import pack
from vzero.rollout.encoding import SHARED_IMAGE_MODELS, rotary_positions
from vzero.rollout.transformers_engine import unwrap


def prepare(model: Any) -> bool:
    """Make `model` able to read packed rows; False, and left alone, where its architecture is not known to
    be."""
    core = unwrap(model)
    text = core.config.get_text_config()
    layers = set(getattr(text, "layer_types", None) or ())
    if core.config.model_type not in SHARED_IMAGE_MODELS or layers != {"full_attention"}:
        return False
    attention.use(text)
    return True


def completion_log_probs(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    completion_width: int,
    pictures: Sequence[int],
    pixel_values: Tensor | None,
    image_grid_thw: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Score the completions.

    Args:
        model: prepared, and with TRL's fused head.
        input_ids, attention_mask: (sequences, prompt + completion time) int64; prompts padded on the left,
            completions on the right.
        completion_width: columns of the completions.
        pictures: for each sequence 1 if it begins a prompt, whose picture is the next in `pixel_values`; 0 if
            it shares the prompt of the sequence before it.
        pixel_values, image_grid_thw: patches and grids of the prompts' pictures in order.

    Returns:
        Log-probabilities and entropies, both (sequences, completion time) float, 0 at padding. Entropies are
        None where the model's head does not compute them.
    """
    begins = torch.tensor(pictures, device=input_ids.device).bool()
    prompt_ids, prompt_mask = (
        input_ids[begins, :-completion_width],
        attention_mask[begins, :-completion_width],
    )
    completion_mask = attention_mask[:, -completion_width:]
    packed = pack(
        prompt_ids,
        prompt_mask,
        input_ids[:, -completion_width:],
        completion_mask,
        begins.cumsum(0) - 1,
        _positions(model, prompt_ids, prompt_mask, image_grid_thw),
    )
    output = model(
        input_ids=packed.input_ids,
        attention_mask={"full_attention": packed.layout},
        position_ids=packed.position_ids,
        pixel_values=pixel_values,
        image_grid_thw=image_grid_thw,
        shift_labels=packed.targets,
        fused_lm_head=True,
    )
    scored = packed.targets[0] != -100
    return tuple(
        None if one is None else _unpack(one[0, scored], completion_mask)
        for one in (output.log_probs, output.entropy)
    )


def _unpack(values: Tensor, mask: Tensor) -> Tensor:
    return values.new_zeros(mask.shape).masked_scatter(mask.bool(), values)


def _positions(model: Any, prompt_ids: Tensor, prompt_mask: Tensor, grids: Tensor | None) -> list[Tensor]:
    rows = [ids[mask].tolist() for ids, mask in zip(prompt_ids, prompt_mask.bool(), strict=True)]
    return rotary_positions(unwrap(model), rows, [None] * len(rows) if grids is None else list(grids.cpu()))
