"""Requests made into prefilled caches: every distinct image encoded once, every distinct prompt computed
once.

`shared_images` knows models whose image features are plain input embeddings (Qwen2-VL, Qwen2.5-VL): it runs
the vision tower once per distinct image and reuses the features in each prompt. `whole_prompts` serves every
other architecture through its own processor and forward, where an image is encoded once per distinct prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, DynamicCache

from vzero.errors import RolloutError
from vzero.rollout.pictures import Pictures, together
from vzero.rollout.protocol import Message, Request
from vzero.rollout.template import processed, render, token_ids

Turns = tuple[tuple[Message, ...], bool, str]  # messages, whether with an image, the prefill answer
SHARED_IMAGE_MODELS = frozenset({"qwen2_vl", "qwen2_5_vl"})
_PIXELS_AT_ONCE = 16_000_000  # pictures preprocessed and encoded together: about 400 MB of patches
_SMALLEST_AREA = 4096  # a processor may enlarge a smaller picture


@dataclass(frozen=True)
class RenderedPrompt:
    """A rendered conversation and the number of its image among the distinct ones."""

    text: str
    image: int | None


@dataclass(frozen=True)
class Work:
    """Distinct prompts and images of a list of requests; `of_request[i]` is the prompt of request i."""

    prompts: list[RenderedPrompt]
    images: list[Image.Image]
    of_request: list[int]


@dataclass(frozen=True)
class Prefilled:
    """Prompts read by the model, left-padded to one width.

    Attributes:
        logits: (prompts, vocabulary) after each prompt's last token.
        cache: keys and values, one row a prompt.
        token_ids, attention_mask: (prompts, width) int64.
        next_position: (..., prompts, 1) int64, the position of the token to come, in the model's own layout.
    """

    logits: Tensor
    cache: Cache
    token_ids: Tensor
    attention_mask: Tensor
    next_position: Tensor


Prefill = Callable[[Sequence[int]], Prefilled]  # reads the prompts of the given numbers, at least one


@dataclass(frozen=True)
class Encoded:
    """Prompts that can be read: their `tokens`, and `sizes` that order them by length."""

    tokens: list[int]
    sizes: list[int]
    prefill: Prefill


def collect(processor: Any, requests: Sequence[Request]) -> Work:
    """Render the conversations and find the distinct prompts and images (same object, or same size and
    pixels).

    Raises:
        RolloutError: a conversation has no user turn to put its image in, or its text (a prefill answer's
            too) holds an image or video token.
    """
    images, image_of = _distinct_images(requests)
    rendered = {turns: render(processor, *turns) for turns in dict.fromkeys(map(_turns, requests))}
    numbers: dict[RenderedPrompt, int] = {}
    of_request = []
    for i, request in enumerate(requests):
        text = rendered[_turns(request)]
        _refuse_stray_tokens(processor, text, int(request.image is not None), i)
        of_request.append(numbers.setdefault(RenderedPrompt(text, image_of[i]), len(numbers)))
    return Work(list(numbers), images, of_request)


def _distinct_images(requests: Sequence[Request]) -> tuple[list[Image.Image], list[int | None]]:
    """The distinct pictures, and for each request the number of its own."""
    images: list[Image.Image] = []
    by_content: dict[tuple[tuple[int, int], bytes], int] = {}
    by_object: dict[int, int | None] = {id(None): None}
    for image in (request.image for request in requests):
        if image is not None and id(image) not in by_object:
            rgb = image if image.mode == "RGB" else image.convert("RGB")
            number = by_content.setdefault((rgb.size, hashlib.sha256(rgb.tobytes()).digest()), len(images))
            if number == len(images):
                images.append(rgb)
            by_object[id(image)] = number
    return images, [by_object[id(request.image)] for request in requests]


def _turns(request: Request) -> Turns:
    return request.messages, request.image is not None, request.prefill


def _refuse_stray_tokens(processor: Any, text: str, images: int, index: int) -> None:
    for kind, allowed in (("image", images), ("video", 0)):
        token = getattr(processor, f"{kind}_token", None)
        if token and text.count(token) != allowed:
            raise RolloutError(
                f"The prompt of request {index} has {text.count(token)} {kind} tokens {token!r} where "
                f"{allowed} belong; text written by a model must be checked for control tokens first."
            )


def encode(model: Any, processor: Any, work: Work, pictures: Pictures | None = None) -> Encoded:
    """Choose the way that fits the model's architecture. Call and use without gradients.

    Args:
        pictures: where others process pictures too; of no use to architectures that process whole prompts.
    """
    if model.config.model_type in SHARED_IMAGE_MODELS:
        return shared_images(model, processor, work, pictures)
    return whole_prompts(model, processor, work)


def shared_images(model: Any, processor: Any, work: Work, pictures: Pictures | None = None) -> Encoded:
    """Prompts of a Qwen2-VL-like model; see `encode`."""
    features, grids = _image_features(model, processor, work.images, pictures)
    image_id = model.config.image_token_id
    grid_of = [None if prompt.image is None else grids[prompt.image] for prompt in work.prompts]
    ids_of = [
        expanded_ids(processor, prompt.text, grid) for prompt, grid in zip(work.prompts, grid_of, strict=True)
    ]
    for prompt, ids in zip(work.prompts, ids_of, strict=True):
        wanted = 0 if prompt.image is None else len(features[prompt.image])
        if ids.count(image_id) != wanted:
            raise RolloutError(
                f"A prompt has {ids.count(image_id)} image tokens for {wanted} image features; the processor "
                "does not belong to this model."
            )
    positions = rotary_positions(model, ids_of, grid_of)

    def prefill(numbers: Sequence[int]) -> Prefilled:
        ids, mask = left_pad([ids_of[i] for i in numbers], processor.tokenizer.pad_token_id)
        ids, mask = ids.to(model.device), mask.to(model.device)
        places = torch.zeros(3, *ids.shape, dtype=torch.int64)
        for row, i in enumerate(numbers):
            places[:, row, ids.shape[1] - len(ids_of[i]) :] = positions[i]
        embeddings = model.get_input_embeddings()(ids)
        seen = [features[image] for i in numbers if (image := work.prompts[i].image) is not None]
        if seen:
            is_image = (ids == image_id)[:, :, None].expand_as(embeddings)
            embeddings = embeddings.masked_scatter(is_image, torch.cat(seen).to(embeddings))
        return _read(model, {"inputs_embeds": embeddings}, ids, mask, places.to(model.device))

    tokens = [len(ids) for ids in ids_of]
    return Encoded(tokens, tokens, prefill)


def expanded_ids(processor: Any, text: str, grid: Tensor | None) -> list[int]:
    """Token ids with the image token once for each feature of the image of this (3,) grid, as the processor
    writes it."""
    if grid is not None:
        features = int(grid.prod()) // processor.image_processor.merge_size**2
        text = text.replace(processor.image_token, processor.image_token * features)
    return token_ids(processor, text)


def whole_prompts(model: Any, processor: Any, work: Work) -> Encoded:
    """Prompts of any vision-language model that Hugging Face's `generate` can decode; see `encode`."""

    def batch(numbers: Sequence[int]) -> dict[str, Tensor]:
        chosen = [work.prompts[i] for i in numbers]
        images = [work.images[prompt.image] for prompt in chosen if prompt.image is not None]
        return processed(processor, [prompt.text for prompt in chosen], images)

    def prefill(numbers: Sequence[int]) -> Prefilled:
        inputs = {name: value.to(model.device) for name, value in batch(numbers).items()}
        ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
        # `generate` finds positions by this method, which architectures with positions of their own override.
        places = model._prepare_position_ids_for_generation(ids, {**inputs, "attention_mask": mask})
        return _read(model, {"input_ids": ids, **inputs}, ids, mask, places)

    # Prompts with and without an image never share a batch: processors disagree on how to take the mixture.
    longest = max(len(prompt.text) for prompt in work.prompts) + 1
    sizes = [len(prompt.text) + longest * (prompt.image is not None) for prompt in work.prompts]
    # Only the processor knows how many tokens its pictures are, and it has to see them for that.
    return Encoded([batch([i])["input_ids"].shape[1] for i in range(len(sizes))], sizes, prefill)


