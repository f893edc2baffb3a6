"""The transformers engine against Hugging Face's own generate and against a plain forward over whole
sequences."""

from __future__ import annotations

import copy
import gc
import random
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import transformers

from tests import tiny_model
from vzero.config import SamplingConfig
from vzero.errors import RolloutError
from vzero.rollout import ContextOverflow, Message, Request, decoding, encoding, kv_cache, template
from vzero.rollout.sampling import adjust, keep_top_k, keep_top_p
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import architectures

pytestmark = pytest.mark.slow

WORDS = tiny_model.vocabulary()
SAMPLINGS = [
    SamplingConfig(n=3, temperature=1.0, max_new_tokens=10),
    SamplingConfig(n=2, temperature=0.7, top_k=20, top_p=0.9, repetition_penalty=1.3, max_new_tokens=10),
    SamplingConfig(n=1, temperature=0.0, max_new_tokens=10),
    SamplingConfig(n=1, temperature=0.0, repetition_penalty=1.5, max_new_tokens=10),
]


@pytest.fixture(scope="module")
def processor():
    return tiny_model.processor(WORDS)


@pytest.fixture(scope="module")
def model():
    made = tiny_model.model(WORDS, seed=1)
    with (
        torch.no_grad()
    ):  # turns should end now and then; the input embedding of <eos> is tied, and no prompt holds it
        made.lm_head.weight[WORDS.index("<eos>")] *= 1.6
    return made


def request(seed: int, words: int = 5, image: int | None = 0, size: tuple[int, int] = (42, 42)) -> Request:
    rng = random.Random(words * 1000 + (image or 0))
    text = " ".join(rng.choice(WORDS[10:]) for _ in range(words))
    return Request(
        (Message("system", "solve"), Message("user", text)),
        None if image is None else tiny_model.picture(image, size),
        seed,
    )


def several() -> list[Request]:
    """Different lengths, a shared image, a repeated prompt, another image size, no image, no text."""
    return [
        request(1, 5, 0),
        request(2, 9, 1),
        request(3, 2, 0),
        request(4, 5, 0),
        request(5, 7, 2, (42, 28)),
        request(6, 4, None),
        Request((Message("system", "ask"), Message("user", "")), tiny_model.picture(1), 7),
    ]


def inputs_of(processor, one: Request):
    """An independent rendering of a request by the processor's own chat template call."""
    content = [{"type": "image", "image": one.image}] if one.image else []
    content += [{"type": "text", "text": one.messages[1].text}] if one.messages[1].text else []
    return processor.apply_chat_template(
        [
            {"role": "system", "content": [{"type": "text", "text": one.messages[0].text}]},
            {"role": "user", "content": content},
        ],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )


@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_greedy_equals_hugging_face_generate(model, processor, penalty: float) -> None:
    engine = TransformersEngine(model, processor, 64)
    answers = engine.generate(
        several(), SamplingConfig(temperature=0.0, repetition_penalty=penalty, max_new_tokens=12)
    )
    lengths = set()
    for one, answer in zip(several(), answers, strict=True):
        inputs = inputs_of(processor, one)
        width = inputs["input_ids"].shape[1]
        expected = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=12,
            repetition_penalty=penalty,
            suppress_tokens=sorted(engine.forbidden),
        )[0, width:].tolist()
        assert answer.completions[0].token_ids == tuple(expected)
        assert answer.prompt_tokens == width
        lengths.add(len(expected))
    assert (
        len({answer.completions[0].token_ids for answer in answers}) == 6
    )  # images and words matter: only the repeated prompt agrees
    assert min(lengths) < max(lengths) == 12


