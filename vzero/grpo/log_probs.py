"""Log-probabilities of a micro-batch's completions, by TRL's fused head: logits are never held whole.

Models whose layers all attend to everything before a token read packed rows, each prompt and picture once
(packing.py): their positions are given from outside, features take the places of image tokens in their order,
and their attention is Hugging Face's interface. Others read padded batches.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from vzero.grpo import attention
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.packing import pack
from vzero.rollout.transformers_engine import unwrap
from vzero.runtime import architectures

_BY_TOKEN = ("token_type_ids", "mm_token_type_ids")  # of the processor's outputs: 0 at completions


def unpackable(model: Any) -> str | None:
    """Why `model` cannot read packed rows, for a sentence; None where it can."""
    return architectures.why_not_shared(unwrap(model).config)


def warn_if_padded(model: Any) -> None:
    """One line for the stage's log."""
    if (reason := unpackable(model)) is not None:
        words = "each completion brings its own prompt and picture, padded"
        print(f"warning: {reason}: {words}.", file=sys.stderr, flush=True)


def prepare(model: Any) -> bool:
    """Let `model` read packed rows; False, and left alone, where it cannot (`unpackable`)."""
    if unpackable(model) is not None:
        return False
    attention.use(unwrap(model).config.get_text_config())
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
    prompts, core = batch.on_device(), unwrap(model)
    ids, mask = prompts.pop("input_ids"), prompts.pop("attention_mask")
    images = {name: one for name, one in prompts.items() if name not in _BY_TOKEN}
    kinds = (ids == core.config.image_token_id).int()
    # `generate` finds positions by this method, which architectures with positions of their own override.
    positions = core._prepare_position_ids_for_generation(
        ids, {**images, "attention_mask": mask, "mm_token_type_ids": kinds}
    )
    blocks = attention.reads_blocks(ids.device)
    packed = pack(ids, mask, batch.completion_ids, batch.completion_mask, batch.prompt_of, positions, blocks)
    output = model(
        input_ids=packed.input_ids,
        attention_mask=packed.mask,  # of four dimensions, which a model hands to each layer as it is
        layout=packed.layout,  # so it does with what it does not know
        position_ids=packed.position_ids,
        **images,
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
