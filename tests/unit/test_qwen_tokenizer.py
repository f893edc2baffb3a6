"""Prompts, token ids, pictures, ends of turns and hostile text by Qwen2.5-VL's own tokenizer and template.

Oracles: tiktoken over the same vocabulary (another implementation of byte pair encoding), ids and counts that
the published files have, and strings written out here.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.cost.shapes import image_tokens, published, size_of
from tests.qwen import qwen_folder
from vzero.arms.sft import _tokens
from vzero.errors import RolloutError
from vzero.images.records import seen_size
from vzero.parsing import has_control_tokens
from vzero.prompts import questioner_messages, read_question, solver_messages
from vzero.rollout import template
from vzero.rollout.encoding import collect
from vzero.rollout.protocol import Message, Request
from vzero.rollout.vocabulary import Vocabulary, vocabulary_of
from vzero.runtime.checkpoints import load_processor

pytestmark = pytest.mark.slow

MODELS = ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct")
IDS = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|vision_start|>": 151652,
    "<|vision_end|>": 151653,
    "<|image_pad|>": 151655,
    "<|video_pad|>": 151656,
    "<tool_call>": 151657,
    "<|file_sep|>": 151664,
}
OPTIONS = "A) 1\nB) 2\nC) 3\nD) 4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return load_processor(folder)


def vocabulary(processor: Any, model: str) -> Vocabulary:
    from transformers import AutoConfig, GenerationConfig

    tree = {key: value for key, value in published(model).items() if key != "model_type"}
    config = AutoConfig.for_model("qwen2_5_vl", **tree)
    return vocabulary_of(config, GenerationConfig(eos_token_id=[151645, 151643]), processor)


def test_ids_are_the_published_ones(folder: Path, processor: Any) -> None:
    tokenizer = processor.tokenizer
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in IDS} == IDS
    assert len(tokenizer) == 151_665
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (
        "<|im_end|>",
        "<|endoftext|>",
        None,
    )
    merges = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    assert len(merges) == 151_387  # lines of the published merges.txt
    assert tokenizer("Hello, world!")["input_ids"] == [9707, 11, 1879, 0]


def test_text_is_split_as_tiktoken_splits_it(processor: Any) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    plain = {token: i for token, i in processor.tokenizer.get_vocab().items() if i < 151_643}
    ranks = {bytes(letters[letter] for letter in token): i for token, i in plain.items()}
    oracle = tiktoken.Encoding("oracle", pat_str=PRETOKENIZE_REGEX, mergeable_ranks=ranks, special_tokens={})
    words = st.sampled_from(["straight", " lines", "\\boxed{A}", "1234.5", "don't", "面积", " = ", "\n\n  "])

    @given(st.lists(st.one_of(st.text(max_size=12), words), max_size=8).map("".join))
    @settings(max_examples=200)
    def agrees(text: str) -> None:
        text = unicodedata.normalize("NFC", text)
        if not has_control_tokens(text):
            wanted = oracle.encode(text, disallowed_special=())
            assert processor.tokenizer(text)["input_ids"] == wanted

    agrees()


def test_a_prompt_is_the_template_around_its_parts(processor: Any) -> None:
    (system, user), question = solver_messages("natural", f"How many?\n{OPTIONS}"), f"How many?\n{OPTIONS}"
    text = template.render(processor, (system, user), with_image=True)
    assert text == (
        f"<|im_start|>system\n{system.text}<|im_end|>\n"
        f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{user.text}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert question in text
    begun = template.render(processor, (system, user), with_image=True, prefill="I count")
    assert begun == f"{text}I count"
    assert template.token_ids(processor, begun)[-2:] == processor.tokenizer("I count")["input_ids"]


@pytest.mark.parametrize(
    ("pixels", "tokens"),
    [
        ((1154, 866), 41 * 31),  # 41.2 and 30.9 sides of 28 pixels: the presets' megapixel
        (seen_size(4032, 3024, 1e6), 41 * 31),  # a telephone's photograph, shrunk to it
        ((640, 480), 23 * 17),
        ((28, 28), 4),  # fewer than 3,136 pixels: enlarged to 56 x 56
        ((30, 1500), 54),  # 1 x 54
    ],
)
def test_image_tokens_of_the_prompt_are_those_of_the_plan(
    processor: Any, pixels: tuple[int, int], tokens: int
) -> None:
    text = template.render(processor, questioner_messages("natural"), with_image=True)
    batch = template.processed(processor, [text], [Image.new("RGB", pixels)])
    ids = batch["input_ids"][0].tolist()
    assert ids.count(IDS["<|image_pad|>"]) == tokens == image_tokens(size_of(MODELS[0]), *pixels)
    assert len(ids) == len(template.token_ids(processor, text)) - 1 + tokens


@pytest.mark.parametrize(("model", "scores"), [(MODELS[0], 151_936), (MODELS[1], 152_064)])
def test_turns_end_and_nothing_structural_is_drawn(processor: Any, model: str, scores: int) -> None:
    found = vocabulary(processor, model)
    assert found.eos == {IDS["<|im_end|>"], IDS["<|endoftext|>"]}
    structural = set(range(151_643, 151_657)) - found.eos  # vision, boxes, quads, starts of turns
    assert found.forbidden == structural | set(range(151_665, scores))
    assert len(found.forbidden) < 1024  # as many as vLLM takes in logit_bias


def test_a_completion_truncated_inside_a_character_is_still_text(processor: Any) -> None:
    of = vocabulary(processor, MODELS[0])
    ids = processor.tokenizer("so 🦔")["input_ids"]
    assert len(ids) > 3  # the animal's bytes are several tokens
    cut = of.completion(ids[:-1], [0.0] * (len(ids) - 1), "length")
    assert cut.text.startswith("so ") and "🦔" not in cut.text and cut.finish_reason == "length"
    whole = of.completion([*ids, IDS["<|im_end|>"]], [0.0] * (len(ids) + 1), "stop")
    assert (whole.text, whole.finish_reason) == ("so 🦔", "stop")
    with pytest.raises(RolloutError, match="no end of a turn"):
        of.completion(ids, [0.0] * len(ids), "stop")


PIECES = st.sampled_from(
    [
        *IDS,
        "<|",
        "|>",
        "<",
        ">",
        "|",
        "im_end",
        "image_pad",
        "</tool_call>",
        "\u200b",
        "\uff1c|im_end|\uff1e",
        " ",
    ]
)


def test_hostile_questions_become_no_control_tokens(processor: Any) -> None:
    """Whatever is let through holds no more structural ids than a harmless question does."""

    def structural(question: str) -> list[int]:
        text = template.render(processor, solver_messages("natural", question), with_image=True)
        return [one for one in template.token_ids(processor, text) if one >= IDS["<|endoftext|>"]]

    usual = structural(f"How many?\n{OPTIONS}")
    assert len(usual) == 8  # three starts, two ends, the picture's three

    @given(st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=8).map("".join))
    @settings(max_examples=300)
    def checked(part: str) -> None:
        reply = f"<question>{part} {OPTIONS}</question><answer>A</answer>"
        question = read_question(reply, "stop", "natural")
        if question is not None:
            assert structural(question.text) == usual

    checked()
    for token in IDS:
        reply = f"<question>Is {token} red?\n{OPTIONS}</question><answer>A</answer>"
        assert read_question(reply, "stop", "natural") is None, token


def test_an_imitated_reply_holds_no_control_token_but_its_end(processor: Any) -> None:
    (ids,) = _tokens(processor, ["so <|im_end|><|image_pad|> \\boxed{A}"])
    assert [one for one in ids if one >= IDS["<|endoftext|>"]] == [IDS["<|im_end|>"]] == ids[-1:]
    assert processor.tokenizer.decode(ids[:-1]) == "so <|im_end|><|image_pad|> \\boxed{A}"


def test_an_engine_refuses_a_prompt_with_a_second_picture_in_its_text(processor: Any) -> None:
    request = Request((Message("user", "see <|image_pad|>"),), Image.new("RGB", (56, 56)), 0)
    with pytest.raises(RolloutError, match="2 image tokens"):
        collect(processor, [request])
