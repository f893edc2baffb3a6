"""Sequences that share prompts, laid out so that no position is padding and no prompt or picture is computed
twice.

The completions of a group have one prompt. Stock TRL computes it, and its picture, once a completion, and
pads all to the longest. Here a micro-batch becomes one row of tokens: every distinct prompt once, then what
is particular to each sequence,

    [prompt 1 without its last token] ... [prompt G ...]
    [last prompt token, completion 1 without its last token] ... [... completion B]

so that each position of the second part predicts one completion token. Linear layers, which do nearly all the
work, see only these tokens; attention (see attention.py) lets a sequence see its prompt and itself. This is
what shared-prefix training computes (Prefix Grouper, arXiv 2506.05433), by two dense attention calls between
gathers (`Layout`), or on a GPU by FlexAttention, which skips blocks that nobody sees (`block_mask`). Exact:
every sequence sees the same tokens at the same rotary positions as it would alone, and gradients of shared
tokens add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128  # positions; FlexAttention's own
ROW = 512  # FlexAttention is given rows of a multiple of this, so that few lengths are compiled


@dataclass(frozen=True)
class Layout:
    """Where the tokens of each prompt and each sequence stand in the packed row, and who may see whom.

    Attributes:
        prompts: (groups, longest prompt - 1) int64, places in the row; padding on the right points at place
            0.
        sequences: (sequences, longest completion) int64, likewise.
        group: (sequences,) int64, the prompt of each sequence.
        visible: (sequences, 1, longest completion, longest prompt - 1 + longest completion) bool: which
            prompt and own positions a sequence's position attends to.
        order: (tokens,) int64, for each place in the row its number among all padded positions, prompts
            before sequences.
    """

    prompts: Tensor
    sequences: Tensor
    group: Tensor
    visible: Tensor
    order: Tensor


@dataclass(frozen=True)
class Packed:
    """One micro-batch as a row.

    Attributes:
        input_ids: (1, tokens) int64.
        position_ids: (..., 1, tokens) int64, rotary positions, in as many rows as the model has.
        targets: (1, tokens) int64, the token that each position predicts; -100 in prompts.
        mask: who sees whom: a block mask for FlexAttention, else that of `layout`.
        layout: where tokens stand, for PyTorch's own attention; None with a block mask.
    """

    input_ids: Tensor
    position_ids: Tensor
    targets: Tensor
    mask: Tensor | BlockMask
    layout: Layout | None


def pack(
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    completion_ids: Tensor,
    completion_mask: Tensor,
    group: Tensor,
    positions: Tensor,
    blocks: bool = False,
) -> Packed:
    """Pack the sequences of a micro-batch.

    Args:
        prompt_ids, prompt_mask: (groups, prompt time) int64, padded on the left; two tokens or more each.
        completion_ids, completion_mask: (sequences, completion time) int64, padded on the right.
        group: (sequences,) int64, the prompt of each sequence.
        positions: (..., groups, prompt time) int64, rotary positions of the prompts, whose last token is text
            that the completion continues.
        blocks: whether FlexAttention reads the row.
    """
    prefix_mask = prompt_mask.bool()
    prefix_mask[:, -1] = False  # the last prompt token is the first that each of its sequences reads
    scored = completion_mask.bool()
    shifted = torch.cat([prompt_ids[group, -1:], completion_ids[:, :-1]], dim=1)
    prefix_ids = prompt_ids[prefix_mask]
    own_positions = positions[..., group, -1:] + torch.arange(scored.shape[1], device=scored.device)
    lengths = prefix_mask.sum(dim=1), scored.sum(dim=1), group
    layout = None if blocks else _layout(*lengths)
    return Packed(
        torch.cat([prefix_ids, shifted[scored]])[None],
        torch.cat([positions[..., prefix_mask], own_positions[..., scored]], dim=-1)[..., None, :],
        torch.cat([torch.full_like(prefix_ids, -100), completion_ids[scored]])[None],
        block_mask(*lengths) if layout is None else layout.visible,
        layout,
    )


def _layout(prompt_lengths: Tensor, lengths: Tensor, group: Tensor) -> Layout:
    prompts, prompt_real = _places(prompt_lengths, start=0)
    sequences, real = _places(lengths, start=int(prompt_lengths.sum()))
    width = sequences.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=lengths.device).tril()
    prompt_visible = prompt_real[group][:, None].expand(-1, width, -1)
    visible = torch.cat([prompt_visible, causal.expand(len(group), -1, -1)], dim=2)
    order = torch.cat([prompt_real.flatten(), real.flatten()]).nonzero()[:, 0]
    return Layout(prompts, sequences, group, visible[:, None], order)


def _places(lengths: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Places of ragged rows that stand one after another from `start` (padding: 0), and which of them are
    real."""
    steps = torch.arange(int(lengths.max()), device=lengths.device)
    real = steps < lengths[:, None]
    first = start + lengths.cumsum(0) - lengths
    return torch.where(real, first[:, None] + steps, 0), real


def block_mask(prompt_lengths: Tensor, lengths: Tensor, group: Tensor) -> BlockMask:
    """Who may see whom, for FlexAttention: a token sees its own run (prompt or sequence) and its prompt up to
    itself. Never as a whole matrix: blocks are compared by the runs in them."""
    device, prompts = group.device, len(prompt_lengths)
    rest = -(prompt_lengths.sum() + lengths.sum()) % ROW
    run_lengths = torch.cat([prompt_lengths, lengths, rest[None]])  # what fills the row is a run too
    numbers = torch.arange(len(run_lengths), device=device)
    prompt_of_run = torch.cat([numbers[:prompts], group, numbers[-1:]])
    run = numbers.repeat_interleave(run_lengths)
    prompt = prompt_of_run[run]

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & ((run[key] == run[query]) | (run[key] == prompt[query]))

    keys = (run.view(-1, BLOCK, 1) == numbers).float()  # (blocks, BLOCK, runs)
    queries = torch.maximum(keys, (prompt.view(-1, BLOCK, 1) == numbers).float())
    some = (queries.amax(1) @ keys.amax(1).T > 0).tril()
    all_of = (queries.amin(1) @ keys.amin(1).T > 0).tril(-1)  # every query sees the one run of the keys
    parts = [_ordered(one) for one in (some & ~all_of, all_of)]
    return BlockMask.from_kv_blocks(
        *parts[0], *parts[1], BLOCK_SIZE=BLOCK, mask_mod=visible, seq_lengths=(len(run), len(run))
    )


def _ordered(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of (blocks, blocks) bool how many are true and, first, which; under batch and head."""
    count, index = blocks.sum(1), blocks.int().argsort(dim=1, descending=True, stable=True)
    return count.int()[None, None], index.int()[None, None]
