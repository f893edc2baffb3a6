"""The pocket model: Qwen2.5-VL's architecture at half a million parameters, with a real tokenizer and
processor.

Saved, it is an ordinary Hugging Face folder. Head dimensions are 32 in the language model because CPU
attention kernels of serving engines need at least that. A 42 x 42 image is 6 x 6 patches of 7 pixels, merged
two by two into nine image tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vzero.parsing import OPTION_MARKS, OPTIONS
from vzero.pocket.families import CELLS, NUMBERS
from vzero.pocket.world import COLORS, SHAPES, SIDE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

PAD, UNKNOWN, TURN, END = "<|pad|>", "<|unknown|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
SPECIAL = (PAD, UNKNOWN, TURN, END, VISION_START, VISION_END, IMAGE, VIDEO)
ASK, SOLVE = "ask", "solve"  # the system messages of the two roles
_WORDS = (
    "what which how many is the at color shape digit bar tall tallest second odd largest sum gap comes next"
    " above minus + - = ? so yes look row check seems maybe shapes digits bars"
)
# The order of the vocabulary is part of the shipped checkpoint.
VOCABULARY = (
    *SPECIAL,
    *(ASK, SOLVE),
    *("<description>", "</description>", "<question>", "</question>", "<answer>", "</answer>"),
    *("<think>", "</think>", "\\boxed{", "}"),
    *OPTION_MARKS,
    *OPTIONS,
    *COLORS,
    *SHAPES,
    *CELLS,
    *NUMBERS,
    *_WORDS.split(),
)
IMAGE_TOKENS = 9
# A role's prompt is its system word, the image, the text of the user; a completion stands between TURN and
# END.
_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}" + TURN + "{% endif %}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] + ' ' }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + VISION_START + IMAGE + VISION_END +
    "{% elif part['type'] == 'text' %}{{ ' ' + part['text'] + ' ' }}"
    "{% endif %}{% endfor %}{% endif %}{% if message['role'] == 'assistant' %}" + END +
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}" + TURN + "{% endif %}"
)  # fmt: skip


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, words separated by spaces; unknown words become `<|unknown|>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(VOCABULARY)}
    if len(ids) != len(VOCABULARY):
        raise ValueError("a word stands twice in the pocket vocabulary")
    backend = Tokenizer(models.WordLevel(vocab=ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        padding_side="left",
        additional_special_tokens=[TURN, VISION_START, VISION_END, IMAGE, VIDEO],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.image_token, tokenizer.video_token = IMAGE, VIDEO
    return tokenizer


def build_processor() -> Qwen2_5_VLProcessor:
    """Chat template, tokenizer and image processor; every image is brought to about 42 x 42 pixels."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    shape = {"patch_size": 7, "merge_size": 2, "temporal_patch_size": 2}
    colors = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    images = Qwen2VLImageProcessor(**shape, min_pixels=14 * 14, max_pixels=SIDE * SIDE, **colors)
    videos = Qwen2VLVideoProcessor(**shape, **colors)
    return Qwen2_5_VLProcessor(
        image_processor=images, tokenizer=build_tokenizer(), video_processor=videos, chat_template=_TEMPLATE
    )


@dataclass(frozen=True)
class Size:
    """Of the language part, whose heads are 32 wide; and how it is pretrained: the learning rate, and the
    type of matrix products (weights, gradients and optimizer states are float32)."""

    width: int
    layers: int
    feed_forward: int
    learning_rate: float
    products: Literal["float32", "bfloat16"]


# small is the one shipped; large has 5.2 times its weights
SIZES = {"small": Size(96, 4, 256, 2e-3, "float32"), "large": Size(256, 4, 576, 1e-3, "bfloat16")}


def build_model(seed: int, size: Size = SIZES["small"]) -> Qwen2_5_VLForConditionalGeneration:
    """A freshly initialised pocket model, float32."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = {word: i for i, word in enumerate(VOCABULARY)}
    heads = size.width // 32
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": -(-len(VOCABULARY) // 16) * 16,
            "hidden_size": size.width,
            "intermediate_size": size.feed_forward,
            "num_hidden_layers": size.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True,
            "initializer_range": 0.04,
            "bos_token_id": None,
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 48,
            "num_heads": 3,
            "intermediate_size": 96,
            "out_hidden_size": size.width,
            "patch_size": 7,
            "fullatt_block_indexes": [0, 1],
            "initializer_range": 0.04,
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids[END]
    model.generation_config.pad_token_id = ids[PAD]
    return model
