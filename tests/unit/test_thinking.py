"""Models that think: the switch of the template, what is read of a completion, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerState

from harness.perf.plan.plan import choose_machine, make
from harness.runs.display import summary
from tests import tiny_families, tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.recorder import Phases, Recorder
from vzero.images.records import ImageRecord
from vzero.presets import load_preset
from vzero.prompts import parse_answer, read_question, solver_messages
from vzero.rollout import Completion, Message, Request, bulk
from vzero.rollout.chat import request_body
from vzero.rollout.engines import open_engine
from vzero.rollout.template import render
from vzero.rollout.thinking import after_thought, load_processor
from vzero.rollout.vocabulary import Vocabulary, read_vocabulary
from vzero.runtime import artefacts, chat_templates, stage
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.slow

USER = (Message("user", "How many?"),)
GREEDY = SamplingConfig(n=1, temperature=0.0, max_new_tokens=8)
QUESTION = (
    "<description>a cat</description><question>How many?\nA) 1\nB) 2\nC) 3\nD) 4</question><answer>B</answer>"
)
# What a completion says that begins inside a thought, and the vote in it.
COMPLETIONS = [
    ("I count two.\n</think>\n\n\\boxed{B}", "B"),
    ("\\boxed{A}? No.\n</think>\\boxed{B}", "B"),
    ("\\boxed{A}", None),  # considered, at the end of its tokens
    ("So it is A.\n\\boxed{A}\n</think>\n\n", None),  # nothing follows
    ("</think>\\boxed{A}</think>", None),
    ("</think>\\boxed{A}</think>\\boxed{C}", "C"),
    ("done</think>but wait <think>\\boxed{A}", None),  # another thought, which does not end
    ("done</think><think>again</think>\\boxed{D}", "D"),
    ("</thinking>\\boxed{A}", None),
    ("</THINK>\\boxed{A}", None),
    ("< /think>\\boxed{A}", None),
    ("</think" * 1000 + "\\boxed{A}", None),
    ("<think>" * 1000 + "</think>\\boxed{A}", "A"),
    (" ", None),
]


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3.5, whose template has the switch and thinks where nothing is said."""
    return tiny_families.build("qwen3_5", tmp_path_factory.mktemp("thinking") / "hybrid")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3-VL-Instruct, which does not think."""
    return tiny_families.build("qwen3_vl", tmp_path_factory.mktemp("thinking") / "plain")


@pytest.fixture(scope="module")
def always(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Qwen3-VL-Thinking: the same template, which opens a thought and has no switch."""
    folder = Path(shutil.copytree(plain, tmp_path_factory.mktemp("thinking") / "always"))
    template = folder / "chat_template.jinja"
    begun = "'<|im_start|>assistant\\n' }}\n{%- endif %}"
    text = template.read_text("utf-8")
    assert text.rstrip().endswith(begun)
    template.write_text(text.rstrip().removesuffix(begun) + begun.replace("\\n'", "\\n<think>\\n'"), "utf-8")
    return folder


def completed(vocabulary: Vocabulary, text: str, ends: bool = True) -> Any:
    ids = vocabulary.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = [*ids, min(vocabulary.eos)] if ends else ids
    return vocabulary.completion(ids, [0.0] * len(ids), "stop" if ends else "length")


def test_the_switch_is_the_templates_own(hybrid: Path, always: Path) -> None:
    on, off = (render(load_processor(hybrid, way), USER, with_image=True) for way in (True, False))
    assert on.endswith("<|im_start|>assistant\n<think>\n")
    assert off.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert on.count("<|image_pad|>") == off.count("<|image_pad|>") == 1
    assert render(load_processor(always, True), USER, with_image=False).endswith("<think>\n")
    for way in (True, False):  # by a server, which renders by itself
        vocabulary = read_vocabulary(hybrid, way)
        body = request_body(Request(USER, None, 1), None, GREEDY, vocabulary)
        assert body["chat_template_kwargs"] == {"enable_thinking": way}


