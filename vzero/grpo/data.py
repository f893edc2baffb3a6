"""Prompts, and the order in which they are trained on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from vzero.grpo.settings import Batches
from vzero.images.records import ImageRecord, open_image
from vzero.rollout import lengths
from vzero.rollout.protocol import Message
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime.seeding import derive
from vzero.runtime.stage import Facts, StageContext


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


def fitting_prompts(ctx: StageContext, role: str, prompts: Sequence[Prompt]) -> tuple[list[Prompt], Facts]:
    """The prompts of a role's training that leave a completion room in the policy's context, and how many do
    not, where any."""
    preset, vocabulary = ctx.preset, read_vocabulary(ctx.inputs[role], ctx.preset.engine.thinking)
    asked = [(one.messages, one.image.seen or (one.image.width, one.image.height)) for one in prompts]
    context = lengths.policy_context(preset.rollouts, preset.engine, vocabulary.positions)
    longest = getattr(preset, role).grpo.max_completion_tokens
    fits = lengths.fitting(vocabulary, asked, longest, context)
    count = fits.count(False)
    kept = [one for one, fit in zip(prompts, fits, strict=True) if fit]
    return kept, {"too_long": count} if count else {}


def training_order(count: int, batches: Batches, seed: int) -> list[int]:
    """Indices of prompts in the order they are trained on: a fresh permutation for each epoch, each cut to
    whole generations.

    A pure function of the seed: generation g takes places [g P, (g + 1) P), resumed in between or not.
    """
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
    """`open_image` that keeps the last few decoded: an image is drawn for, voted on and differentiated."""
    return lru_cache(maxsize=images_kept)(open_image)
