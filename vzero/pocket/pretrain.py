"""Pretraining the pocket base: from random weights to a deliberately imperfect vision-language model, on CPU.

Training on the noisy mixture alone stays at chance, so there is a curriculum of three phases:

1. *seeing*: the vision tower alone, through a linear classifier of what stands in each cell;
2. *clean*: captions, questions and careful reasoning without blind spots, beside a text-only drill of looking
   options up (value <-> letter), which is the circuit everything else waits for;
3. *mixture*: the imperfect annotators the base is meant to have learned.

Several processes train data-parallel with one thread each, which is faster on a CPU than several threads; the
result depends on the seed and on their number.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from vzero.parsing import OPTIONS
from vzero.pocket import annotators, resume
from vzero.pocket.families import CELLS, NUMBERS, option_text
from vzero.pocket.model import (
    ASK,
    END,
    IMAGE,
    IMAGE_TOKENS,
    PAD,
    SIZES,
    SOLVE,
    TURN,
    VISION_END,
    VISION_START,
    VOCABULARY,
    Size,
    build_model,
)
from vzero.pocket.world import (
    COLORS,
    MAX_BAR,
    SHAPES,
    Bar,
    Digit,
    Pixels,
    Scene,
    SceneKind,
    Shape,
    Thing,
    render,
    sample_scene,
)

KindAndScene = tuple[SceneKind, Scene]
_ID = {word: i for i, word in enumerate(VOCABULARY)}
_IGNORE = -100
LOG_EVERY = 25  # steps
_IMAGE_START = 2  # role, vision start, then the image


@dataclass(frozen=True)
class Schedule:
    """Optimizer steps of each phase, each process's part of a step's batch, and the model's size."""

    seeing: int
    clean: int
    mixture: int
    images: int = 96
    drills: int = 32
    size: Size = SIZES["small"]

    @property
    def steps(self) -> int:
        return self.seeing + self.clean + self.mixture

    def phase(self, step: int) -> Literal["seeing", "clean", "mixture"]:
        """Which phase a step belongs to."""
        if step < self.seeing:
            return "seeing"
        return "clean" if step < self.seeing + self.clean else "mixture"

    def rate(self, step: int) -> float:
        """Warm-up over 100 steps, constant through the clean phase, then cosine decay to 3 %."""
        warm = min(1.0, (step + 1) / 100)
        late = (step - self.seeing - self.clean) / max(1, self.mixture)
        decay = 1.0 if late < 0 else 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * late))
        return self.size.learning_rate * warm * decay


@dataclass(frozen=True)
class Example:
    """One training sequence: ids of prompt and completion (which alone has a loss), its image's number."""

    prompt: list[int]
    completion: list[int]
    image: int


def encode(words: str) -> list[int]:
    """Token ids of space-separated words of the pocket vocabulary."""
    return [_ID[word] for word in words.split()]


def prompt_ids(role: str, text: str) -> list[int]:
    """What the chat template makes of a system message `role` and a user message with an image and `text`."""
    image = [_ID[VISION_START], *[_ID[IMAGE]] * IMAGE_TOKENS, _ID[VISION_END]]
    return [_ID[role], *image, *encode(text), _ID[TURN]]


def patches(images: Pixels) -> Tensor:
    """(batch, 42, 42, 3) uint8 -> (batch * 36, 294) float32, in the image processor's 2 x 2 merge blocks."""
    batch = images.shape[0]
    x = (torch.from_numpy(images).float() / 255 - 0.5) / 0.25
    # image, channel, block row, row, y, block column, column, x
    x = x.permute(0, 3, 1, 2).reshape(batch, 3, 3, 2, 7, 3, 2, 7)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(batch * 36, 3, 1, 49)
    return x.expand(-1, 3, 2, 49).reshape(batch * 36, 294)  # a still image fills both temporal slots


def position_ids(batch: int, length: int, with_image: bool) -> Tensor:
    """Multimodal rotary positions (3, batch, length): time, height, width."""
    plain = torch.arange(length)
    if not with_image:
        return plain.expand(3, batch, length)
    rows = plain.repeat(3, 1)
    after = _IMAGE_START + IMAGE_TOKENS
    cell = torch.arange(IMAGE_TOKENS)
    rows[0, _IMAGE_START:after] = _IMAGE_START
    rows[1, _IMAGE_START:after] = _IMAGE_START + cell // 3
    rows[2, _IMAGE_START:after] = _IMAGE_START + cell % 3
    rows[:, after:] = plain[after:] - IMAGE_TOKENS + 3
    return rows[:, None].expand(3, batch, length)


