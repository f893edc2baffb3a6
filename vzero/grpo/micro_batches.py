"""From TRL's scored generation batch to the micro-batches of its optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid

PROMPT_COLUMNS = ("prompt_ids", "prompt_mask")
COMPLETION_COLUMNS = (
    "completion_ids",
    "completion_mask",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
)
MODEL_INPUTS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)
Batch = dict[str, Any]


def padded(batch: Mapping[str, Any], count: int) -> list[Batch]:
    """`count` micro-batches in order, each without the columns that only others use; for models that read
    padded rows.

    Args:
        batch: `prompt_ids`, `prompt_mask` (sequences, prompt time) int64; `completion_ids`,
            `completion_mask`, `advantages` ... (sequences, ...); `pixel_values` and grids as TRL keeps them.
    """
    return [
        trim(unsplit_pixel_values_by_grid(micro))
        for micro in split_tensor_dict(split_pixel_values_by_grid(dict(batch)), count)
    ]


def shared(batch: Mapping[str, Any], count: int, group_size: int) -> list[Batch]:
    """As `padded`, with each prompt's picture kept once: with the first of its sequences in the micro-batch.
    `num_images` says which (see log_probs.completion_log_probs).

    Args:
        batch: sequences of one group in a row, as many as `group_size` each.
    """
    micro_batches = split_tensor_dict(split_pixel_values_by_grid(dict(batch)), count)
    return [_once(micro, group_size, i * len(micro["prompt_ids"])) for i, micro in enumerate(micro_batches)]


def _once(micro: Batch, group_size: int, start: int) -> Batch:
    first = [i == 0 or (start + i) % group_size == 0 for i in range(len(micro["prompt_ids"]))]
    kept = {
        name: [one for one, begins in zip(micro[name], first, strict=True) if begins]
        for name in ("pixel_values", "image_grid_thw")
        if isinstance(micro.get(name), list)
    }
    return trim(
        unsplit_pixel_values_by_grid({**micro, **kept, "num_images": [int(begins) for begins in first]})
    )


def trim(batch: Mapping[str, Any]) -> Batch:
    """Drop the left columns that are padding in every prompt and the right columns that are padding in every
    completion.

    Args:
        batch: `prompt_ids`, `prompt_mask` (sequences, prompt time) int64; `completion_ids`, `completion_mask`
            and log-probabilities (sequences, completion time); `mm_token_type_ids` (sequences, both).
    """
    width = batch["prompt_ids"].shape[1]
    left = int(batch["prompt_mask"].any(0).int().argmax())
    right = int(batch["completion_mask"].any(0).sum())
    trimmed = dict(batch)
    for name in PROMPT_COLUMNS:
        trimmed[name] = batch[name][:, left:]
    for name in COMPLETION_COLUMNS:
        if batch.get(name) is not None:
            trimmed[name] = batch[name][:, :right]
    if batch.get("mm_token_type_ids") is not None:
        trimmed["mm_token_type_ids"] = batch["mm_token_type_ids"][:, left : width + right]
    return trimmed


def reordered(batch: Mapping[str, Any], order: Tensor) -> Batch:
    """The same generation batch with its sequences in another order; `order` is (sequences,) int64."""
    rows = order.tolist()
    split = split_pixel_values_by_grid(dict(batch))
    moved = {
        name: [value[i] for i in rows]
        if isinstance(value, list)
        else value[order]
        if isinstance(value, Tensor) and value.ndim
        else value
        for name, value in split.items()
    }
    return unsplit_pixel_values_by_grid(moved)


def by_length(batch: Mapping[str, Any], steps: int, group_size: int) -> Tensor:
    """An order of sequences in which the groups of each optimizer step go from short to long, so that
    micro-batches pad little.

    Returns:
        (sequences,) int64. Steps keep their groups, groups their sequences.
    """
    lengths = batch["prompt_mask"].sum(1) + batch["completion_mask"].sum(1)
    longest = lengths.view(steps, -1, group_size).amax(2)
    groups = (
        longest.argsort(dim=1, stable=True)
        + torch.arange(steps, device=longest.device)[:, None] * longest.shape[1]
    )
    return (
        groups.flatten()[:, None] * group_size + torch.arange(group_size, device=longest.device)
    ).flatten()
