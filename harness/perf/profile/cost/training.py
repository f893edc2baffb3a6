"""The work of scoring and updating on one generation batch, computed the stock way, our way, or with a single
lever of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.perf.profile.flops import Shape, Work


@dataclass(frozen=True)
class Group:
    """A prompt's tokens, its picture's patches (0: none), and the tokens of its completions."""

    prompt: int
    patches: int
    completions: tuple[int, ...]


@dataclass(frozen=True)
class Way:
    """What is computed.

    Attributes:
        padding: prompts and completions are padded to the longest of the generation batch or of the
            micro-batch, or not at all.
        prompts, pictures: computed once a sequence, or once a group (within a micro-batch).
        old: optimizer steps whose sequences the old policy scores.
    """

    padding: Literal["generation batch", "micro-batch", "none"]
    prompts: Literal["sequence", "group"]
    pictures: Literal["sequence", "group"]
    old: Literal["all", "later"]


STOCK = Way("generation batch", "sequence", "sequence", "all")
OURS = Way("none", "group", "group", "later")
ALONE = {
    "trim to the micro-batch": replace(STOCK, padding="micro-batch"),
    "pack (no padding)": replace(STOCK, padding="none"),
    "share prompts": replace(STOCK, prompts="group"),
    "encode a picture once": replace(STOCK, pictures="group"),
    "skip the old pass where the ratio is one": replace(STOCK, old="later"),
}


def forward(micro: Sequence[Group], way: Way, longest: tuple[int, int], shape: Shape) -> Work:
    """One forward pass over a micro-batch.

    Args:
        micro: its groups, with those of their completions that are in it.
        longest: tokens of the longest prompt and completion of the generation batch.
        shape: of the model; how its tower attends.
    """
    rows, tokens = sum(len(one.completions) for one in micro), sum(sum(one.completions) for one in micro)
    prompt, own = longest if way.padding == "generation batch" else _longest(micro)
    packed = way.padding == "none"
    if way.prompts == "group":  # the last prompt token begins every completion, see vzero.grpo.packing
        positions = (
            tokens + sum(one.prompt - 1 for one in micro)
            if packed
            else len(micro) * (prompt - 1) + rows * own
        )
        pairs = len(micro) * (prompt - 1) ** 2 + rows * own * (prompt - 1 + own)
    elif packed:
        lengths = [one.prompt + completion for one in micro for completion in one.completions]
        positions, pairs = sum(lengths), sum(length**2 for length in lengths)
    else:
        positions, pairs = rows * (prompt + own), rows * (prompt + own) ** 2
    pictures = [
        one.patches for one in micro for _ in (one.completions if way.pictures == "sequence" else (1,))
    ]
    return Work(positions, pairs, tokens, sum(pictures), sum(map(shape.vision_pairs, pictures)))


def passes(batch: Sequence[Group], micro: int, steps: int, way: Way, shape: Shape) -> tuple[Work, Work]:
    """Old and reference log-probabilities together, and the forward passes of the update.

    Args:
        batch: the generation batch.
        micro: sequences in a micro-batch.
        steps: optimizer steps on it; the old policy still is the policy in the first.
    """
    dealt, longest = list(micro_batches(batch, micro)), _longest(batch)
    first = 0 if way.old == "all" else len(dealt) // steps
    forwards = [forward(one, way, longest, shape) for one in dealt]
    update = sum(forwards, Work(0, 0, 0))
    return update + sum(forwards[first:], Work(0, 0, 0)), update


def micro_batches(batch: Sequence[Group], micro: int) -> Iterator[list[Group]]:
    """Sequences in order, `micro` at a time; a group that is cut is one in both parts."""
    flat = [(index, completion) for index, one in enumerate(batch) for completion in one.completions]
    for start in range(0, len(flat), micro):
        parts: dict[int, list[int]] = {}
        for index, completion in flat[start : start + micro]:
            parts.setdefault(index, []).append(completion)
        yield [replace(batch[index], completions=tuple(completions)) for index, completions in parts.items()]


def _longest(groups: Sequence[Group]) -> tuple[int, int]:
    return max(one.prompt for one in groups), max(max(one.completions) for one in groups)
