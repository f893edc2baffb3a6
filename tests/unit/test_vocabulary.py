"""Which token ends a turn: as a checkpoint's files name it, or as its chat template writes it, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_idefics3, tiny_model
from tests.qwen import qwen_folder
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError
from vzero.rollout import Message, Request
from vzero.rollout.engines import open_engine
from vzero.rollout.template import end_of_turn
from vzero.rollout.vocabulary import Vocabulary, read_vocabulary, vocabulary_of
from vzero.runtime.checkpoints import load_processor

pytestmark = pytest.mark.slow

PAD, EOS, USER = (tiny_model.SPECIAL.index(word) for word in ("<pad>", "<eos>", "<user>"))
Edit = Callable[[dict[str, Any]], object]
NO_END = tiny_model.TEMPLATE.replace("<eos> ", "")
WORDS_ALONE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'][0]['text'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "changed"))


def edit(folder: Path, name: str, change: Edit) -> None:
    found = json.loads((folder / name).read_text())
    change(found)
    (folder / name).write_text(json.dumps(found))


def ends(folder: Path, configured: Any, tokenizer: str | None, template: str = tiny_model.TEMPLATE) -> None:
    """Write what each place of a checkpoint says; None: nothing, the generation config's file included."""
    (folder / "generation_config.json").unlink()
    if configured is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": configured}))
    edit(folder, "config.json", lambda found: found["text_config"].update(eos_token_id=configured))
    edit(folder, "tokenizer_config.json", lambda found: found.pop("eos_token"))
    if tokenizer is not None:
        edit(folder, "tokenizer_config.json", lambda found: found.update(eos_token=tokenizer))
    (folder / "chat_template.jinja").write_text(template)


@pytest.mark.parametrize(
    ("configured", "tokenizer", "wanted", "repaired"),
    [
        (EOS, "<eos>", {EOS}, False),
        ([EOS, PAD], "<eos>", {EOS, PAD}, False),
        ([EOS, PAD], None, {EOS, PAD}, False),
        (None, "<eos>", {EOS}, False),
        (None, None, {EOS}, True),
        (None, "<pad>", {EOS, PAD}, True),
        (PAD, "<pad>", {EOS, PAD}, True),
        ([PAD], None, {EOS, PAD}, True),
        (10_000, None, {EOS}, True),  # of a model with a larger vocabulary
    ],
)
def test_the_chat_templates_end_always_ends_a_turn(
    folder: Path, configured: Any, tokenizer: str | None, wanted: set[int], repaired: bool
) -> None:
    ends(folder, configured, tokenizer)
    found = read_vocabulary(folder)
    assert found.eos == wanted and not found.eos & found.forbidden
    assert (found.repaired is not None) == repaired
    if found.repaired:
        assert "<eos>" in found.repaired and "generation_config.json" in found.repaired


def test_a_checkpoint_that_names_no_end_anywhere_is_refused(folder: Path) -> None:
    ends(folder, None, None, WORDS_ALONE)
    with pytest.raises(InputError, match=r"no end of turn.*generation_config\.json"):
        read_vocabulary(folder)
    with pytest.raises(InputError, match="no end of turn"):
        open_engine(EngineConfig(batch_sequences=8), folder)


def test_without_an_end_in_the_template_the_files_are_believed(folder: Path) -> None:
    ends(folder, PAD, None, WORDS_ALONE)
    found = read_vocabulary(folder)
    assert found.eos == {PAD} and found.repaired is None


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (NO_END, USER),  # a turn is over where the next one begins
        (NO_END + "{% if not add_generation_prompt %}<pad>{% endif %}", PAD),  # an end of everything
        ("{% if messages|length > 1 %}{{ raise_exception('one turn') }}{% endif %}<user>", None),
        ("{% for m in messages %}{{ m['content'] + '<eos>' }}{% endfor %}", None),  # fails on parts
    ],
)
def test_what_a_template_writes_behind_an_answer(folder: Path, template: str, wanted: int | None) -> None:
    processor = read_vocabulary(folder).processor
    processor.chat_template = template
    assert end_of_turn(processor) == wanted


def test_an_engine_stops_at_the_repaired_end(folder: Path) -> None:
    """The token was forbidden before: such a model could not end a turn at all."""
    ends(folder, PAD, "<pad>")
    engine = open_engine(EngineConfig(batch_sequences=64, threads=1), folder)
    request = Request((Message("user", "how many ?"),), tiny_model.picture(0), 1)
    hot = SamplingConfig(n=200, temperature=50.0, max_new_tokens=10)
    drawn = engine.generate([request], hot)[0].completions
    assert {one.token_ids[-1] for one in drawn if one.finish_reason == "stop"} == {EOS, PAD}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Any:
    return load_processor(qwen_folder(tmp_path_factory))


