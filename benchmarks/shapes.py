"""The sizes measured: the pocket model whole, and slices of Qwen2.5-VL 3B and 7B - one decoder layer and one
vision block, or the language-model head alone - with the real widths, so that a CPU answers in seconds.

Slices have random weights and speak the pocket vocabulary, except for the head, which has all its rows.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.case import Unfit
from harness.cost.shapes import published
from vzero.pocket.model import END, IMAGE, PAD, VIDEO, VISION_END, VISION_START, VOCABULARY, build_processor
from vzero.runtime import checkpoints, compat

SEED = 0


@dataclass(frozen=True)
class Shape:
    """Widths of a model's language part; `vocabulary` counts the rows of its head."""

    name: str
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int


POCKET = Shape("pocket", 96, 256, 3, 3, 112)
SLICE_3B = Shape("3B slice", 2048, 11008, 16, 2, 151936)
SLICE_7B = Shape("7B slice", 3584, 18944, 28, 4, 152064)
SHAPES = (POCKET, SLICE_3B, SLICE_7B)


@dataclass(frozen=True)
class Subject:
    """A model and the processor that belongs to it."""

    shape: Shape
    model: Any
    processor: Any


def device() -> str:
    """Where benchmarks run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _ready(model: Any) -> Any:
    return model.to(device(), torch.bfloat16 if device() == "cuda" else torch.float32).eval()


@lru_cache(maxsize=2)
def subject(shape: Shape) -> Subject:
    """The shipped pocket model, or one decoder layer and one vision block of a larger one.

    Raises:
        Unfit: not enough memory.
    """
    if shape == POCKET:
        return pocket()
    _need(8 * (4 * shape.hidden**2 + 3 * shape.hidden * shape.feed_forward) + 2**30)
    rows = -(-len(VOCABULARY) // 16) * 16
    return Subject(shape, _ready(_build(shape, layers=1, rows=rows, tied=True)), _processor(patch_size=14))


@lru_cache(maxsize=1)
def head(shape: Shape) -> Subject:
    """The head of a larger model over hidden states that are word embeddings: no decoder layer, no picture.
    Pocket is whole.

    Raises:
        Unfit: not enough memory.
    """
    if shape == POCKET:
        return pocket()  # not the one above: TRL's trainer changes the configuration of the model it is given
    _need(3 * 4 * shape.hidden * shape.vocabulary + 2**30)  # weights, their gradient, and memory to work in
    model = _build(shape, layers=0, rows=1024, tied=False)
    model.lm_head = torch.nn.utils.skip_init(torch.nn.Linear, shape.hidden, shape.vocabulary, bias=False)
    torch.nn.init.normal_(model.lm_head.weight, std=0.02)
    return Subject(shape, _ready(model), _processor(patch_size=14))


def pocket() -> Subject:
    """The shipped pocket model, loaded anew."""
    folder = checkpoints.resolve("pocket")
    model = checkpoints.load_model(folder, device=device())
    return Subject(POCKET, model, checkpoints.load_processor(folder))


def _build(shape: Shape, layers: int, rows: int, tied: bool) -> Any:
    """The published config of the same widths, cut down and with the pocket world's tokens."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tree = published(f"Qwen/Qwen2.5-VL-{shape.name.split()[0]}-Instruct")
    of = VOCABULARY.index
    text = {"vocab_size": rows, "num_hidden_layers": layers, "use_sliding_window": False}
    tokens = {"bos_token_id": None, "eos_token_id": of(END), "pad_token_id": of(PAD)}
    config = Qwen2_5_VLConfig(
        text_config={**tree["text_config"], **text, **tokens, "tie_word_embeddings": tied},
        vision_config={**tree["vision_config"], "depth": 1, "fullatt_block_indexes": [0]},
        image_token_id=of(IMAGE),
        video_token_id=of(VIDEO),
        vision_start_token_id=of(VISION_START),
        vision_end_token_id=of(VISION_END),
        tie_word_embeddings=tied,
    )
    torch.manual_seed(SEED)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = of(END), of(PAD)
    return model


def _processor(patch_size: int) -> Any:
    """The pocket processor, its pictures cut into patches of the larger models' size: 84 x 84 pixels are nine
    image tokens again."""
    compat.install()
    from transformers import Qwen2VLImageProcessor

    processor, pixels = build_processor(), (6 * patch_size) ** 2
    processor.image_processor = Qwen2VLImageProcessor(
        patch_size=patch_size, merge_size=2, min_pixels=pixels, max_pixels=pixels
    )
    return processor


def fit_for_cpu(shape: Shape, else_why: str) -> None:
    """Raises Unfit, with the reason, where the largest shape would be measured on a CPU."""
    if shape == SLICE_7B and device() == "cpu":
        raise Unfit(f"needs a GPU: {else_why}")


def _need(count: int) -> None:
    free = free_memory()
    if free is not None and free < count:
        raise Unfit(f"needs {count / 2**30:.0f} GiB of free memory")


def free_memory() -> int | None:
    """Bytes; None where the system does not say."""
    if device() == "cuda":
        return torch.cuda.mem_get_info()[0]
    lines: list[str] = []
    with suppress(OSError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