@pytest.mark.parametrize("batch_sequences", [64, 7, 1])
@pytest.mark.parametrize("of_call", [0, 2])
def test_requests_with_a_sampling_of_their_own_are_drawn_together(
    model, processor, monkeypatch: pytest.MonkeyPatch, batch_sequences: int, of_call: int
) -> None:
    """Greedy and sampled, with a penalty and without, long and short: all as in calls of their own, though
    they join and leave the same rows. Where all are at hand each picture is encoded once."""
    samplings = [*SAMPLINGS, SamplingConfig(n=4, temperature=1.3, top_k=7, max_new_tokens=17)]
    asked = [(one, own) for one in several() for own in samplings]
    alone = {own: TransformersEngine(model, processor, 64).generate(several(), own) for own in samplings}
    expected = [rollout for rollouts in zip(*alone.values(), strict=True) for rollout in rollouts]
    call, encoded, real = samplings[of_call], list[int](), encoding._image_features
    monkeypatch.setattr(
        encoding, "_image_features", lambda *given: encoded.append(len(given[2])) or real(*given)
    )
    mixed = [replace(one, sampling=None if own is call else own) for one, own in asked]
    engine, told = TransformersEngine(model, processor, batch_sequences), dict[int, object]()
    for requests in (mixed, iter(mixed)):
        encoded.clear()
        engine.stream(requests, call, told.__setitem__)
        for i, answer in enumerate(expected):
            rollout = told.pop(i)
            assert [one.token_ids for one in rollout.completions] == [
                one.token_ids for one in answer.completions
            ]
            for one, other in zip(rollout.completions, answer.completions, strict=True):
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        if isinstance(requests, list):
            assert sum(encoded) == 3
    assert {len(one.completions) for one in expected} == {1, 2, 3, 4}


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_request_does_not_depend_on_its_neighbours(model, processor, sampling: SamplingConfig) -> None:
    requests = several()
    alone = [TransformersEngine(model, processor, 64).generate([one], sampling)[0] for one in requests]
    order = random.Random(0).sample(range(len(requests)), len(requests))
    for batch_sequences in (64, 7, 1):
        together = TransformersEngine(model, processor, batch_sequences).generate(
            [requests[i] for i in order], sampling
        )
        for i, rollout in zip(order, together, strict=True):
            assert [c.token_ids for c in rollout.completions] == [c.token_ids for c in alone[i].completions]
            assert [c.text for c in rollout.completions] == [c.text for c in alone[i].completions]
            for one, other in zip(rollout.completions, alone[i].completions, strict=True):
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_ten_completions_begin_with_those_of_fewer_and_differ_by_index_and_seed(model, processor) -> None:
    engine = TransformersEngine(model, processor, 64)
    sampling = SamplingConfig(n=10, temperature=1.0, max_new_tokens=8)
    ten = [c.token_ids for c in engine.generate([request(5)], sampling)[0].completions]
    three = [
        c.token_ids
        for c in engine.generate([request(5)], sampling.model_copy(update={"n": 3}))[0].completions
    ]
    other = [c.token_ids for c in engine.generate([request(6)], sampling)[0].completions]
    assert ten[:3] == three
    assert len(set(ten)) == 10
    assert not set(ten) & set(other)


@pytest.mark.parametrize("sampling", SAMPLINGS[:2])
@pytest.mark.parametrize("room", [64, 3])
def test_logprobs_are_those_of_the_distribution_drawn_from(
    model, processor, sampling: SamplingConfig, room: int, monkeypatch
) -> None:
    monkeypatch.setattr(kv_cache, "_SPARE_TOKENS", room)  # with 3, the cache grows anew while rows leave it
    engine = TransformersEngine(model, processor, 64)
    forbidden = torch.tensor([i in engine.forbidden for i in range(len(WORDS))])
    for one, rollout in zip(several(), engine.generate(several(), sampling), strict=True):
        inputs = inputs_of(processor, one)
        width = inputs["input_ids"].shape[1]
        for completion in rollout.completions:
            drawn = torch.tensor([completion.token_ids])
            whole = torch.cat([inputs["input_ids"], drawn], 1)
            types = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, drawn.shape[1]))
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
                assert logprob == pytest.approx(expected.item(), abs=1e-4)


