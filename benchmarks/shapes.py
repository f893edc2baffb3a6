"""The sizes measured: the pocket model whole, and slices of Qwen2.5-VL 3B and 7B - one decoder layer and one
vision block, or the language-model head alone - with the real widths, so that a CPU answers in seconds.

Slices have random weights and speak the pocket vocabulary, except for the head, which has all its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.case import Unfit
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
_VISION = {"hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420}  # of both 3B and 7B
_SECTION = [16, 24, 24]


@dataclass(frozen=True)
class Subject:
    """A model and the processor that belongs to it."""

    shape: Shape
    model: Any
    processor: Any


def device() -> str:
    """Where benchmarks run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype() -> torch.dtype:
    return torch.bfloat16 if device() == "cuda" else torch.float32


@lru_cache(maxsize=2)
def subject(shape: Shape) -> Subject:
    """The shipped pocket model, or one decoder layer and one vision block of a larger one.

    Raises:
        Unfit: not enough memory.
    """
    if shape == POCKET:
        return pocket()
    from vzero.pocket.model import VOCABULARY

    rows = -(-len(VOCABULARY) // 16) * 16
    _need(8 * (4 * shape.hidden**2 + 3 * shape.hidden * shape.feed_forward) + 2**30)
    model = _build(shape, layers=1, rows=rows, tied=True)
    return Subject(shape, model.to(device(), _dtype()).eval(), _processor(patch_size=14))


@lru_cache(maxsize=1)
def head(shape: Shape) -> Subject:
    """The head of a larger model over hidden states that are word embeddings: no decoder layer, no picture.
    Pocket is whole.

    Raises:
        Unfit: not enough memory.
    """
    if shape == POCKET:
        return pocket()  # not the one above: TRL's trainer changes the configuration of the model it is given
    _need(3 * 4 * shape.hidden * shape.vocabulary + 2**30)  # weights, their gradient, and room to work
    model = _build(shape, layers=0, rows=1024, tied=False)
    model.lm_head = torch.nn.utils.skip_init(torch.nn.Linear, shape.hidden, shape.vocabulary, bias=False)
    torch.nn.init.normal_(model.lm_head.weight, std=0.02)
    return Subject(shape, model.to(device(), _dtype()).eval(), _processor(patch_size=14))


def pocket() -> Subject:
    """The shipped pocket model, loaded anew."""
    folder = checkpoints.resolve("pocket")
    return Subject(
        POCKET, checkpoints.load_model(folder, device=device()), checkpoints.load_processor(folder)
    )


def _build(shape: Shape, layers: int, rows: int, tied: bool) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from vzero.pocket.model import END, IMAGE, PAD, VIDEO, VISION_END, VISION_START, VOCABULARY

    of = VOCABULARY.index
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": rows,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.feed_forward,
            "num_hidden_layers": layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": _SECTION},
            "use_sliding_window": False,
            "tie_word_embeddings": tied,
            "bos_token_id": None,
            "eos_token_id": of(END),
            "pad_token_id": of(PAD),
        },
        vision_config={
            **_VISION,
            "depth": 1,
            "out_hidden_size": shape.hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [0],
            "in_channels": 3,
        },
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
    from transformers import Qwen2VLImageProcessor

    from vzero.pocket.model import build_processor

    compat.install()
    processor = build_processor()
    pixels = (6 * patch_size) ** 2
    processor.image_processor = Qwen2VLImageProcessor(
        patch_size=patch_size, merge_size=2, min_pixels=pixels, max_pixels=pixels
    )
    return processor


def _need(count: int) -> None:
    free = free_memory()
    if free is not None and free < count:
        raise Unfit(f"needs {count / 2**30:.0f} GiB of free memory")


def free_memory() -> int | None:
    """Bytes; None where the system does not say."""
    if device() == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
