"""Tiny models with random weights of other families' real architectures, each with the family's own processor
over the pocket world's words: M-RoPE interleaved and DeepStack (Qwen3-VL), experts (its MoE), layers of
linear attention (Qwen3.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from vzero.pocket.model import build_processor
from vzero.runtime import checkpoints, compat

TEXT = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 24,
    "max_position_embeddings": 512,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [4, 4, 4],
        "mrope_interleaved": True,
    },
}
VISION = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "out_hidden_size": 48,
    "patch_size": 7,
    "num_position_embeddings": 64,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": []}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}


def _qwen3(config: str, model: str, text: Mapping[str, Any], vision: Mapping[str, Any]) -> Any:
    import transformers

    tokenizer = build_processor().tokenizer
    of = tokenizer.convert_tokens_to_ids
    ends = {"pad_token_id": of("<|pad|>"), "eos_token_id": of("<|im_end|>"), "bos_token_id": None}
    settings = getattr(transformers, config)(
        text_config={**TEXT, **text, **ends, "vocab_size": 112},
        vision_config={**VISION, **vision},
        image_token_id=of("<|image_pad|>"),
        video_token_id=of("<|video_pad|>"),
        vision_start_token_id=of("<|vision_start|>"),
        vision_end_token_id=of("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    made = getattr(transformers, model)(settings)
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = (
        ends["eos_token_id"],
        ends["pad_token_id"],
    )
    return made


def _processor() -> Any:
    from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor

    pocket = build_processor()
    shape = {"patch_size": 7, "merge_size": 2, "temporal_patch_size": 2}
    return Qwen3VLProcessor(
        pocket.image_processor,
        pocket.tokenizer,
        Qwen3VLVideoProcessor(**shape),
        chat_template=pocket.chat_template,
    )


MODELS: Mapping[str, Callable[[], Any]] = {
    "qwen3_vl": lambda: _qwen3(
        "Qwen3VLConfig", "Qwen3VLForConditionalGeneration", {}, {"deepstack_visual_indexes": [0, 1]}
    ),
    "qwen3_vl_moe": lambda: _qwen3(
        "Qwen3VLMoeConfig",
        "Qwen3VLMoeForConditionalGeneration",
        EXPERTS,
        {"deepstack_visual_indexes": [0, 1]},
    ),
    "qwen3_5": lambda: _qwen3("Qwen3_5Config", "Qwen3_5ForConditionalGeneration", LINEAR, {}),
}


def build(family: str, folder: Path) -> Path:
    """A checkpoint of a family."""
    compat.install()
    torch.manual_seed(0)
    checkpoints.save(MODELS[family](), _processor(), folder)
    return folder
