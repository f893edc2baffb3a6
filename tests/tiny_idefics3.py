"""A tiny Idefics3 (SmolVLM's architecture) with its real processor, taught in seconds to write in the natural
prompt_format.

Another family than Qwen's in every part that could be welded: Llama layers with one-dimensional positions, a
SigLIP-like vision tower, one tile of fixed size a picture, image tokens between tags of text, another chat
template.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from PIL import Image

SPECIAL = (
    "<pad>",
    "<|im_start|>",
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}:{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
SIDE, PATCH, SCALE = 64, 16, 2
QUESTIONS = [
    f"<description>a {thing} here</description>\n<question>How many {thing}s, if one is hidden?\n"
    f"A) one\nB) two\nC) three\nD) four</question>\n<answer>{letter}</answer>"
    for thing, letter in (("cat", "A"), ("dog", "B"), ("tree", "C"))
]
ANSWERS = [
    f"<think>I count and add one.</think> \\boxed{{{letter}}}" for letter in "ABBBCD"
]  # a majority that is not sure


def processor(texts: list[str]) -> Any:
    """Idefics3's own processor over a byte-level BPE learnt from `texts`, so that prompts stay short."""
    from vzero.runtime import compat

    compat.install()
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Idefics3ImageProcessor, Idefics3Processor, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    )
    raw.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<end_of_utterance>", padding_side="left"
    )
    size = {"longest_edge": SIDE}
    images = Idefics3ImageProcessor(do_image_splitting=False, size=size, max_image_size=size)
    return Idefics3Processor(
        images, tokenizer, image_seq_len=(SIDE // PATCH // SCALE) ** 2, chat_template=TEMPLATE
    )


def model(tokenizer: Any) -> Any:
    """Random weights."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    of = tokenizer.convert_tokens_to_ids
    ends = {"pad_token_id": of("<pad>"), "eos_token_id": of("<end_of_utterance>"), "bos_token_id": None}
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": 1024,
            **ends,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        image_token_id=of("<image>"),
        scale_factor=SCALE,
        pad_token_id=of("<pad>"),
    )
    torch.manual_seed(0)
    made = Idefics3ForConditionalGeneration(config)
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = (
        ends["eos_token_id"],
        ends["pad_token_id"],
    )
    return made


def build(folder: Path, photographs: list[Image.Image], steps: int = 150) -> Path:
    """A checkpoint that asks well-formed questions about any picture and answers them with a wavering
    majority."""
    import torch

    from vzero.prompts import questioner_messages, read_question, solver_messages

    known = [read_question(text, "stop", "natural").text for text in QUESTIONS]
    asked = [(questioner_messages("natural"), QUESTIONS)] + [
        (solver_messages("natural", text), ANSWERS) for text in known
    ]
    its = processor(
        [message.text for messages, _ in asked for message in messages] + QUESTIONS * 20 + ANSWERS * 20
    )
    made = model(its.tokenizer)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    rng = random.Random(0)
    batches = [_batch(its, asked, photographs, rng) for _ in range(12)]
    for step in range(steps):
        made(**batches[step % 12]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    made.eval().save_pretrained(folder)
    its.save_pretrained(folder)
    return folder


def _batch(its: Any, asked: list[Any], photographs: list[Image.Image], rng: random.Random) -> dict[str, Any]:
    """Eight conversations with labels on the replies alone: half of them ask for a question."""
    import torch

    from vzero.rollout.template import conversation

    chosen = [rng.choice((asked[0], rng.choice(asked[1:]))) for _ in range(8)]
    prompts = [
        its.apply_chat_template(conversation(messages, True), add_generation_prompt=True, tokenize=False)
        for messages, _ in chosen
    ]
    replies = [rng.choice(texts) + "<end_of_utterance>" for _, texts in chosen]
    batch = its(
        text=[prompt + reply for prompt, reply in zip(prompts, replies, strict=True)],
        images=[[rng.choice(photographs)] for _ in chosen],
        padding=True,
        return_tensors="pt",
    )
    labels = torch.full_like(batch["input_ids"], -100)
    for row, reply in enumerate(replies):
        width = len(its.tokenizer(reply)["input_ids"])
        labels[row, -width:] = batch["input_ids"][row, -width:]
    return {**batch, "labels": labels}