def test_a_template_that_does_not_end_once_it_is_switched_is_refused(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_templates, "SECONDS", 1)
    folder = Path(shutil.copytree(plain, tmp_path / "bad"))
    template = folder / "chat_template.jinja"
    endless = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    begin = "{% if enable_thinking is defined %}" + endless + "{% endif %}"
    template.write_text(begin + template.read_text("utf-8"), "utf-8")
    load_processor(folder, None)
    with pytest.raises(InputError, match="does not end within"):
        load_processor(folder, True)


def test_nothing_is_switched_unasked(plain: Path, always: Path) -> None:
    stored = (plain / "chat_template.jinja").read_text("utf-8")
    assert load_processor(plain, None).chat_template == stored
    body = request_body(Request(USER, None, 1), None, GREEDY, read_vocabulary(plain))
    assert "chat_template_kwargs" not in body


def test_what_cannot_be_switched_so_is_refused(plain: Path, always: Path, hybrid: Path) -> None:
    with pytest.raises(InputError, match="no enable_thinking"):
        load_processor(plain, True)
    assert load_processor(plain, False)  # does not think, as was asked
    with pytest.raises(InputError, match="in any case"):
        load_processor(always, False)
    for folder in (always, hybrid):  # votes from inside a thought would be counted
        with pytest.raises(InputError, match=r"engine\.thinking=true"):
            read_vocabulary(folder)


@pytest.mark.parametrize("ends", [True, False])
def test_a_vote_is_what_follows_the_thought(hybrid: Path, ends: bool) -> None:
    vocabulary = read_vocabulary(hybrid, True)
    for text, vote in COMPLETIONS:
        found = completed(vocabulary, text, ends)
        assert found.thought + found.text == text
        assert parse_answer(found.text) == vote, text


@given(st.lists(st.sampled_from(["<think>", "</think>", "\\boxed{A}", " ", "<", "think>", "x"]), max_size=12))
def test_only_what_follows_the_last_end_is_read(parts: list[str]) -> None:
    text = "".join(parts)
    pieces = text.split("</think>")
    last = pieces[-1] if len(pieces) > 1 and "<think>" not in pieces[-1] else None
    assert after_thought(text) == ("" if last is None else f"</think>{last}")


def test_questions_considered_in_a_thought_are_not_asked(hybrid: Path) -> None:
    vocabulary = read_vocabulary(hybrid, True)
    considered, asked = QUESTION.replace("How many", "How few"), QUESTION
    for text, wanted in (
        (f"{considered}</think>{asked}", "How many?"),
        (considered, None),
        (f"</think>{asked}<think>", None),
    ):
        found = completed(vocabulary, text)
        question = read_question(found.text, found.finish_reason, "natural", vocabulary.breaks_prompt)
        assert (question and question.text.splitlines()[0]) == wanted


LIMITS = ("max_new_tokens", "max_completion_tokens", "max_model_len")


def limits(tree: Any, path: str = "") -> dict[str, int]:
    """Every limit of tokens in a preset's tree, by its place."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= limits(value, f"{path}{key}.")
        elif key in LIMITS and value is not None:
            found[path + key] = value
    return found


def test_thoughts_have_a_budget_of_their_own(tmp_path: Path) -> None:
    """A stage runs with every limit raised by it; the preset that is written down keeps the answers'."""
    written = load_preset("qwen3-vl-4b", changes={"engine.thinking": True, "engine.thought_tokens": 5000})
    artefacts.write_json(tmp_path / "run.json", {"preset": written.model_dump(mode="json")})
    ran = []

    def program(ctx: stage.StageContext) -> dict[str, Any]:
        ran.append(ctx.preset)
        return {}

    stage.run_stage(tmp_path, "00-images", {"images": program})
    before, during = (limits(one.model_dump(mode="json")) for one in (written, ran[0]))
    assert len(before) == 8 and during == {place: limit + 5000 for place, limit in before.items()}
    assert limits(ran[0].with_thoughts().model_dump(mode="json")) == during
    assert limits(load_preset("qwen3-vl-4b").with_thoughts().model_dump(mode="json")) == before
    with pytest.raises(InputError, match="thinking = true"):
        load_preset("qwen3-vl-4b", changes={"engine.thought_tokens": 5000})


