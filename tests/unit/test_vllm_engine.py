"""vLLM's engines, in process and served, against the transformers engine and a plain forward of Hugging
Face's model.

Skipped where vLLM is not installed (`make vllm` adds it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from tests import tiny_model
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import RolloutError
from vzero.rollout import ContextOverflow, Engine, Message, Request, Rollout
from vzero.rollout.engines import open_engine
from vzero.rollout.sampling import adjust, keep_top_k, keep_top_p
from vzero.runtime import checkpoints

pytestmark = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; `make vllm` adds it"
)
WORDS = tiny_model.vocabulary()
EOS = WORDS.index("<eos>")
FORBIDDEN = {WORDS.index(word) for word in tiny_model.SPECIAL} - {EOS}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose turns end now and then."""
    made = tiny_model.model(WORDS, seed=1)
    with torch.no_grad():
        made.lm_head.weight[EOS] *= 1.6
    folder = tmp_path_factory.mktemp("vllm") / "checkpoint"
    checkpoints.save(made, tiny_model.processor(WORDS), folder)
    return folder


def config(name: str, **changes: Any) -> EngineConfig:
    return EngineConfig(name=name, threads=1, batch_sequences=64, **changes)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Engine:
    return open_engine(config("transformers"), checkpoint)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    return open_engine(config("vllm"), checkpoint)


def request(
    seed: int, text: str = "how many red", image: int | None = 0, size: tuple[int, int] = (42, 42)
) -> Request:
    picture = None if image is None else tiny_model.picture(image, size)
    return Request((Message("system", "solve"), Message("user", text)), picture, seed)


def several() -> list[Request]:
    """Different lengths, a shared image, another image size, no image, no text."""
    return [
        request(1),
        request(2, "red circle square ? A) B) C) D)", 1),
        request(3, "?", 0),
        request(4, "blue how many", 2, (42, 28)),
        request(5, "solve", None),
        Request((Message("system", "ask"), Message("user", "")), tiny_model.picture(1), 6),
    ]


def test_greedy_tokens_and_prompt_lengths_are_those_of_the_transformers_engine(
    engine: Engine, reference: Engine
) -> None:
    for penalty in (1.0, 1.4):
        sampling = SamplingConfig(temperature=0.0, repetition_penalty=penalty, max_new_tokens=12)
        assert engine.generate(several(), sampling) == reference.generate(several(), sampling)
    assert len({one.completions[0].token_ids for one in engine.generate(several(), sampling)}) > 3


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(n=6, max_new_tokens=10),
        SamplingConfig(n=6, temperature=0.7, top_k=20, top_p=0.9, repetition_penalty=1.3, max_new_tokens=10),
    ],
)
def test_logprobs_are_those_of_the_distribution_drawn_from(
    engine: Engine, checkpoint: Path, sampling: SamplingConfig
) -> None:
    model, processor = checkpoints.load_model(checkpoint), checkpoints.load_processor(checkpoint)
    forbidden = torch.tensor([i in FORBIDDEN for i in range(len(WORDS))])
    gaps = []
    for one, rollout in zip(several(), engine.generate(several(), sampling), strict=True):
        picture = "<vs><img><ve> " if one.image else ""
        text = f"<sys> {one.messages[0].text} <user> {picture}{one.messages[1].text} <go>"
        inputs = processor(text=[text], images=[[one.image]] if one.image else None, return_tensors="pt")
        width = inputs["input_ids"].shape[1]
        assert rollout.prompt_tokens == width
        for completion in rollout.completions:
            whole = torch.cat([inputs["input_ids"], torch.tensor([completion.token_ids])], 1)
            types = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(completion.token_ids)))
            pictures = {key: inputs[key] for key in ("pixel_values", "image_grid_thw") if key in inputs}
            with torch.no_grad():
                logits = model(
                    input_ids=whole,
                    attention_mask=torch.ones_like(whole),
                    mm_token_type_ids=types,
                    **pictures,
                ).logits[0]
            for t, (token, logprob) in enumerate(zip(completion.token_ids, completion.logprobs, strict=True)):
                seen = torch.zeros(1, len(WORDS), dtype=torch.bool)
                seen[0, whole[0, : width + t]] = True
                scores = adjust(logits[None, width + t - 1], sampling, forbidden, seen) / sampling.temperature
                expected = torch.log_softmax(
                    keep_top_p(keep_top_k(scores, sampling.top_k), sampling.top_p), -1
                )[0, token]
                gaps.append(abs(logprob - expected.item()))
    assert len(gaps) > 100 and max(gaps) < 1e-3


def test_each_request_is_told_as_it_ends_while_others_go_on(engine: Engine) -> None:
    """What votes asked ahead rely on: the first answers are handed on before the last are drawn, and no other
    draws come of it."""
    sampling, told, left = SamplingConfig(n=3, max_new_tokens=24), {}, []

    def finished(i: int, rollout: Rollout) -> None:
        told[i] = rollout
        left.append(engine._llm.llm_engine.get_num_unfinished_requests())

    engine.stream(iter(several()), sampling, finished)
    rollouts = [told[i] for i in range(len(told))]
    assert rollouts == engine.generate(several(), sampling)
    assert left[0] > 0 == left[-1] and list(told) != sorted(told), "these draws end at different tokens"

    def fails(i: int, rollout: Rollout) -> None:
        raise ValueError("nobody listens")

    with pytest.raises(RolloutError, match="nobody listens"):
        engine.stream(several(), sampling, fails)
    assert (
        engine.generate(several()[:1], sampling) == rollouts[:1]
    )  # nothing of the failed call is left in the engine


