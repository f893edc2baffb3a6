"""A tiny random Qwen2.5-VL with its real processor, for tests: 42x42 pictures become nine image tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SPECIAL = ("<pad>", "<unk>", "<eos>", "<img>", "<vid>", "<vs>", "<ve>", "<sys>", "<user>", "<go>")
WORDS = (
    "ask",
    "solve",
    "how",
    "many",
    "red",
    "circle",
    "square",
    "A)",
    "B)",
    "C)",
    "D)",
    "?",
    "\\boxed{",
    "}",
    "A",
    "B",
    "C",
    "D",
)
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}<sys> "
    "{% elif m['role'] == 'user' %}<user> {% else %}<go> {% endif %}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<vs><img><ve> "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endif %}"
    "{% if m['role'] == 'assistant' %}<eos> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<go>{% endif %}"
)


def vocabulary(size: int = 144) -> list[str]:
    """`size` words; the structural ones first."""
    known = [*SPECIAL, *WORDS]
    return known + [f"w{i}" for i in range(size - len(known))]


def processor(words: list[str]):
    """Qwen2.5-VL's own processor over a tokenizer of whitespace-separated words."""
    from vzero.runtime import compat

    compat.install()
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        padding_side="left",
        # Named in this way they are saved, so that a reloaded processor knows its own image token.
        extra_special_tokens={
            "image_token": "<img>",
            "video_token": "<vid>",
            "vision_start_token": "<vs>",
            "vision_end_token": "<ve>",
            "system_token": "<sys>",
            "user_token": "<user>",
            "go_token": "<go>",
        },
    )
    pixels = {
        "patch_size": 7,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "min_pixels": 14 * 14,
        "max_pixels": 42 * 42,
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels),
        chat_template=TEMPLATE,
    )


def model(
    words: list[str],
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    kv_heads: int = 1,
    feed_forward: int = 128,
    positions: int = 256,
    vision: int = 32,
    spread: float = 0.3,
    seed: int = 0,
):
    """Random weights; `spread` is their standard deviation, wide enough that images and words change what
    follows."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    of = words.index
    half = hidden // heads // 2
    section = [half - 2 * (half // 3), half // 3, half // 3]
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": hidden,
            "intermediate_size": feed_forward,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "max_position_embeddings": positions,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section},
            "tie_word_embeddings": True,
            "initializer_range": spread,
            "bos_token_id": None,
            "eos_token_id": of("<eos>"),
            "pad_token_id": of("<pad>"),
        },
        vision_config={
            "depth": 2,
            "hidden_size": vision,
            "num_heads": 2,
            "intermediate_size": 2 * vision,
            "out_hidden_size": hidden,
            "patch_size": 7,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 28,
            "fullatt_block_indexes": [1],
            "initializer_range": spread,
        },
        image_token_id=of("<img>"),
        video_token_id=of("<vid>"),
        vision_start_token_id=of("<vs>"),
        vision_end_token_id=of("<ve>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    made = Qwen2_5_VLForConditionalGeneration(config).eval()
    made.generation_config.eos_token_id = of("<eos>")
    made.generation_config.pad_token_id = of("<pad>")
    return made


def build(folder: Path, *, words: int = 144, seed: int = 0) -> Path:
    """Write a checkpoint as training would leave it."""
    names = vocabulary(words)
    folder.mkdir(parents=True, exist_ok=True)
    model(names, seed=seed).save_pretrained(folder)
    processor(names).save_pretrained(folder)
    return folder


def picture(seed: int, size: tuple[int, int] = (42, 42)) -> Image.Image:
    """Noise in blocks: no two seeds look alike, even after patches are averaged."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
