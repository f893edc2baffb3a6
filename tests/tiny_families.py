"""Tiny models with random weights of other families' real architectures, each with the family's own processor
and chat template over a byte-level vocabulary learnt from our prompts: M-RoPE interleaved and DeepStack
(Qwen3-VL), experts (its MoE), layers of linear attention (Qwen3.5), pictures cut into tiles (SmolVLM, which
is an Idefics3, SmolVLM2, InternVL)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from vzero.prompts import questioner_messages, solver_messages
from vzero.runtime import checkpoints, compat

QUESTION = "How many cats, if one is hidden?\nA) one\nB) two\nC) three\nD) four"
QWEN = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
SMOL = (
    *("<|im_end|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>"),
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
)
INTERN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
INTERN_TEMPLATE = (  # ChatML, the image above the text
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TILE, PATCH, MERGE = 32, 8, 2  # pixels a side of a tile and of its patches; patches a side of a token
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 24,
    "max_position_embeddings": 2048,
}
MROPE = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "mrope_section": [4, 4, 4],
    "mrope_interleaved": True,
}
TILES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
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


@dataclass(frozen=True)
class Family:
    """`special`: tokens in the order of their ids, the first of which pads; `ends`: the one that ends a turn;
    `template`: TRL's copy of the family's by name, or a text; `named`: special tokens that its processor asks
    the tokenizer for; `processor` is made of a tokenizer and a template, `model` of a tokenizer; `packs`:
    whether it trains on packed rows."""

    special: tuple[str, ...]
    ends: str
    template: str
    processor: Callable[[Any, str], Any]
    model: Callable[[Any], Any]
    packs: bool = True
    named: Mapping[str, str] | None = None


def _ids(tokenizer: Any) -> dict[str, Any]:
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return {**ids, "bos_token_id": None, "vocab_size": len(tokenizer)}


def _qwen(name: str, text: Mapping[str, Any], vision: Mapping[str, Any]) -> Callable[[Any], Any]:
    def made(tokenizer: Any) -> Any:
        import transformers

        of = tokenizer.convert_tokens_to_ids
        config = getattr(transformers, f"{name}Config")(
            text_config={**TEXT, "rope_parameters": MROPE, **text, **_ids(tokenizer)},
            vision_config={**VISION, **vision},
            image_token_id=of("<|image_pad|>"),
            video_token_id=of("<|video_pad|>"),
            vision_start_token_id=of("<|vision_start|>"),
            vision_end_token_id=of("<|vision_end|>"),
            tie_word_embeddings=True,
        )
        return getattr(transformers, f"{name}ForConditionalGeneration")(config)

    return made


def _qwen_processor(tokenizer: Any, template: str) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    shape = {"patch_size": 7, "merge_size": 2, "temporal_patch_size": 2}
    pixels = {"min_pixels": 14 * 14, "max_pixels": 42 * 42}
    images, videos = Qwen2VLImageProcessor(**shape, **pixels), Qwen3VLVideoProcessor(**shape)
    return Qwen3VLProcessor(images, tokenizer, videos, chat_template=template)


def _smol(name: str) -> Callable[[Any], Any]:
    def made(tokenizer: Any) -> Any:
        import transformers

        config = getattr(transformers, f"{name}Config")(
            text_config={"model_type": "llama", **TEXT, **_ids(tokenizer)},
            vision_config={**TILES, "image_size": TILE, "patch_size": PATCH},
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
            scale_factor=MERGE,
            pad_token_id=tokenizer.pad_token_id,
        )
        return getattr(transformers, f"{name}ForConditionalGeneration")(config)

    return made


def _smol_processor(name: str) -> Callable[[Any, str], Any]:
    def made(tokenizer: Any, template: str) -> Any:
        import transformers

        sizes = {"size": {"longest_edge": 2 * TILE}, "max_image_size": {"longest_edge": TILE}}
        parts = [getattr(transformers, f"{name}ImageProcessor")(**sizes), tokenizer]
        if name == "SmolVLM":
            compat.read_pictures_alone()
            parts.append(transformers.SmolVLMVideoProcessor())
        own = getattr(transformers, f"{name}Processor")
        return own(*parts, image_seq_len=(TILE // PATCH // MERGE) ** 2, chat_template=template)

    return made


def _intern(text: Mapping[str, Any]) -> Callable[[Any], Any]:
    def made(tokenizer: Any) -> Any:
        from transformers import InternVLConfig, InternVLForConditionalGeneration

        config = InternVLConfig(
            text_config={**TEXT, **text, **_ids(tokenizer)},
            vision_config={**TILES, "image_size": TILE, "patch_size": PATCH},
            image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
            image_seq_length=(TILE // PATCH // MERGE) ** 2,
            downsample_ratio=1 / MERGE,
        )
        return InternVLForConditionalGeneration(config)

    return made


def _intern_processor(tokenizer: Any, template: str) -> Any:
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": TILE, "width": TILE}
    images = GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4)
    tokens = (TILE // PATCH // MERGE) ** 2
    return InternVLProcessor(images, tokenizer, InternVLVideoProcessor(), tokens, chat_template=template)


def _of_intern(text: Mapping[str, Any]) -> Family:
    named = dict(zip(("start", "end", "context"), ("<img>", "</img>", "<IMG_CONTEXT>"), strict=True))
    tokens = {f"{key}_image_token": token for key, token in named.items()} | {"video_token": "<video>"}
    return Family(INTERN, "<|im_end|>", INTERN_TEMPLATE, _intern_processor, _intern(text), named=tokens)


def _of_qwen(name: str, template: str, text: Any, vision: Any, packs: bool = True) -> Family:
    return Family(QWEN, "<|im_end|>", template, _qwen_processor, _qwen(name, text, vision), packs)


DEEPSTACK = {"deepstack_visual_indexes": [0, 1]}
FAMILIES: Mapping[str, Family] = {
    "qwen3_vl": _of_qwen("Qwen3VL", "qwen3_vl", {}, DEEPSTACK),
    "qwen3_vl_moe": _of_qwen("Qwen3VLMoe", "qwen3_vl", EXPERTS, DEEPSTACK),
    "qwen3_5": _of_qwen("Qwen3_5", "qwen3_5_think", LINEAR, {}, packs=False),
    "smolvlm": Family(SMOL, "<end_of_utterance>", "smolvlm", _smol_processor("Idefics3"), _smol("Idefics3")),
    "smolvlm2": Family(SMOL, "<end_of_utterance>", "smolvlm", _smol_processor("SmolVLM"), _smol("SmolVLM")),
    "internvl3": _of_intern({"model_type": "qwen2"}),
    "internvl3_5": _of_intern({"model_type": "qwen3"}),
}


@cache
def tokenizer(family: str) -> Any:
    """A byte-level BPE of about 700 tokens, the family's special ones first."""
    compat.install()
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    of = FAMILIES[family]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    asked = (*questioner_messages("natural"), *solver_messages("natural", QUESTION))
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in of.special],
        show_progress=False,
    )
    raw.train_from_iterator([message.text for message in asked], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=of.special[0],
        eos_token=of.ends,
        padding_side="left",
        extra_special_tokens=dict(of.named or {}),
    )


def special_ids(family: str) -> set[int]:
    """Of the tokens that mark turns and pictures."""
    return set(tokenizer(family).convert_tokens_to_ids(list(FAMILIES[family].special)))


def processor(family: str) -> Any:
    """The family's own, with its chat template."""
    of, template = FAMILIES[family], FAMILIES[family].template
    if "{" not in template:
        template = (resources.files("trl") / "chat_templates" / f"{template}.jinja").read_text("utf-8")
    return of.processor(tokenizer(family), template)


def model(family: str, seed: int = 0) -> Any:
    """Random weights."""
    compat.install()
    torch.manual_seed(seed)
    ids = tokenizer(family)
    made = FAMILIES[family].model(ids).eval()
    made.generation_config.eos_token_id = ids.eos_token_id
    made.generation_config.pad_token_id = ids.pad_token_id
    return made


def build(family: str, folder: Path) -> Path:
    """A checkpoint of a family."""
    checkpoints.save(model(family), processor(family), folder)
    return folder
