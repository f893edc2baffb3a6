"""What `gpu_check.py` measures on: a Qwen2.5-VL-3B of random weights, drawn pictures, and an engine that
draws nothing."""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from harness.cost.shapes import ModelSize, Tree, published, size_of
from harness.perf.plan import memory
from tools import qwen_tokenizer
from vzero.config import SamplingConfig
from vzero.grpo.data import Prompt
from vzero.images.records import ImageRecord
from vzero.presets import load_preset
from vzero.prompts import questioner_messages, solver_messages
from vzero.rollout import template
from vzero.rollout.protocol import Completion, Request, Rollout
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime import checkpoints

MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"
PICTURE, TINY_PICTURE = (1154, 866), (140, 112)  # one megapixel, and ten by eight patches
SMALL_PICTURE = 420, 308  # 30 by 22 patches: windows of three lengths
QUESTION = "What stands to the left of the tallest one?\nA) red\nB) green\nC) blue\nD) none of these"
MEAN_LENGTH = 290.0, 0.8  # of a log-normal: completions of 400 tokens on average


@dataclass(frozen=True)
class Setup:
    """Where and how large: `dry` is tiny and on the CPU, `layers` of the language model where the whole does
    not fit."""

    dry: bool
    scratch: Path
    processor_folder: Path | None
    layers: int | None

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    @property
    def picture(self) -> tuple[int, int]:
        return TINY_PICTURE if self.dry else PICTURE

    @cached_property
    def processor(self) -> Any:
        """The real one where it is at hand; else words of the pocket world behind the real image
        processor."""
        if self.processor_folder is not None:
            return checkpoints.load_processor(self.processor_folder)
        from transformers import Qwen2VLImageProcessor

        from vzero.pocket.model import build_processor

        made = build_processor()
        made.image_processor = Qwen2VLImageProcessor(**qwen_tokenizer.PIXELS)
        return made

    def config(self, layers: int | None = None) -> Any:
        """Of the 3B; fewer `layers` where given; in a dry run a small one of the same kind."""
        from transformers import AutoConfig

        tree: Tree = copy.deepcopy(published(MODEL))
        text, vision, tokenizer = tree["text_config"], tree["vision_config"], self.processor.tokenizer
        if self.dry:
            text |= {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 512}
            text |= {"num_attention_heads": 2, "num_key_value_heads": 1}
            text["vocab_size"] = -(-len(tokenizer) // 64) * 64
            vision |= {"depth": 2, "hidden_size": 160, "num_heads": 2, "intermediate_size": 320}
            vision |= {"out_hidden_size": 256, "fullatt_block_indexes": [1]}
        elif layers or self.layers:
            text["num_hidden_layers"] = layers or self.layers
        names = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
        names |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
        ids = {f"{kind}_token_id": tokenizer.convert_tokens_to_ids(name) for kind, name in names.items()}
        text |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        settings = {key: value for key, value in tree.items() if key != "model_type"}
        return AutoConfig.for_model(tree["model_type"], **(settings | ids))

    def model(self, layers: int | None = None) -> Any:
        """Random weights in bfloat16 on the device, as Hugging Face builds it."""
        from transformers import AutoModelForImageTextToText

        torch.manual_seed(0)
        with torch.device(self.device):
            return AutoModelForImageTextToText.from_config(self.config(layers), dtype=torch.bfloat16)

    def checkpoint(self, layers: int | None = None) -> Path:
        """A folder with such weights, made when first asked for."""
        folder = self.scratch / f"checkpoint-{layers or self.layers or 'all'}"
        if not folder.exists():
            checkpoints.save(self.model(layers), self.processor, folder)
            if self.device == "cuda":
                torch.cuda.empty_cache()
        return folder

    @property
    def size(self) -> ModelSize:
        """Of the checkpoint, as a plan counts it."""
        return size_of(str(self.checkpoint()))

    def prompts(self, role: str, count: int, picture: tuple[int, int] | None = None) -> list[Prompt]:
        """`count` prompts of a role, each about a picture of its own, of so many pixels."""
        picture = picture or self.picture
        messages = questioner_messages("natural")
        if role == "solver":
            messages = solver_messages("natural", QUESTION)
        records = [drawn(self.scratch / f"pictures-{picture[0]}", i, picture) for i in range(count)]
        return [Prompt(one.image_id, messages, one, "A") for one in records]


def drawn(folder: Path, number: int, size: tuple[int, int]) -> ImageRecord:
    """A picture of smooth noise in a file, one to three tokens narrower than `size` so that grids differ."""
    width, height = size[0] - 28 * (number % 3), size[1]
    blocks = np.random.default_rng(number).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    path = folder / f"{number}.png"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(path, compress_level=1)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ImageRecord(f"picture-{number}", path, digest, width, height)


def layers_that_fit() -> int | None:
    """Layers of the language model with which a full training fits this card; None where all do."""
    preset, whole = load_preset("qwen2.5-vl-3b-1gpu"), size_of(MODEL)
    micro = memory.longest_micro_batch(
        preset.solver.grpo, memory.longest_prompt(preset, "solver", 1271), 5084
    )
    free = 0.9 * torch.cuda.get_device_properties(0).total_memory
    needed = sum(memory.of_update(preset, whole, "solver", micro, card=free).values())
    if needed <= free:
        return None
    a_layer = 18.0 * whole.block + 8.0 * micro.tokens * whole.hidden  # states, its reference, its inputs
    return max(1, whole.layers - math.ceil((needed - free) / a_layer))


class StandIn:
    """In place of an engine, to time what is not drawing: completions of random tokens whose lengths are as
    uneven as real ones."""

    def __init__(self, model: Any, checkpoint: Path) -> None:
        self.model, self.vocabulary = model, read_vocabulary(checkpoint)
        self._rng = np.random.default_rng(0)

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """See `Engine.generate`; without log-probabilities, as of a server."""
        return [
            Rollout(
                self._read(one), tuple(self._completion(sampling.max_new_tokens) for _ in range(sampling.n))
            )
            for one in requests
        ]

    def _read(self, request: Request) -> int:
        """Tokens of the prompt with its picture."""
        processor, image = self.vocabulary.processor, request.image
        text = template.token_ids(processor, template.render(processor, request.messages, with_image=True))
        assert image is not None
        of = processor.image_processor
        patches = of.get_number_of_image_patches(image.height, image.width, {})
        return len(text) - 1 + patches // of.merge_size**2

    def _completion(self, most: int) -> Completion:
        mean, spread = MEAN_LENGTH
        length = int(min(most, max(4, self._rng.lognormal(math.log(mean), spread))))
        size = len(self.vocabulary.processor.tokenizer)
        allowed = [i for i in range(min(size, 20_000)) if i not in self.vocabulary.forbidden]
        ids = self._rng.choice(allowed, length - 1)
        return Completion("", (*map(int, ids), min(self.vocabulary.eos)), (), "stop")


def seconds_of(call: Any, repetitions: int, device: str) -> float:
    """Mean seconds of a call, after one that is not counted."""
    call()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repetitions):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / repetitions


def synchronize(device: str) -> None:
    """Wait for what was sent to a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()