_THINGS: tuple[Thing | None, ...] = (
    *(None, Digit(None)),
    *(Shape(color, form) for color in COLORS for form in SHAPES),
    *(Bar(color, height) for color in COLORS for height in range(1, MAX_BAR + 1)),
    *(Digit(value) for value in range(1, 10)),
)
_CLASSES = {thing: i for i, thing in enumerate(_THINGS)}


def drill(rng: random.Random) -> tuple[list[int], list[int]]:
    """A text-only exercise in looking options up both ways: (ids, labels or `_IGNORE`)."""
    draw = rng.random()
    pool = COLORS if draw < 0.25 else SHAPES if draw < 0.5 else CELLS if draw < 0.6 else NUMBERS[:20]
    options = rng.sample(pool, 4)
    ids = [_ID[SOLVE], *encode(f"? {option_text(tuple(options))}"), _ID[TURN]]
    labels = [_IGNORE] * len(ids)
    to_letter = [(encode(f"so {options[k]} {OPTIONS[k]}"), [0, 0, 1]) for k in rng.sample(range(4), 4)]
    to_value = [(encode(f"{OPTIONS[k]}) {options[k]}"), [0, 1]) for k in rng.sample(range(4), 4)]
    halves = [to_letter, to_value]
    rng.shuffle(halves)
    for words, asked in (pair for half in halves for pair in half):
        ids += words
        labels += [word if wanted else _IGNORE for word, wanted in zip(words, asked, strict=True)]
    return ids, labels


def examples(rng: random.Random, scenes: list[KindAndScene], clean: bool) -> list[Example]:
    """About each of a batch of scenes two answers, a question, and in the clean phase some captions."""
    mix = annotators.CLEAN if clean else annotators.MIXTURE
    found = []
    for i, (kind, scene) in enumerate(scenes):
        if clean and rng.random() < 0.25:
            words = f"{annotators.caption(scene)} </description>"
            found.append(Example([*prompt_ids(ASK, ""), _ID["<description>"]], [*encode(words), _ID[END]], i))
        for _ in range(2):
            asked = annotators.any_question(rng, kind, scene, 0.6)
            if asked is not None:
                text = annotators.solver_text(rng, asked, scene, mix)
                found.append(Example(prompt_ids(SOLVE, asked.text), [*encode(text), _ID[END]], i))
        if not clean or rng.random() < 0.5:
            written = annotators.questioner_text(rng, kind, scene, mix)
            if written is not None:
                found.append(Example(prompt_ids(ASK, ""), [*encode(written), _ID[END]], i))
    return found


def _pad(rows: list[list[int]], value: int) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