def test_half_precision_rounds_shared_prompts_no_more_than_copied_ones(model, processor, monkeypatch) -> None:
    """Log-probabilities drawn with in bfloat16 beside those of the float32 model for the same tokens."""
    never = TransformersEngine(model, processor, 1).forbidden
    forbidden = torch.tensor([i in never for i in range(len(WORDS))])
    asked = [request(i) for i in range(10)]
    inputs = [inputs_of(processor, one) for one in asked]

    def gap() -> float:
        engine = TransformersEngine(copy.deepcopy(model).to(torch.bfloat16), processor, 64)
        drawn = engine.generate(asked, SamplingConfig(n=6, max_new_tokens=20))
        gaps = []
        for given, rollout in zip(inputs, drawn, strict=True):
            for one in rollout.completions:
                ids = torch.cat([given["input_ids"], torch.tensor([one.token_ids])], 1)
                types = torch.nn.functional.pad(given["mm_token_type_ids"], (0, len(one.token_ids)))
                picture = {name: given[name] for name in ("pixel_values", "image_grid_thw")}
                with torch.no_grad():
                    logits = model(input_ids=ids, mm_token_type_ids=types, **picture).logits[0]
                scores = logits.masked_fill(forbidden, -torch.inf).log_softmax(-1)[:-1]
                exact = scores.gather(-1, ids[0, 1:, None])[-len(one.token_ids) :, 0]
                gaps += (exact - torch.tensor(one.logprobs)).abs().tolist()
        return sum(gaps) / len(gaps)

    shared = gap()
    monkeypatch.setattr(architectures, "MODELS", frozenset())
    assert shared < 1.2 * gap()


def test_ends_are_told_apart_and_the_end_token_is_kept_out_of_the_text(model, processor) -> None:
    rollouts = TransformersEngine(model, processor, 64).generate(
        several(), SamplingConfig(n=8, max_new_tokens=10)
    )
    eos = WORDS.index("<eos>")
    completions = [c for rollout in rollouts for c in rollout.completions]
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    for c in completions:
        body = c.token_ids[:-1] if c.finish_reason == "stop" else c.token_ids
        assert (c.token_ids[-1] == eos) == (c.finish_reason == "stop")
        assert eos not in body
        assert c.finish_reason == "stop" or len(c.token_ids) == 10
        assert c.text.split() == [WORDS[i] for i in body]
        assert len(c.logprobs) == len(c.token_ids)


def test_structural_tokens_are_never_drawn(model, processor) -> None:
    engine = TransformersEngine(model, processor, 512)
    assert engine.forbidden == {WORDS.index(word) for word in tiny_model.SPECIAL if word != "<eos>"}
    hot = SamplingConfig(n=200, temperature=50.0, max_new_tokens=10)  # all but uniform
    drawn = {token for c in engine.generate([request(1)], hot)[0].completions for token in c.token_ids}
    assert not drawn & engine.forbidden
    assert len(drawn) > 0.9 * (len(WORDS) - len(engine.forbidden))


def test_every_end_token_of_the_generation_config_ends_a_turn(model, processor, monkeypatch) -> None:
    pad = WORDS.index("<pad>")  # as in Qwen: the padding token also ends a turn
    monkeypatch.setattr(model.generation_config, "eos_token_id", [WORDS.index("<eos>"), pad])
    engine = TransformersEngine(model, processor, 64)
    assert engine.eos == {WORDS.index("<eos>"), pad}
    assert pad not in engine.forbidden
    for sampling in (
        SamplingConfig(n=200, temperature=50.0, max_new_tokens=10),
        SamplingConfig(n=200, temperature=50.0, repetition_penalty=1.1, max_new_tokens=10),
    ):
        completions = engine.generate([request(1), request(2, 9)], sampling)[0].completions
        assert {c.token_ids[-1] for c in completions if c.finish_reason == "stop"} == engine.eos
        alone = engine.generate([request(1)], sampling)[0].completions
        assert [c.token_ids for c in completions] == [
            c.token_ids for c in alone
        ]  # padding beside a longer prompt is not "seen"