def test_a_plan_counts_the_room_for_thoughts() -> None:
    short, long = (
        make(
            load_preset("smolvlm-256m", changes={"engine.thinking": True, "engine.thought_tokens": tokens}),
            1,
            choose_machine(1, None, 80.0),
        )
        for tokens in (0, 4000)
    )
    assert long.hours > short.hours
    assert max(one.total for one in long.phases) > max(one.total for one in short.phases)


def test_replies_that_end_inside_a_thought_are_counted_and_said() -> None:
    asked = [(bulk.Reply("", "length", 9), bulk.Reply("</think>B", "stop", 5)), (bulk.Reply("", "stop", 2),)]
    assert bulk.lost(asked, True) == {"unfinished_thoughts": 2}
    assert bulk.lost(asked, None) == {}  # a model that does not think may say nothing
    assert summary("label", {"valid": 2, "kept": 1, **bulk.lost(asked, True)}) == (
        "1 of 2 questions kept, 2 thoughts unfinished (engine.thought_tokens)"
    )


def test_a_training_says_which_share_of_its_completions_ends_inside_a_thought(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Progress(tmp_path / "progress.jsonl"), Phases(), 1)
    prompt = Prompt("q", USER, ImageRecord("i", Path("x"), "", 2, 2))
    for ends in ([("", "hm"), ("</think>\\boxed{A}", "hm")], [("\\boxed{A}", ""), ("", "")]):
        drawn = tuple(Completion(text, (1,), (0.0,), "length", thought) for text, thought in ends)
        recorder.record([Group(prompt, drawn)], Scores([[0.0, 1.0]], {"valid": 1.0}), [[-1.0, 1.0]], 0)
        state = TrainerState(global_step=1, max_steps=1)
        recorder.on_log(None, state, None, {"loss": 0.0, "reward": 0.5})
    first, second = artefacts.read_jsonl(tmp_path / "metrics.jsonl")
    assert first["unfinished_thoughts"] == 0.5 and first["valid"] == 1.0
    assert "unfinished_thoughts" not in second  # no model that thinks


def test_without_a_thought_everything_is_read_as_before(hybrid: Path) -> None:
    vocabulary = read_vocabulary(hybrid, False)
    for text in ("\\boxed{A}", "<think>\\boxed{A}", "x</think>\\boxed{B}"):
        found = completed(vocabulary, text)
        assert (found.text, found.thought) == (text, "")


def test_an_engine_reads_no_unfinished_thought(hybrid: Path) -> None:
    """Random weights end no thought within a few tokens; switched off, the same weights' words are read."""
    request = Request(solver_messages("natural", "How many?"), tiny_model.picture(0), 0)
    said = {}
    for way in (True, False):
        config = EngineConfig(batch_sequences=2, threads=1, thinking=way)
        (rollout,) = open_engine(config, hybrid).generate([request], GREEDY)
        said[way] = rollout.completions[0]
    assert said[True].text == "" and said[True].thought and len(said[True].token_ids) == 8
    assert said[False].text and not said[False].thought


@pytest.mark.parametrize(
    "change", [{"evaluation.prefill_words": 3}, {"solver.objective": "sft"}], ids=["prefill", "sft"]
)
def test_what_writes_into_an_answers_beginning_is_refused(change: dict[str, Any]) -> None:
    assert load_preset("smolvlm-256m", changes=change)
    with pytest.raises(InputError, match="thinking"):
        load_preset("smolvlm-256m", changes={**change, "engine.thinking": True})
