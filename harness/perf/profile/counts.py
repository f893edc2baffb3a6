"""What a phase computes, counted by forward hooks: token positions, attention pairs, pictures and patches.
Exact, and the same anywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask

from harness.cost.flops import Shape, Work
from vzero.rollout.kv_cache import SharedPrompts
from vzero.rollout.transformers_engine import unwrap
from vzero.runtime.checkpoints import vision_tower


@dataclass
class Counts:
    """Sums over forward passes.

    Attributes:
        calls: forward passes of the whole model; `decode_calls` of them continue a cache by one token a row.
        positions: rows x columns of token positions, padding included; `decode_positions` of them in decode
            calls.
        real: those outside decode calls whose attention mask is 1. (In decode calls Hugging Face marks rows
            that have ended as real, so real decoded positions are counted from what was drawn instead.)
        pairs: query x key positions that attention computes.
        scored: positions whose vocabulary scores are made.
        kv_tokens: cached key positions read by decode calls, over all rows.
        images, patches: pictures through the vision tower, and patches before merging.
        vision_pairs: query x key patches, summed over the tower's layers.
    """

    calls: int = 0
    decode_calls: int = 0
    positions: int = 0
    decode_positions: int = 0
    real: int = 0
    pairs: int = 0
    scored: int = 0
    kv_tokens: int = 0
    images: int = 0
    patches: int = 0
    vision_pairs: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Both."""
        return Counts(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def work(self) -> Work:
        """All of it, as the formulas of `harness.cost.flops` take it."""
        return Work(self.positions, self.pairs, self.scored, self.patches, self.vision_pairs)


class Scope:
    """Which phase runs now. Phases nest; the innermost counts."""

    def __init__(self, phase: str = "") -> None:
        self.phase = phase
        self.listeners: list[Callable[[str], None]] = []  # each is given the phase that ends

    @contextmanager
    def inside(self, phase: str) -> Iterator[None]:
        """Everything within belongs to `phase`."""
        before = self.phase
        self._enter(phase)
        try:
            with torch.profiler.record_function(phase):  # its name in a flame chart
                yield
        finally:
            self._enter(before)

    def _enter(self, phase: str) -> None:
        for listener in self.listeners:
            listener(self.phase)
        self.phase = phase


Tally = dict[str, Counts]
Named = dict[str, Any]  # arguments of a module's forward


@contextmanager
def counting(models: Sequence[tuple[Any, Shape]], scope: Scope) -> Iterator[Tally]:
    """Count what `models` compute inside, by the phase that runs then.

    Args:
        models: whole Hugging Face vision-language models (hooked at their outermost call), with their shapes.
        scope: says which phase a forward pass belongs to.
    """
    tally: Tally = defaultdict(Counts)
    with ExitStack() as stack:
        for model, shape in {id(model): (model, shape) for model, shape in models}.values():
            text = model.register_forward_pre_hook(_text_hook(tally, scope), with_kwargs=True)
            stack.callback(text.remove)
            if (tower := vision_tower(unwrap(model))) is not None:
                vision = tower.register_forward_hook(_vision_hook(tally, scope, shape), with_kwargs=True)
                stack.callback(vision.remove)
        yield tally


def _text_hook(tally: Tally, scope: Scope) -> Callable[..., None]:
    def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Named) -> None:
        tokens: Any = kwargs.get("input_ids")
        if tokens is None:
            tokens = args[0] if args else kwargs["inputs_embeds"]
        rows, columns = tokens.shape[:2]
        counts = tally[scope.phase]
        counts.calls += 1
        counts.positions += rows * columns
        if (shared := kwargs.get("shared_prompts")) is not None:
            _count_shared(counts, shared, rows)
            counts.scored += rows
            return
        cache = kwargs.get("past_key_values")
        past = int(cache.get_seq_length()) if cache is not None else 0
        mask = kwargs.get("attention_mask")
        packed = mask if isinstance(mask, BlockMask) else kwargs.get("layout")
        counts.pairs += rows * columns * (past + columns) if packed is None else _packed_pairs(packed)
        counts.scored += _scored(rows, columns, kwargs)
        if past and columns == 1:
            counts.decode_calls += 1
            counts.decode_positions += rows
            counts.kv_tokens += rows * (past + 1)
            return
        if isinstance(mask, torch.Tensor) and mask.ndim == 2:
            counts.real += int(mask[:, -columns:].sum())
        else:
            counts.real += rows * columns

    return hook


def _count_shared(counts: Counts, shared: SharedPrompts, rows: int) -> None:
    """A step of rows that share prompts: each prompt is read once, for as many rows as it has room for."""
    units, own = len(shared.hidden), rows * shared.get_seq_length()
    counts.decode_calls += 1
    counts.decode_positions += rows
    counts.kv_tokens += units * shared.hidden.shape[-1] + own
    counts.pairs += units * shared.each * shared.hidden.shape[-1] + own


def _packed_pairs(layout: Any) -> int:
    """Pairs that attention over a packed row computes (see vzero.grpo.attention): blocks of which something
    is seen, or two dense calls, padding included."""
    if isinstance(layout, BlockMask):
        kept = (layout.kv_num_blocks, layout.full_kv_num_blocks)
        blocks = sum(int(one.sum()) for one in kept if one is not None)
        return blocks * layout.BLOCK_SIZE[0] * layout.BLOCK_SIZE[1]
    groups, prompt = layout.prompts.shape
    sequences, own = layout.sequences.shape
    return groups * prompt**2 + sequences * own * (prompt + own)


def _scored(rows: int, columns: int, kwargs: Named) -> int:
    """TRL's fused head scores the positions that have a label; other callers say how many of the last they
    want."""
    if kwargs.get("fused_lm_head"):
        shifted = kwargs.get("shift_labels")
        labels = kwargs["labels"][:, 1:] if shifted is None else shifted
        return int((labels != -100).sum())
    wanted = kwargs.get("logits_to_keep")
    return rows * (min(wanted, columns) if isinstance(wanted, int) and wanted > 0 else columns)


def _vision_hook(tally: Tally, scope: Scope, shape: Shape) -> Callable[..., None]:
    def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Named, output: Any) -> None:
        sizes = _patches(args, kwargs, output)
        counts = tally[scope.phase]
        counts.images += len(sizes)
        counts.patches += sum(sizes)
        counts.vision_pairs += sum(map(shape.vision_pairs, sizes))

    return hook


def _patches(args: tuple[Any, ...], kwargs: Named, output: Any) -> list[int]:
    """Patches of each picture: from Qwen's grids, else from the tower's output (pictures, patches, width)."""
    grid = kwargs.get("grid_thw", args[1] if len(args) > 1 else None)
    if isinstance(grid, torch.Tensor) and grid.ndim == 2:
        return [int(size) for size in grid.prod(dim=1)]
    states: Any = getattr(output, "last_hidden_state", output[0] if isinstance(output, tuple) else output)
    return [states.shape[1]] * states.shape[0]