def test_images_are_encoded_once_and_prompts_computed_once(model, processor) -> None:
    pictures, prompts = [], []
    hooks = [
        model.model.visual.register_forward_pre_hook(
            lambda _, args, kwargs: pictures.append(len(kwargs["grid_thw"])), with_kwargs=True
        ),
        model.model.language_model.register_forward_pre_hook(
            lambda _, args, kwargs: prompts.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
        ),
    ]
    try:
        TransformersEngine(model, processor, 64).generate(several(), SamplingConfig(n=5, max_new_tokens=4))
    finally:
        for hook in hooks:
            hook.remove()
    assert sum(pictures) == 3  # pictures 0, 1 and 2; equal pixels in different objects are one
    assert [rows for rows, width in prompts if width > 1] == [6]  # request 4 repeats the prompt of request 1
    assert max(rows for rows, width in prompts if width == 1) == 35


def test_finished_rows_leave_the_batch(model, processor) -> None:
    rows = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(kwargs["inputs_embeds"].shape[0]), with_kwargs=True
    )
    try:
        rollout = TransformersEngine(model, processor, 64).generate(
            [request(1)], SamplingConfig(n=40, max_new_tokens=12)
        )[0]
    finally:
        hook.remove()
    alive = [sum(len(c.token_ids) > step for c in rollout.completions) for step in range(1, 12)]
    assert rows == [1, *(count for count in alive if count)]
    assert rows[-1] < 40


@pytest.mark.parametrize("room", [64, 2])
def test_free_slots_are_filled_while_others_decode(model, processor, room: int, monkeypatch) -> None:
    """Rows of other ages and prompt lengths side by side draw what they draw alone, in fewer steps than batch
    after batch would take. Memory that the cache is given holds NaN, as freed memory may."""
    monkeypatch.setattr(kv_cache, "_SPARE_TOKENS", room)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda one, *shape: one.new_full(shape, torch.nan))
    requests = [replace(one, seed=10 * i + j) for i in range(4) for j, one in enumerate(several())]
    sampling = SamplingConfig(n=3, repetition_penalty=1.2, top_p=0.9, max_new_tokens=60)
    expected = TransformersEngine(model, processor, 512).generate(requests, sampling)
    rows: list[tuple[int, int]] = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    try:
        found = TransformersEngine(model, processor, 12).generate(requests, sampling)
    finally:
        hook.remove()
    for one, other in zip(found, expected, strict=True):
        assert [c.token_ids for c in one.completions] == [c.token_ids for c in other.completions]
        for mine, theirs in zip(one.completions, other.completions, strict=True):
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    alive = [count for count, width in rows if width == 1]
    lengths = [len(c.token_ids) for rollout in found for c in rollout.completions]
    assert max(alive) <= 12 and sum(alive) == sum(lengths) - len(
        lengths
    )  # each token but a completion's last is fed once
    in_turn = sum(
        max(len(c.token_ids) for r in found[i : i + 4] for c in r.completions) - 1
        for i in range(0, len(found), 4)
    )
    assert len(alive) < 0.8 * in_turn  # four requests of three fill twelve slots


def test_a_model_that_cannot_share_prompts_draws_the_same(model, processor, monkeypatch) -> None:
    sampling = SamplingConfig(n=3, repetition_penalty=1.2, top_p=0.9, max_new_tokens=20)
    expected = TransformersEngine(model, processor, 512).generate(several(), sampling)
    monkeypatch.setattr(architectures, "MODELS", frozenset())
    text, names = model.config.get_text_config(), set()
    hook = model.model.language_model.register_forward_pre_hook(
        lambda *_: names.add(text._attn_implementation)
    )
    try:
        found = TransformersEngine(model, processor, 12).generate(several(), sampling)
    finally:
        hook.remove()
    assert names == {text._attn_implementation}  # some models look at the name
    for one, other in zip(found, expected, strict=True):
        assert [c.token_ids for c in one.completions] == [c.token_ids for c in other.completions]