@pytest.mark.parametrize("configured", [None, 151643, [151643], [151645, 151643]])
@pytest.mark.parametrize("named", ["<|im_end|>", "<|endoftext|>", None])
def test_qwens_own_tokenizer_and_template(qwen: Any, configured: Any, named: str | None) -> None:
    """What is left of Qwen2.5-VL where a merge lost generation_config.json, or came from a base model."""
    from transformers import AutoConfig, GenerationConfig

    qwen.tokenizer.eos_token = named
    config = AutoConfig.for_model("qwen2_5_vl", text_config={"vocab_size": 151_936})
    found = vocabulary_of(config, GenerationConfig(eos_token_id=configured), qwen)
    known = {None: set(), "<|im_end|>": {151645}, "<|endoftext|>": {151643}}[named]
    known |= set(configured) if isinstance(configured, list) else {configured} - {None}
    assert found.eos == known | {151645}
    assert bool(found.repaired) == (151645 not in known) and "<|im_end|>" in (found.repaired or "<|im_end|>")


def test_another_family(tmp_path: Path) -> None:
    processor = tiny_idefics3.processor(["how many", "two of them"])
    model = tiny_idefics3.model(processor.tokenizer)
    end = processor.tokenizer.convert_tokens_to_ids("<end_of_utterance>")
    model.generation_config.eos_token_id = None
    model.config.text_config.eos_token_id = None
    processor.tokenizer.eos_token = None
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    found: Vocabulary = read_vocabulary(tmp_path)
    assert found.eos == {end} and "<end_of_utterance>" in str(found.repaired)


MARKS = (
    "[INST]",
    "<row_1_col_1>",
    "<tool_call>",
    "<\uff5cUser\uff5c>",
    "\u25c1think\u25b7",
    "<<SYS>>",
    "{{turn}}",
)
ORDINARY = ("\n\n", "\u2581\u2581", "photosynthesis", "2024", "...", "A)", "---")
ASKED = "How many {} are here, [2] of <3>?\nA) 1\nB) 2\nC) 3\nD) 4"


def of_idefics3() -> Vocabulary:
    its = tiny_idefics3.processor([ASKED])
    return Vocabulary(its, frozenset(), frozenset(), None)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("mark", [*MARKS, "USER:"])
def test_a_mark_that_the_tokenizer_knows_breaks_a_prompt(mark: str, special: bool) -> None:
    """Whatever the family: the tokenizer is asked. One that does not know it reads plain text."""
    from tokenizers import AddedToken

    found = of_idefics3()
    assert not found.breaks_prompt(ASKED.format(mark))
    found.processor.tokenizer.add_tokens([AddedToken(mark, special=special)], special_tokens=special)
    found = Vocabulary(found.processor, frozenset(), frozenset(), None)
    assert found.breaks_prompt(ASKED.format(mark)) == (special or mark in MARKS)
    assert found.breaks_prompt(ASKED.format(f"x{mark}y")) == (special or mark in MARKS)
    assert not found.breaks_prompt(ASKED.format(mark[1:-1]))


def test_frequent_words_that_a_tokenizer_was_given_break_nothing() -> None:
    found = of_idefics3()
    found.processor.tokenizer.add_tokens(list(ORDINARY))
    ids = found.processor.tokenizer(ASKED.format(" ".join(ORDINARY)))["input_ids"]
    assert {found.processor.tokenizer.convert_tokens_to_ids(one) for one in ORDINARY} <= set(ids)
    assert not found.breaks_prompt(ASKED.format(" ".join(ORDINARY)))
    assert all(found.breaks_prompt(ASKED.format(one)) for one in tiny_idefics3.SPECIAL)


def test_every_mark_of_qwen_breaks_a_prompt_and_an_unknown_word_none(qwen: Any, whole: Path) -> None:
    found = Vocabulary(qwen, frozenset(), frozenset(), None)
    marks = [one.content for one in qwen.tokenizer.added_tokens_decoder.values()]
    assert len(marks) == 22 and all(found.breaks_prompt(ASKED.format(one)) for one in marks)
    assert not any(found.breaks_prompt(ASKED.format(one[1:-1])) for one in marks)
    tiny = read_vocabulary(whole)
    assert not tiny.breaks_prompt("how many unheard ?") and tiny.breaks_prompt("how <img> many ?")