def test_two_thousand_draws_follow_the_models_own_distribution(engine: Engine, checkpoint: Path) -> None:
    model, processor = checkpoints.load_model(checkpoint), checkpoints.load_processor(checkpoint)
    one = request(9)
    inputs = processor(
        text=["<sys> solve <user> <vs><img><ve> how many red <go>"], images=[[one.image]], return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1].double()
    logits[sorted(FORBIDDEN)] = -torch.inf
    probabilities = torch.softmax(logits, 0)
    drawn = torch.tensor(
        [
            c.token_ids[0]
            for c in engine.generate([one], SamplingConfig(n=2000, max_new_tokens=1))[0].completions
        ]
    )
    counts = torch.bincount(drawn, minlength=len(WORDS))
    often = probabilities * 2000 >= 5  # the rest is one class
    observed = [*counts[often].tolist(), counts[~often].sum().item()]
    expected = [*(probabilities[often] * 2000).tolist(), (probabilities[~often].sum() * 2000).item()]
    assert len(observed) > 5
    assert chisquare(observed, expected).pvalue > 1e-4


def test_draws_belong_to_the_seed_and_the_index_alone(engine: Engine) -> None:
    sampling = SamplingConfig(n=10, max_new_tokens=8)
    together = engine.generate(several(), sampling)
    for i, one in list(enumerate(several()))[::-1]:
        (alone,) = engine.generate([one], sampling)
        assert [c.token_ids for c in alone.completions] == [c.token_ids for c in together[i].completions]
    neighbours = [
        {c.token_ids for c in rollout.completions}
        for rollout in engine.generate([request(1), request(2)], sampling)
    ]
    assert (
        len(neighbours[0]) == 10 and not neighbours[0] & neighbours[1]
    )  # vLLM's own seeds of 1 and 2 would share nine of ten


def test_requests_with_a_sampling_of_their_own_are_drawn_together(engine: Engine) -> None:
    call, own = SamplingConfig(n=10, max_new_tokens=8), SamplingConfig(temperature=0.0, max_new_tokens=3)
    mixed = [replace(one, sampling=given) for one in several() for given in (own, None)]
    found = engine.generate(mixed, call)
    for sampling, rollouts in ((own, found[::2]), (call, found[1::2])):
        for one, other in zip(rollouts, engine.generate(several(), sampling), strict=True):
            assert [c.token_ids for c in one.completions] == [c.token_ids for c in other.completions]


def test_ends_are_told_apart_and_structural_tokens_are_never_drawn(engine: Engine) -> None:
    completions = [
        c
        for r in engine.generate(several(), SamplingConfig(n=30, temperature=2.0, max_new_tokens=10))
        for c in r.completions
    ]
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    for c in completions:
        body = c.token_ids[:-1] if c.finish_reason == "stop" else c.token_ids
        assert (c.token_ids[-1] == EOS) == (c.finish_reason == "stop") and EOS not in body
        assert c.text.split() == [WORDS[i] for i in body] and len(c.logprobs) == len(c.token_ids)
        assert FORBIDDEN.isdisjoint(c.token_ids)


def test_more_prompts_than_one_step_reads(engine: Engine) -> None:
    requests = [
        request(i, "red " * 30, i % 3) for i in range(300)
    ]  # 13,000 tokens: vLLM on the CPU cannot read a prompt in pieces
    assert len(engine.generate(requests, SamplingConfig(max_new_tokens=2))) == 300


def test_what_cannot_be_answered_is_a_rollout_error(engine: Engine) -> None:
    assert engine.generate([], SamplingConfig(max_new_tokens=2)) == []
    with pytest.raises(RolloutError, match="control tokens"):
        engine.generate([request(1), request(2, "how <img>")], SamplingConfig(max_new_tokens=2))
    with pytest.raises(ContextOverflow, match="max_model_len"):
        engine.generate([request(1)], SamplingConfig(max_new_tokens=250))


@pytest.fixture(scope="module")
def served(checkpoint: Path) -> Iterator[Engine]:
    yield open_engine(config("server", servers=2), checkpoint)


def test_two_real_servers_answer_as_the_engine_in_process(served: Engine, engine: Engine) -> None:
    def plain(rollouts: list[Rollout]) -> list[tuple[int, list[tuple[tuple[int, ...], str, str]]]]:
        return [
            (r.prompt_tokens, [(c.token_ids, c.text, c.finish_reason) for c in r.completions])
            for r in rollouts
        ]

    requests = [
        *several(),
        *(request(20 + i, image=i) for i in range(8)),
    ]  # eight pictures: both servers are asked
    for sampling in (
        SamplingConfig(n=10, temperature=0.8, top_k=40, top_p=0.9, repetition_penalty=1.1, max_new_tokens=10),
        SamplingConfig(temperature=0.0, max_new_tokens=10),
    ):
        assert plain(served.generate(requests, sampling)) == plain(engine.generate(requests, sampling))
    with pytest.raises(ContextOverflow):
        served.generate([request(1, "red " * 300)], SamplingConfig(max_new_tokens=2))


@pytest.mark.parametrize("which", ["engine", "served"])
def test_one_request_that_is_too_long_hinders_no_other(which: str, request: pytest.FixtureRequest) -> None:
    """By the text alone, by the text with its picture, and by the answer alone."""
    asked, sampling, told = several(), SamplingConfig(n=2, max_new_tokens=8), {}
    long = ["red " * 300, "red " * 244, "red " * 236]
    for place, text in zip((1, 3, 4), long, strict=True):
        asked.insert(place, replace(asked[0], messages=(*asked[0].messages[:-1], Message("user", text))))
    engine = request.getfixturevalue(which)
    engine.stream(iter(asked), sampling, told.__setitem__)
    assert [i for i in range(len(asked)) if isinstance(told[i], ContextOverflow)] == [1, 3, 4]
    assert [told[0], told[2]] == engine.generate(several()[:2], sampling)