def _read(model: Any, inputs: dict[str, Any], ids: Tensor, mask: Tensor, positions: Tensor) -> Prefilled:
    cache = DynamicCache(config=model.config.get_text_config())
    output = model(
        **inputs,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return Prefilled(output.logits[:, -1], output.past_key_values, ids, mask, positions[..., -1:] + 1)


def _image_features(
    model: Any, processor: Any, images: Sequence[Image.Image], pictures: Pictures | None
) -> tuple[list[Tensor], Tensor]:
    """Features (tokens, hidden) of every image and the patch grids (images, 3) as time, height, width."""
    features: list[Tensor] = []
    grids = [torch.zeros(0, 3, dtype=torch.int64)]
    for group in _by_area(images):
        if pictures is None:
            batch = processor.image_processor(images=group, return_tensors="pt")
        else:
            batch = together([pictures(image) for image in group])
        grids.append(batch["image_grid_thw"])
        pixels = batch["pixel_values"].to(model.device)
        features += model.get_image_features(pixels, grids[-1].to(model.device)).pooler_output
    return features, torch.cat(grids)


def _by_area(images: Sequence[Image.Image]) -> list[list[Image.Image]]:
    groups: list[list[Image.Image]] = []
    left = 0
    for image in images:
        area = max(image.width * image.height, _SMALLEST_AREA)
        if area > left or not groups:
            groups.append([])
            left = _PIXELS_AT_ONCE
        groups[-1].append(image)
        left -= area
    return groups


def rotary_positions(
    model: Any, token_ids: Sequence[list[int]], grids: Sequence[Tensor | None]
) -> list[Tensor]:
    """Rotary positions (3, tokens) of every prompt, by the model's own rule. It loops in Python, and most
    prompts share their layout (length, place and grid of the image), so each layout is computed once."""
    known: dict[tuple[int, int, tuple[int, ...]], Tensor] = {}
    found = []
    image_token = model.config.image_token_id
    for ids, grid in zip(token_ids, grids, strict=True):
        if grid is None:
            found.append(torch.arange(len(ids)).expand(3, -1))
            continue
        layout = len(ids), ids.index(image_token), tuple(grid.tolist())
        if layout not in known:
            row = torch.tensor([ids])
            kinds = (row == image_token).int()
            index = model.model.get_rope_index(row, mm_token_type_ids=kinds, image_grid_thw=grid[None])
            known[layout] = index[0][:, 0]
        found.append(known[layout])
    return found


def left_pad(rows: Sequence[list[int]], pad: int | None) -> tuple[Tensor, Tensor]:
    """(rows, longest row) token ids and mask, both int64."""
    ids = [torch.tensor(row) for row in rows]
    mask = [torch.ones_like(row) for row in ids]
    return pad_sequence(ids, True, pad or 0, "left"), pad_sequence(mask, True, 0, "left")