def test_keys_are_gone_before_the_next_prompts_are_read(model, processor, monkeypatch) -> None:
    """Of rows that all end together; two caches at once would not fit where one does."""
    made: list[weakref.ref[object]] = []
    alive: list[int] = []
    start, prefill = kv_cache.SharedPrompts.__init__, decoding._read

    def begin(self, *given):
        made.append(weakref.ref(self))
        start(self, *given)

    monkeypatch.setattr(kv_cache.SharedPrompts, "__init__", begin)

    def read(*given):
        alive.append(sum(one() is not None for one in made))
        return prefill(*given)

    monkeypatch.setattr(decoding, "_read", read)
    requests = [request(seed) for seed in range(6)]
    TransformersEngine(model, processor, 8).generate(requests, SamplingConfig(n=4, max_new_tokens=1))
    assert alive == [0, 0, 0]


def test_one_model_is_not_asked_twice_at_once(model, processor) -> None:
    engine = TransformersEngine(model, processor, 8)

    def again(number: int, answer: object) -> None:
        engine.stream([request(2)], SamplingConfig(max_new_tokens=2), lambda number, answer: None)

    with pytest.raises(RolloutError, match="asked twice at once"):
        engine.stream([request(1)], SamplingConfig(max_new_tokens=2), again)


def test_the_model_attends_as_before_afterwards(model, processor) -> None:
    text = model.config.get_text_config()
    before = text._attn_implementation
    with pytest.raises(RolloutError, match="ZeroDivisionError"):
        TransformersEngine(model, processor, 8).stream(
            [request(1)], SamplingConfig(max_new_tokens=2), lambda i, answer: print(1 // 0)
        )
    assert text._attn_implementation == before


def test_a_stream_is_read_as_slots_get_free(model, processor) -> None:
    """Requests without end: the answers of one whole call, in fewer steps than calls of an engine-full each,
    and no request made before the slots and one engine-full ahead have room for it."""
    requests = [replace(one, seed=10 * i + j) for i in range(4) for j, one in enumerate(several())]
    sampling = SamplingConfig(n=3, top_p=0.9, max_new_tokens=60)
    expected = TransformersEngine(model, processor, 512).generate(requests, sampling)
    engine, together = TransformersEngine(model, processor, 12), 4
    read, told, ahead, steps = [], {}, [], []

    def source() -> Iterator[Request]:
        for one in requests:
            read.append(one)
            ahead.append(len(read) - len(told))
            yield one

    def counted(calls: Callable[[], object]) -> int:
        steps.clear()
        hook = model.model.language_model.register_forward_pre_hook(
            lambda _, args, kwargs: steps.append(kwargs["inputs_embeds"].shape[1] == 1), with_kwargs=True
        )
        try:
            calls()
        finally:
            hook.remove()
        return sum(steps)

    streamed = counted(lambda: engine.stream(source(), sampling, told.__setitem__))
    chunks = [requests[i : i + together] for i in range(0, len(requests), together)]
    chunked = counted(lambda: [engine.generate(chunk, sampling) for chunk in chunks])
    ids = [[c.token_ids for c in told[i].completions] for i in range(len(requests))]
    assert ids == [[c.token_ids for c in one.completions] for one in expected]
    assert list(told) != sorted(told) and max(ahead) <= 12 + together + 1
    assert streamed < 0.7 * chunked


@pytest.mark.parametrize("shared", [True, False])
def test_one_request_that_is_too_long_hinders_no_other(model, processor, shared: bool, monkeypatch) -> None:
    """Exactly the context fits, a token more does not; counted by the model's own inputs."""
    if not shared:
        monkeypatch.setattr(encoding, "SHARED_IMAGE_MODELS", frozenset())
    requests = [request(1), request(2, 150), request(3, 9, 1)]
    tokens = [inputs_of(processor, one)["input_ids"].shape[1] for one in requests]
    engine = TransformersEngine(model, processor, 8)
    for room in (256 - tokens[1], 257 - tokens[1]):
        told = {}
        sampling = SamplingConfig(n=2, max_new_tokens=room)
        engine.stream(iter(requests), sampling, told.__setitem__)
        assert [isinstance(told[i], ContextOverflow) for i in range(3)] == [
            False,
            tokens[1] + room > 256,
            False,
        ]
        alone = engine.generate(requests[:1], sampling)[0]
        assert [c.token_ids for c in told[0].completions] == [c.token_ids for c in alone.completions]
    assert f"A prompt of {tokens[1]} tokens and {room} new ones" in str(told[1])


def test_long_completions_outgrow_the_room_first_given(model, processor, monkeypatch) -> None:
    monkeypatch.setattr(model.generation_config, "eos_token_id", None)
    engine = TransformersEngine(model, processor, 64)
    engine.eos, engine._vocabulary = frozenset(), replace(engine._vocabulary, eos=frozenset())
    inputs = inputs_of(processor, request(1))
    expected = model.generate(
        **inputs, do_sample=False, max_new_tokens=150, suppress_tokens=sorted(engine.forbidden)
    )
    rollout = engine.generate([request(1)], SamplingConfig(temperature=0.0, max_new_tokens=150))[0]
    assert rollout.completions[0].token_ids == tuple(expected[0, inputs["input_ids"].shape[1] :].tolist())
    assert len(rollout.completions[0].token_ids) == 150


@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "qwen3_vl"])
def test_any_architecture_by_its_own_forward(model, processor, architecture: str, monkeypatch) -> None:
    if architecture == "qwen2_5_vl":
        monkeypatch.setattr(encoding, "SHARED_IMAGE_MODELS", frozenset())
    else:
        model = _qwen3_vl()
    engine = TransformersEngine(model, processor, 64)
    requests = several()
    for one, answer in zip(
        requests, engine.generate(requests, SamplingConfig(temperature=0.0, max_new_tokens=10)), strict=True
    ):
        inputs = inputs_of(processor, one)
        expected = model.generate(
            **inputs, do_sample=False, max_new_tokens=10, suppress_tokens=sorted(engine.forbidden)
        )
        assert answer.completions[0].token_ids == tuple(expected[0, inputs["input_ids"].shape[1] :].tolist())
    sampling = SamplingConfig(n=3, max_new_tokens=10)
    alone = [engine.generate([one], sampling)[0] for one in requests]
    for rollout, single in zip(engine.generate(requests, sampling), alone, strict=True):
        assert [c.token_ids for c in rollout.completions] == [c.token_ids for c in single.completions]


