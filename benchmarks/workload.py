"""What is asked, drawn once from the seed: pictures of the pocket world, questions that its Questioner wrote,
answers of its Solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.shapes import POCKET, SEED, Subject, device, subject
from vzero.grpo.train import rollout_sampling
from vzero.pocket.world import draw
from vzero.presets import load_preset
from vzero.prompts import questioner_messages, read_question, solver_messages
from vzero.rollout.protocol import Completion, Request
from vzero.rollout.template import conversation
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime.seeding import derive

ENGINE_BATCH = 1280  # EngineConfig's default: sequences that decode together on either side


@dataclass(frozen=True)
class Answered:
    """A question asked and what was drawn for it."""

    request: Request
    completions: tuple[Completion, ...]


def engine(of: Subject) -> TransformersEngine:
    """Our engine around a subject."""
    return TransformersEngine(of.model, of.processor, ENGINE_BATCH)


@lru_cache(maxsize=4)
def questions(count: int) -> tuple[tuple[Image.Image, str], ...]:
    """The first `count` valid questions of the shipped Questioner, each with its picture."""
    requests = [
        Request(questioner_messages("pocket"), draw(SEED, i)[0], derive(SEED, "bench-question", i))
        for i in range(2 * count)
    ]
    rollouts = engine(subject(POCKET)).generate(requests, load_preset("pocket").questioner.write)
    read = [
        (request.image, read_question(one.completions[0].text, one.completions[0].finish_reason, "pocket"))
        for request, one in zip(requests, rollouts, strict=True)
    ]
    return tuple(
        (image, question.text) for image, question in read if image is not None and question is not None
    )[:count]


def requests(count: int) -> list[Request]:
    """The Solver asked `count` questions."""
    return [
        Request(solver_messages("pocket", text), image, derive(SEED, "bench-request", i))
        for i, (image, text) in enumerate(questions(count))
    ]


def group_requests(count: int) -> list[Request]:
    """The Solver asked `count` questions about one picture, as votes on a Questioner's group are."""
    image = draw(SEED, 0)[0]
    return [
        Request(solver_messages("pocket", text), image, derive(SEED, "bench-group", i))
        for i, (_, text) in enumerate(questions(count))
    ]


def mixed_requests(count: int) -> list[Request]:
    """The Solver asked `count` questions and the Questioner asked for `count`, in turn: answers are much
    shorter than questions."""
    asking = [
        Request(questioner_messages("pocket"), draw(SEED, i)[0], derive(SEED, "bench-mixed", i))
        for i in range(count)
    ]
    return [one for pair in zip(requests(count), asking, strict=True) for one in pair]


@lru_cache(maxsize=2)
def answered(count: int) -> tuple[Answered, ...]:
    """`count` questions with the group of answers that the shipped Solver gives in training."""
    asked, sampling = requests(count), rollout_sampling(load_preset("pocket").solver.grpo)
    rollouts = engine(subject(POCKET)).generate(asked, sampling)
    return tuple(
        Answered(request, rollout.completions) for request, rollout in zip(asked, rollouts, strict=True)
    )


def generation_batch(of: Subject, groups: Sequence[Answered], pictures: bool) -> dict[str, Any]:
    """Groups as TRL holds a generation batch: prompts padded on the left, completions on the right, both to
    the longest of the batch.

    Old log-probabilities are left out (the ratio is then one), advantages are drawn, the reference holds that
    every token is certain.
    """
    texts = of.processor.apply_chat_template(
        [conversation(one.request.messages, pictures) for one in groups for _ in one.completions],
        tokenize=False,
        add_generation_prompt=True,
    )
    images = [[one.request.image] for one in groups for _ in one.completions] if pictures else None
    prompts = of.processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
    drawn = [one.token_ids for group in groups for one in group.completions]
    ids, mask = _right_pad(drawn, of.processor.tokenizer.pad_token_id)
    numbers = torch.Generator().manual_seed(SEED)
    batch = {
        "prompt_ids": prompts["input_ids"],
        "prompt_mask": prompts["attention_mask"],
        "completion_ids": ids,
        "completion_mask": mask,
        "ref_per_token_logps": torch.zeros(ids.shape),
        "advantages": torch.randn(len(ids), generator=numbers),
        "num_items_in_batch": mask.sum(),
    }
    if pictures:
        whole = torch.cat([batch["prompt_ids"], ids], dim=1)
        batch["mm_token_type_ids"] = (whole == of.model.config.image_token_id).int()
        batch["pixel_values"], batch["image_grid_thw"] = prompts["pixel_values"], prompts["image_grid_thw"]
        batch["num_images"] = [1] * len(ids)
    return {name: value.to(device()) if isinstance(value, Tensor) else value for name, value in batch.items()}


def _right_pad(sequences: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, sequences))
    ids = torch.tensor([[*one, *[pad] * (width - len(one))] for one in sequences])
    mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in sequences])
    return ids, mask


def lengths(batch: dict[str, Any]) -> dict[str, Any]:
    """Sizes of a generation batch, for the table."""
    return {
        "sequences": len(batch["prompt_ids"]),
        "prompt_tokens": int(batch["prompt_mask"].sum()),
        "completion_tokens": int(batch["completion_mask"].sum()),
        "padded_columns": batch["prompt_ids"].shape[1] + batch["completion_ids"].shape[1],
    }
