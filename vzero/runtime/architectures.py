"""Which models attend plainly: every layer of their language part sees all that is before a token, through
Hugging Face's interface of attention, and nothing else mixes tokens.

Of these a prompt can be computed and kept once for all of its completions, in training (grpo/packing.py) and
in drawing (rollout/attention.py).
"""

from __future__ import annotations

from typing import Any

# Shown to be exact (tests/unit/test_packing.py, test_families.py). That features follow the order of image
# tokens, and that nothing but attention mixes tokens, cannot be asked of a model.
MODELS = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "idefics3", "smolvlm", "internvl"})
TEXT_MODELS = frozenset(
    {"qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text", "llama", "qwen2", "qwen3"}
)


def why_not_shared(config: Any) -> str | None:
    """Why a prompt cannot be shared by a model of this configuration, for a sentence; None where it can."""
    text = config.get_text_config()
    if others := sorted(set(getattr(text, "layer_types", None) or ()) - {"full_attention"}):
        return f"{config.model_type} has layers of {', '.join(others)}, which would mix sequences"
    if config.model_type not in MODELS or text.model_type not in TEXT_MODELS:
        return f"shared prompts were not shown to be exact for {config.model_type} with {text.model_type}"
    return None
