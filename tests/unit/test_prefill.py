"""Prefilled answers: what is asked of an engine, and the probe that separates elicitation from learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evals.prefill import PrefilledAnswers, prefills
from harness.evals.prefill import prefill as first_words
from tests.stub_engine import StubEngine
from vzero.config import SamplingConfig
from vzero.errors import VZeroError
from vzero.pocket import suites
from vzero.presets import changed, load_preset
from vzero.prompts import solver_messages
from vzero.rollout import Request, encoding
from vzero.rollout.chat import request_body
from vzero.rollout.protocol import Completion, Rollout
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.rollout.vocabulary import read_vocabulary
from vzero.runtime import checkpoints
from vzero.runtime.seeding import derive
from vzero.selfplay import plan

GREEDY = SamplingConfig(n=1, temperature=0.0, max_new_tokens=40)


@pytest.fixture(scope="module")
def processor():
    return checkpoints.load_processor(checkpoints.POCKET)


@pytest.fixture(scope="module")
def engine(processor):
    return TransformersEngine(checkpoints.load_model(checkpoints.POCKET), processor, 64)


@pytest.fixture(scope="module")
def asked() -> list[Request]:
    chosen = suites.items("pocket_math", "test", 2)
    return [
        Request(solver_messages("pocket", one.question), one.image, seed) for seed, one in enumerate(chosen)
    ]


def test_a_prefill_is_the_first_words_and_never_the_answer() -> None:
    assert first_words("<think> row 6 1 so 7 A </think> \\boxed{ A }", 2, "natural") == "<think> row"
    assert first_words("  so \\boxed{ A }", 5, "natural") == "so"
    assert (
        first_words("\\boxed{A}", 3, "natural") == ""
        and first_words("a\\boxed{A}", 3, "natural") == "a"
        and first_words("", 2, "natural") == ""
    )


@pytest.mark.parametrize(
    "control", ["<|im_end|>", "<|image_pad|>", "<image>", "it<|im_start|>user", "\ud800"]
)
def test_a_prefill_ends_before_what_would_break_the_prompt(
    processor, asked: list[Request], control: str
) -> None:
    prefill = first_words(f"Look {control} now", 9, "natural")
    assert prefill == "Look"
    encoding.collect(processor, [replace(asked[0], prefill=prefill)])  # refuses stray image tokens


def test_a_prefill_ends_before_a_role_word_of_the_pocket_world() -> None:
    assert (
        first_words("look solve 1", 3, "pocket") == "look"
        and first_words("look solve 1", 3, "natural") == "look solve 1"
    )


@given(st.text(), st.integers(0, 9))
def test_a_prefill_is_a_beginning_without_a_box(text: str, words: int) -> None:
    found = first_words(text, words, "natural")
    first, given = found.split(), text.split()
    assert "\\boxed" not in found and first[:-1] == given[: len(first)][:-1]
    assert not first or given[len(first) - 1].startswith(first[-1])
    assert len(found.split()) <= words


@pytest.mark.slow
def test_an_answer_prefilled_as_it_began_goes_on_as_it_went_on(
    engine: TransformersEngine, asked: list[Request]
) -> None:
    whole = [rollout.completions[0] for rollout in engine.generate(asked, GREEDY)]
    words = [first_words(one.text, 3, "pocket") for one in whole]
    prefill = engine.generate(
        [replace(request, prefill=start) for request, start in zip(asked, words, strict=True)], GREEDY
    )
    assert [f"{start} {one.completions[0].text}" for start, one in zip(words, prefill, strict=True)] == [
        one.text for one in whole
    ]
    assert all(one.completions[0].token_ids == whole[i].token_ids[3:] for i, one in enumerate(prefill))


def test_another_prefill_is_gone_on_from(engine: TransformersEngine, asked: list[Request]) -> None:
    (hasty,) = engine.generate([replace(asked[0], prefill="<think> seems")], GREEDY)
    assert hasty.completions[0].text.split()[0] == "so"  # the pocket base's way of answering from intuition


def test_every_engine_reads_the_open_turn_as_the_template_writes_it(processor, asked: list[Request]) -> None:
    one = replace(asked[0], prefill="<think> row")
    text = encoding.collect(processor, [one, asked[0]]).prompts[0].text
    vocabulary = read_vocabulary(checkpoints.POCKET)
    body = request_body(one, "data:", GREEDY, vocabulary)
    assert body["continue_final_message"] and not body["add_generation_prompt"]
    assert body["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "<think> row"}]}
    turns = [
        {**turn, "content": [{"type": "image"} if "image_url" in part else part for part in turn["content"]]}
        for turn in body["messages"]
    ]
    assert text == processor.apply_chat_template(turns, tokenize=False, continue_final_message=True)
    plain = request_body(asked[0], "data:", GREEDY, vocabulary)
    assert plain["add_generation_prompt"] and not plain["continue_final_message"]


class Echo(StubEngine):
    """Answers with the seed of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[Request, SamplingConfig]] = []

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        self.seen += [(one, sampling) for one in requests]
        return [Rollout(7, (Completion(f"goes on {one.seed}", (1,), (), "stop"),)) for one in requests]


def test_each_answer_gets_its_own_prefill_and_comes_back_whole(asked: list[Request]) -> None:
    echo, three = Echo(), SamplingConfig(n=3, temperature=1.0, max_new_tokens=5)
    found = PrefilledAnswers(echo, {0: ("a", "", "b b"), 1: ("c", "c", "c")}).generate(asked[:2], three)
    assert [one.prefill for one, _ in echo.seen] == ["a", "", "b b", "c", "c", "c"]
    assert len({one.seed for one, _ in echo.seen}) == 6 and {sampling.n for _, sampling in echo.seen} == {1}
    assert [one.text for one in found[0].completions] == [
        f"a goes on {derive(0, 'begun', 0)}",
        f"goes on {derive(0, 'begun', 1)}",
        f"b b goes on {derive(0, 'begun', 2)}",
    ]


def test_a_question_the_trained_solver_was_not_asked_is_an_error(asked: list[Request]) -> None:
    with pytest.raises(VZeroError, match="0 prefills for 1 answers"):
        PrefilledAnswers(Echo(), {}).generate(asked[:1], GREEDY)


def test_prefills_are_found_by_the_seeds_that_the_evaluation_uses() -> None:
    row = {
        "suite": "s",
        "item_id": "i",
        "greedy": {"text": "x y z"},
        "sampled": [{"text": "p q r"}, {"text": "u"}],
    }
    found = prefills([row], 2, 5, "natural")
    assert found == {
        derive(5, "evaluate", "s", "i", "greedy"): ("x y",),
        derive(5, "evaluate", "s", "i", "sampled"): ("p q", "u"),
    }


def test_the_probe_is_a_last_stage_that_leaves_the_others_as_they_are() -> None:
    pocket = load_preset("pocket")
    without = changed(pocket, {"evaluation.prefill_words": 0})
    *before, probe = plan(pocket)
    assert tuple(before) == plan(without) and pocket.evaluation.prefill_words == 2
    assert (probe.kind, probe.inputs) == ("probe", {"model": "base", "prefills": before[-1].name})
    assert probe.config != plan(changed(pocket, {"evaluation.prefill_words": 3}))[-1].config
