"""Prompts, and the order in which they are trained on.

The order is a pure function of the seed and is written out as the dataset itself, epochs one after another,
so TRL neither samples nor shuffles: generation g is rows [g P, (g + 1) P), whether or not the stage was
resumed in between.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from vzero.grpo.settings import Batches
from vzero.images.records import ImageRecord, open_image
from vzero.rollout.protocol import Message
from vzero.runtime.seeding import derive

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Prompt:
    """One thing to ask the policy.

    Attributes:
        key: unique among the prompts of a stage (an image or a question id); enters the seed of its rollouts.
        messages: the conversation, without the image.
        image: what it is about.
        label: the pseudo-label, where the reward needs one.
    """

    key: str
    messages: tuple[Message, ...]
    image: ImageRecord
    label: str | None = None


def training_order(count: int, batches: Batches, seed: int) -> list[int]:
    """Indices of prompts in the order they are trained on: a fresh permutation for each epoch, each cut to
    whole generations."""
    order: list[int] = []
    epoch = 0
    whole = count - count % batches.prompts_per_generation
    while len(order) < batches.prompts_used:
        permutation = list(range(count))
        random.Random(derive(seed, "order", epoch)).shuffle(permutation)
        order += permutation[:whole]
        epoch += 1
    return order[: batches.prompts_used]


def image_opener(images_kept: int) -> Callable[[ImageRecord], Image.Image]:
    """`open_image` that keeps the last few decoded: TRL fetches each row of a generation once for every
    micro-batch."""
    return lru_cache(maxsize=images_kept)(open_image)


def trl_dataset(
    prompts: Sequence[Prompt], opener: Callable[[ImageRecord], Image.Image], rows: Sequence[int] | None = None
) -> Dataset:
    """The rows TRL iterates over, with images decoded when fetched; column `row` is the index into `prompts`.

    Args:
        rows: in which order the prompts come; as they are, if not given.
    """
    from datasets import Dataset

    from vzero.rollout.encoding import conversation

    def fetch(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [prompts[row] for row in batch["row"]]
        return {
            "row": batch["row"],
            "prompt": [conversation(prompt.messages, with_image=True) for prompt in chosen],
            "image": [opener(prompt.image) for prompt in chosen],
        }

    return Dataset.from_dict({"row": list(range(len(prompts)) if rows is None else rows)}).with_transform(
        fetch
    )
