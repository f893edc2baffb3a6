"""Log-probabilities of a micro-batch's completions, by TRL's fused head: logits are never held whole.

Models of the Qwen2-VL family read packed rows, each prompt and picture once (packing.py): their positions are
given from outside and their attention is Hugging Face's interface. Others read padded batches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vzero.grpo import attention
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.packing import pack
from vzero.rollout.encoding import SHARED_IMAGE_MODELS, rotary_positions
from vzero.rollout.transformers_engine import unwrap

_BY_TOKEN = ("token_type_ids", "mm_token_type_ids")  # of the processor's outputs: 0 at completions


def prepare(model: Any) -> bool:
    """Let `model` read packed rows; False, and left alone, where its architecture is not known to be able
    to."""
    core = unwrap(model)
    text = core.config.get_text_config()
    layers = set(getattr(text, "layer_types", None) or ())
    if core.config.model_type not in SHARED_IMAGE_MODELS or layers != {"full_attention"}:
        return False
    attention.use(text)
    return True


def completion_log_probs(model: Any, batch: MicroBatch) -> tuple[Tensor, Tensor | None]:
    """Score the completions of `batch`.

    Args:
        model: with TRL's fused head; `prepare`d if the batch shares prompts.

    Returns:
        Log-probabilities and entropies, both (sequences, completion time) float, 0 at padding. Entropies are
        None where the model's head does not compute them.
    """
    packs = unwrap(model).config.get_text_config()._attn_implementation == attention.NAME
    return _packed_forward(model, batch) if packs else _padded_forward(model, batch)


def _packed_forward(model: Any, batch: MicroBatch) -> tuple[Tensor, Tensor | None]:
    prompts = batch.on_device()
    ids, mask, grids = prompts["input_ids"], prompts["attention_mask"], prompts.get("image_grid_thw")
    rows = [one[real].tolist() for one, real in zip(ids, mask.bool(), strict=True)]
    positions = rotary_positions(
        unwrap(model), rows, [None] * len(rows) if grids is None else list(grids.cpu())
    )
    blocks = attention.reads_blocks(ids.device)
    packed = pack(ids, mask, batch.completion_ids, batch.completion_mask, batch.prompt_of, positions, blocks)
    output = model(
        input_ids=packed.input_ids,
        attention_mask={"full_attention": packed.layout},  # Hugging Face hands it to each layer as it is
        position_ids=packed.position_ids,
        pixel_values=prompts.get("pixel_values"),
        image_grid_thw=grids,
        shift_labels=packed.targets,
        fused_lm_head=True,
    )
    scored, completions = packed.targets[0] != -100, batch.completion_mask.bool()

    def unpacked(values: Tensor | None) -> Any:
        if values is None:
            return None
        return values.new_zeros(completions.shape).masked_scatter(completions, values[0, scored])

    return unpacked(output.log_probs), unpacked(output.entropy)


def _padded_forward(model: Any, batch: MicroBatch) -> tuple[Tensor, Tensor | None]:
    inputs, completions = batch.on_device(), batch.completion_ids
    width, nothing = completions.shape[1], torch.zeros_like(completions)
    ids = torch.cat([inputs.pop("input_ids"), completions], dim=1)
    mask = torch.cat([inputs.pop("attention_mask"), batch.completion_mask], dim=1)
    inputs |= {name: torch.cat([inputs[name], nothing], dim=1) for name in _BY_TOKEN if name in inputs}
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-width] = -100
    output = model(input_ids=ids, attention_mask=mask, **inputs, labels=labels, fused_lm_head=True)
    entropy = output.entropy
    return output.log_probs[:, -width:], None if entropy is None else entropy[:, -width:]