def _qwen3_vl():
    of = WORDS.index
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": 256,
            "initializer_range": 0.3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]},
            "eos_token_id": of("<eos>"),
            "pad_token_id": of("<pad>"),
            "bos_token_id": None,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "patch_size": 7,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0],
            "initializer_range": 0.3,
        },
        image_token_id=of("<img>"),
        video_token_id=of("<vid>"),
        vision_start_token_id=of("<vs>"),
        vision_end_token_id=of("<ve>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    made = transformers.Qwen3VLForConditionalGeneration(config).eval()
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = of("<eos>"), of("<pad>")
    return made


def test_a_model_in_training_is_left_as_it_was_and_still_trains(processor) -> None:
    model = tiny_model.model(WORDS)
    model.train()
    model.model.visual.eval()  # as with a frozen vision tower
    modes = [module.training for module in model.modules()]
    engine = TransformersEngine(model, processor, 64)
    sampling = SamplingConfig(temperature=0.0, max_new_tokens=6)
    before = engine.generate(several(), sampling)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    inputs = inputs_of(processor, request(1))
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert model.lm_head.weight.grad.abs().sum() > 0
    with torch.no_grad():  # the weights move between calls: nothing may be remembered, vision tower included
        for parameter in model.model.visual.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = engine.generate(several(), sampling)
    text_only = 5
    assert before[text_only] == after[text_only]
    assert sum(one != other for one, other in zip(before, after, strict=True)) >= 4


@pytest.mark.parametrize(("text", "image"), [("how <img> many", 0), ("<img>", None), ("<vid>", 0)])
def test_stray_vision_tokens_are_an_error(model, processor, text: str, image: int | None) -> None:
    bad = replace(request(2, image=image), messages=(Message("user", text),))
    with pytest.raises(RolloutError, match="request 1"):
        TransformersEngine(model, processor, 64).generate([request(1), bad], SamplingConfig(max_new_tokens=2))


def test_a_prompt_too_long_is_an_error(model, processor) -> None:
    engine = TransformersEngine(model, processor, 64)
    assert engine.generate([request(1, 200)], SamplingConfig(max_new_tokens=2))
    with pytest.raises(RolloutError, match="256"):
        engine.generate([request(1), request(1, 200)], SamplingConfig(max_new_tokens=60))


def test_an_image_without_a_user_turn_is_an_error(model, processor) -> None:
    with pytest.raises(RolloutError, match="user"):
        TransformersEngine(model, processor, 64).generate(
            [replace(request(1), messages=(Message("system", "ask"),))], SamplingConfig(max_new_tokens=2)
        )


def test_broken_weights_are_an_error_and_the_mode_is_restored(processor) -> None:
    model = tiny_model.model(WORDS)
    with torch.no_grad():
        model.lm_head.weight[20, 0] = torch.nan
    model.train()
    with pytest.raises(RolloutError, match="not finite"):
        TransformersEngine(model, processor, 64).generate([request(1)], SamplingConfig(max_new_tokens=2))
    assert model.training
    assert torch.is_grad_enabled()


def test_whatever_fails_is_a_rollout_error(model, processor, monkeypatch) -> None:
    monkeypatch.setattr(processor, "chat_template", "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(RolloutError, match="roles must alternate"):
        TransformersEngine(model, processor, 64).generate([request(1)], SamplingConfig(max_new_tokens=2))


def test_no_requests_no_rollouts(model, processor) -> None:
    assert TransformersEngine(model, processor, 64).generate([], SamplingConfig(max_new_tokens=2)) == []


def test_the_image_stands_before_the_text_of_the_first_user_turn(processor) -> None:
    messages = (
        Message("system", ""),
        Message("user", "ask"),
        Message("assistant", "red"),
        Message("user", "solve"),
    )
    assert template.conversation(messages, True) == [
        {"role": "system", "content": []},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "ask"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        {"role": "user", "content": [{"type": "text", "text": "solve"}]},
    ]


def test_a_stream_lets_go_of_pictures_that_were_answered(model, processor) -> None:
    """Bulk stages ask thousands of questions, each with a picture."""
    alive: set[int] = set()
    most = []

    def source() -> Iterator[Request]:
        for i in range(60):
            one = request(i, image=i % 7)
            alive.add(i)
            weakref.finalize(one.image, alive.discard, i)
            yield one
            del one
            gc.collect()
            most.append(len(alive))

    engine, sampling = TransformersEngine(model, processor, 4), SamplingConfig(n=2, max_new_tokens=4)
    gc.freeze()  # collecting looks at what is made from now on alone
    engine.stream(source(), sampling, lambda i, answer: None)
    assert len(most) == 60 and max(most) <= 12, "three blocks of two, and what is read ahead"
