"""What is asked of the engine, what is kept of its answers, and when a kept answer may stand in."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from PIL import Image

from harness.evals.answers import Answerer, image_sha256, prompt_sha256, request_of, sampling_of
from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError
from vzero.rollout.protocol import Completion, Message, Request, Rollout

SAMPLING = SamplingConfig(n=2, temperature=1.0, max_new_tokens=8)
GIVEN = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "repetition_penalty": 1.1, "max_new_tokens": 8}


class CountingEngine:
    """Answers with the question's text, the seed and the completion's index."""

    def __init__(self, owed: int = 0) -> None:
        self.calls: list[int] = []
        self.owed = owed

    def generate(self, requests, sampling):
        self.calls.append(len(requests))
        return [
            Rollout(
                1,
                tuple(
                    Completion(
                        f"{one.messages[-1].text} {one.seed} {i} \ud800", (1, 2, 3), (0.0,) * 3, "length"
                    )
                    for i in range(sampling.n - self.owed)
                ),
            )
            for one in requests
        ]


def request(text: str = "how many ?", seed: int = 1, colour: int = 0) -> Request:
    return Request(
        (Message("system", "solve"), Message("user", text)), Image.new("RGB", (4, 4), (colour, 0, 0)), seed
    )


def answerer(engine, folder, **identity) -> tuple[Answerer, list]:
    reports: list = []
    return Answerer(
        engine, folder, identity or {"checkpoint": "1"}, 10, lambda *row: reports.append(row)
    ), reports


def test_answers_are_kept_and_not_drawn_again(tmp_path):
    engine = CountingEngine()
    first, reports = answerer(engine, tmp_path)
    drawn = first.draw([request(), request("which ?", 2)], SAMPLING)
    assert drawn[1][1] == {"text": "which ? 2 1 \ud800", "finish_reason": "length", "tokens": 3}
    again, reports_again = answerer(engine, tmp_path)
    assert again.draw([request(), request("which ?", 2)], SAMPLING) == drawn
    assert engine.calls == [2]
    assert [row[:2] for row in reports] == [row[:2] for row in reports_again] == [(4, 12)]
    assert reports[0][2] > 0 and reports_again[0][2] == 0.0


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "how many circles ?"},
        {"seed": 2},
        {"colour": 9},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_request_is_drawn(tmp_path, changed):
    engine = CountingEngine()
    answerer(engine, tmp_path)[0].draw([request()], SAMPLING)
    answerer(engine, tmp_path)[0].draw([request(**changed)], SAMPLING)
    assert engine.calls == [1, 1]


def test_another_checkpoint_or_sampling_is_drawn(tmp_path):
    engine = CountingEngine()
    answerer(engine, tmp_path)[0].draw([request()], SAMPLING)
    answerer(engine, tmp_path, checkpoint="2")[0].draw([request()], SAMPLING)
    for change in (
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"top_k": 3},
        {"repetition_penalty": 1.2},
        {"max_new_tokens": 9},
        {"n": 3},
    ):
        answerer(engine, tmp_path)[0].draw([request()], SAMPLING.model_copy(update=change))
    assert len(engine.calls) == 8


def test_a_torn_file_is_drawn_again(tmp_path):
    engine = CountingEngine()
    drawn = answerer(engine, tmp_path)[0].draw([request()], SAMPLING)
    (kept,) = tmp_path.iterdir()
    for torn in (kept.read_bytes()[:-9], b"\xff\xfe", b"[]", b"null"):
        kept.write_bytes(torn)
        assert answerer(engine, tmp_path)[0].draw([request()], SAMPLING) == drawn
    assert engine.calls == [1] * 5


def test_an_engine_that_owes_answers_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(RolloutError, match="nothing was scored"):
        answerer(CountingEngine(owed=1), tmp_path)[0].draw([request()], SAMPLING)
    assert not list(tmp_path.iterdir())


def test_a_chunk_fills_the_engine_and_holds_at_least_one_request(tmp_path):
    one, _ = answerer(CountingEngine(), tmp_path)
    assert one.chunk_size(SAMPLING) == 5
    assert one.chunk_size(SAMPLING.model_copy(update={"n": 3})) == 3
    assert replace(one, batch_sequences=1).chunk_size(SAMPLING) == 1


def test_every_sampling_parameter_arrives_and_until_does_not():
    assert sampling_of({**GIVEN, "until": ["\n\n"]}, 4).model_dump() == {**GIVEN, "n": 4}


@pytest.mark.parametrize(
    "given", [{**GIVEN, "min_p": 0.1}, {key: value for key, value in GIVEN.items() if key != "top_p"}]
)
def test_parameters_that_would_be_lost_or_defaulted_are_refused(given):
    with pytest.raises(VZeroError, match="sampling parameters"):
        sampling_of(given, 1)


def chat(*parts, role="user"):
    return {
        "role": role,
        "content": [
            {"type": "image", "url": part}
            if isinstance(part, Image.Image)
            else {"type": "text", "text": part}
            for part in parts
        ],
    }


def test_a_chat_becomes_one_request():
    image = Image.new("RGB", (2, 2))
    made = request_of([chat("solve", role="system"), chat(image, "how ", "many ?")], 7)
    assert made == Request((Message("system", "solve"), Message("user", "how many ?")), image, 7)


@pytest.mark.parametrize(
    "turns",
    [
        lambda image: [chat("how many ?", image)],
        lambda image: [chat(image, image, "how many ?")],
        lambda image: [chat(image, role="system"), chat("how many ?")],
        lambda image: [chat("first"), chat(image, "second")],
    ],
    ids=["after the text", "two", "not the user's", "second turn"],
)
def test_an_image_in_another_place_is_refused(turns):
    with pytest.raises(VZeroError, match="one image"):
        request_of(turns(Image.new("RGB", (2, 2))), 0)


def test_images_are_known_by_their_pixels():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    assert image_sha256(image) == hashlib.sha256(b"RGB 2x1\n" + bytes([1, 2, 3, 1, 2, 3])).hexdigest()
    assert image_sha256(image) != image_sha256(image.transpose(Image.Transpose.ROTATE_90))


def test_prompts_are_known_by_roles_and_texts():
    expected = hashlib.sha256(b'[["system","solve"],["user","how"]]').hexdigest()
    assert prompt_sha256((Message("system", "solve"), Message("user", "how"))) == expected
