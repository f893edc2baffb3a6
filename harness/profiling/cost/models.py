"""Shapes of Qwen2.5-VL, from its configuration classes: built without storage, so no weight is needed. Widths are those of the published
configs (Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct)."""

from __future__ import annotations

from typing import Any

from harness.profiling.flops import Shape

_VISION = {"hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "depth": 32}  # of both
_TEXT: dict[str, dict[str, Any]] = {
    "Qwen2.5-VL-3B": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "Qwen2.5-VL-7B": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}
NAMES = tuple(_TEXT)


def shape_named(name: str) -> Shape:
    """Of one of NAMES, in bfloat16."""
    from harness.profiling.flops import shape_of

    return shape_of(empty_model(name))


def empty_model(name: str) -> Any:
    """One of NAMES without storage."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = _TEXT[name]
    config = Qwen2_5_VLConfig(
        text_config={**text, "use_sliding_window": False},
        vision_config={
            **_VISION,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "in_channels": 3,
        },
        tie_word_embeddings=text["tie_word_embeddings"],
    )
    with torch.device("meta"):
        return Qwen2_5_VLForConditionalGeneration(config).to(torch.bfloat16)