class Learner:
    """The model in training with its auxiliary cell classifier."""

    def __init__(self, seed: int, size: Size = SIZES["small"]) -> None:
        self.model = build_model(seed, size).train()
        self.classifier = nn.Linear(self.model.config.text_config.hidden_size, len(_CLASSES))
        self.parameters = [*self.model.parameters(), *self.classifier.parameters()]

    def see(self, images: Pixels) -> Tensor:
        """Image features (batch, 9, width) of (batch, 42, 42, 3) uint8."""
        grid = torch.tensor([[1, 6, 6]]).expand(len(images), 3)
        features: Tensor = self.model.model.visual(patches(images), grid_thw=grid).pooler_output
        return features.view(len(images), IMAGE_TOKENS, -1)

    def logits(self, ids: Tensor, features: Tensor | None) -> Tensor:
        """Logits (batch, length, vocabulary) of right-padded ids with features (batch, 9, width)."""
        embedded = self.model.get_input_embeddings()(ids)
        if features is not None:
            after = _IMAGE_START + IMAGE_TOKENS
            embedded = torch.cat([embedded[:, :_IMAGE_START], features, embedded[:, after:]], 1)
        positions = position_ids(ids.shape[0], ids.shape[1], features is not None)
        language_model = self.model.model.language_model
        output = language_model(inputs_embeds=embedded, position_ids=positions, use_cache=False)
        logits: Tensor = self.model.lm_head(output.last_hidden_state)
        return logits

    def cell_loss(self, features: Tensor, scenes: list[KindAndScene]) -> tuple[Tensor, float]:
        """Cross-entropy of what stands in each cell, and the accuracy over cells that hold something."""
        truth = torch.tensor([[_CLASSES[thing] for thing in scene] for _, scene in scenes])
        scores = self.classifier(features)
        loss = functional.cross_entropy(scores.flatten(0, 1), truth.flatten())
        return loss, float((scores.argmax(-1) == truth)[truth > 1].float().mean())

    def text_loss(self, batch: list[Example], features: Tensor) -> Tensor:
        """Mean cross-entropy per completion token, in three length-homogeneous parts."""
        order = sorted(batch, key=lambda one: len(one.prompt) + len(one.completion))
        third = -(-len(order) // 3)
        total, count = torch.zeros(()), 0
        for part in (order[:third], order[third : 2 * third], order[2 * third :]):
            if not part:
                continue
            ids = _pad([one.prompt + one.completion for one in part], _ID[PAD])
            labels = _pad([[_IGNORE] * (len(one.prompt) - 1) + one.completion for one in part], _IGNORE)
            images = torch.tensor([one.image for one in part])
            logits = self.logits(ids, features[images])[:, : labels.shape[1]]
            total = total + functional.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORE, reduction="sum"
            )
            count += sum(len(one.completion) for one in part)
        return total / count

    def drill_loss(self, exercises: list[tuple[list[int], list[int]]]) -> Tensor:
        """Mean cross-entropy of the looked-up tokens."""
        ids = _pad([ids for ids, _ in exercises], _ID[PAD])
        labels = _pad([labels for _, labels in exercises], _IGNORE)
        logits = self.logits(ids, None)[:, :-1]
        return functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORE)


def _average_gradients(parameters: list[nn.Parameter]) -> None:
    """Over all processes, in one message."""
    if not dist.is_initialized():
        return
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat / dist.get_world_size(), [one.numel() for one in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter).clone()


def train(
    schedule: Schedule,
    seed: int,
    rank: int = 0,
    log: Callable[[str], None] = print,
    kept: Path | None = None,
) -> Learner:
    """Run the whole curriculum; every process of a group must call it with its own `rank`. Where `kept` is a
    folder, it goes on from the state there and leaves its own (see resume.py)."""
    learner = Learner(seed, schedule.size)
    rng, pixels = random.Random(f"{seed}-{rank}"), np.random.default_rng([seed, rank])
    optimizer = torch.optim.AdamW(learner.parameters, betas=(0.9, 0.98), weight_decay=0.01)
    processes = dist.get_world_size() if dist.is_initialized() else 1
    training = resume.Training(learner.parameters, optimizer, rng, pixels)
    done = resume.load(kept, rank, processes, training) if kept is not None else 0
    start, means = time.monotonic(), {"text": 0.0, "drill": 0.0, "cells": 0.0}
    for step in range(done, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        phase = schedule.phase(step)
        scenes = [sample_scene(rng, "pretrain") for _ in range(schedule.images)]
        pictures = np.stack([render(scene, pixels) for _, scene in scenes])
        with torch.autocast("cpu", torch.bfloat16, enabled=schedule.size.products == "bfloat16"):
            features = learner.see(pictures)
            cells, accuracy = learner.cell_loss(features, scenes)
            text = exercise = torch.zeros(())
            if phase != "seeing":
                text = learner.text_loss(examples(rng, scenes, phase == "clean"), features)
            if phase == "clean":
                exercise = learner.drill_loss([drill(rng) for _ in range(schedule.drills)])
        loss = text + 0.5 * exercise + (0.0 if phase == "mixture" else 0.5 * cells)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        _average_gradients(learner.parameters)
        nn.utils.clip_grad_norm_(learner.parameters, 1.0)
        optimizer.step()
        for name, value in (("text", text.detach()), ("drill", exercise.detach()), ("cells", accuracy)):
            means[name] += float(value) / LOG_EVERY
        if rank == 0 and (step + 1) % LOG_EVERY == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            log(f"step {step + 1}/{schedule.steps} {phase}: {shown} ({time.monotonic() - start:.0f} s)")
            means = dict.fromkeys(means, 0.0)
        if kept is not None and (step + 1) % resume.EVERY == 0:
            resume.save(kept, step + 1, rank, training)
    return learner
