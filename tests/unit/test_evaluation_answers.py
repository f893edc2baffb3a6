"""What is asked of the engine and what is taken of its answers. No lmms-eval."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from PIL import Image

from harness.evals.asking import Asking, cut, draw, sampling_of
from harness.evals.pictures import DEFAULT, one_picture
from harness.evals.store import image_sha256, prompt_sha256
from tests.stub_engine import StubEngine
from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError
from vzero.rollout.protocol import Completion, ContextOverflow, Message, Request, Rollout, overflow

SAMPLING = SamplingConfig(n=2, temperature=1.0, max_new_tokens=8)
GIVEN = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "repetition_penalty": 1.1, "max_new_tokens": 8}


class CountingEngine(StubEngine):
    """Answers with the question's text, the seed and the completion's index."""

    def __init__(self, owed: int = 0, lost: int = 0, too_long: int = -1) -> None:
        self.calls: list[int] = []
        self.owed, self.lost, self.too_long = owed, lost, too_long

    def generate(self, requests, sampling):
        self.calls.append(len(requests))
        return [
            overflow(9, 1, 8)
            if one.seed == self.too_long
            else Rollout(
                1,
                tuple(
                    Completion(
                        f"{one.messages[-1].text} {one.seed} {i} \ud800", (1, 2, 3), (0.0,) * 3, "length"
                    )
                    for i in range(sampling.n - self.owed)
                ),
            )
            for one in requests[self.lost :]
        ]


def request(text: str = "how many ?", seed: int = 1) -> Request:
    return Request((Message("system", "solve"), Message("user", text)), Image.new("RGB", (4, 4)), seed)


def drawn_by(engine, requests):
    drawn = {}
    draw(engine, requests, SAMPLING, drawn.__setitem__)
    return drawn


def test_answers_are_taken_whole_and_by_number():
    drawn = drawn_by(CountingEngine(), iter([request(), request("which ?", 2)]))
    assert drawn[1][1] == {"text": "which ? 2 1 \ud800", "finish_reason": "length", "tokens": 3}
    assert [len(drawn[i]) for i in range(2)] == [2, 2]
    assert drawn_by(CountingEngine(), []) == {}


def test_a_request_that_is_too_long_is_told_and_the_others_are_answered():
    drawn = {}
    requests = [request(seed=i) for i in range(3)]
    too_long = draw(CountingEngine(too_long=1), requests, SAMPLING, drawn.__setitem__)
    assert sorted(drawn) == [0, 2] and list(too_long) == [1]
    assert isinstance(too_long[1], ContextOverflow) and too_long[1].exit_code == 1


@pytest.mark.parametrize("engine", [CountingEngine(owed=1), CountingEngine(lost=1)])
def test_an_engine_that_owes_answers_is_an_error(engine):
    with pytest.raises(RolloutError, match="nothing was scored"):
        drawn_by(engine, [request()])


def asking(budget: int = 100, cap: bool = False) -> Asking:
    return Asking(DEFAULT, 0, budget, cap)


def test_every_sampling_parameter_arrives_and_until_does_not():
    assert sampling_of({**GIVEN, "until": ["\n\n"]}, 4).model_dump() == {**GIVEN, "n": 4}


@pytest.mark.parametrize(
    "given", [{**GIVEN, "min_p": 0.1}, {key: value for key, value in GIVEN.items() if key != "top_p"}]
)
def test_parameters_that_would_be_lost_or_defaulted_are_refused(given):
    with pytest.raises(VZeroError, match="sampling parameters"):
        sampling_of(given, 1)


def test_a_stock_task_keeps_its_budget_unless_it_is_bounded():
    assert asking().stock({"max_new_tokens": 500}).max_new_tokens == 500
    assert asking(cap=True).stock({"max_new_tokens": 500}).max_new_tokens == 100
    assert asking().stock({}).max_new_tokens == 100
    thinks = replace(asking(), thoughts=50)  # whose own budget has them already
    assert [thinks.stock(own).max_new_tokens for own in ({"max_new_tokens": 500}, {})] == [550, 100]
    assert replace(thinks, cap=True).stock({"max_new_tokens": 500}).max_new_tokens == 100
    assert asking().stock({"temperature": 0.5, "do_sample": False}).temperature == 0
    assert asking().stock({"temperature": 0.5, "top_p": None}).temperature == 0.5


def test_a_tasks_own_stop_strings_end_its_answers_and_the_injected_one_does_not():
    assert cut("a\n\nb", ["\n\n"]) == "a\n\nb"
    assert cut("a; b. c", [".", ";"]) == "a" and cut("a; b", ";") == "a" and cut("a", None) == "a"


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
    messages, picture = one_picture([chat("solve", role="system"), chat(image, "how ", "many ?")])
    assert messages == (Message("system", "solve"), Message("user", "how many ?")) and picture is image


@pytest.mark.parametrize(
    "turns",
    [
        lambda image: [chat(image, role="system"), chat("how many ?")],
        lambda image: [chat("first"), chat(image, "second")],
        lambda image: [chat("no picture")],
    ],
    ids=["not the user's", "second turn", "none"],
)
def test_an_image_in_another_place_is_refused(turns):
    with pytest.raises(VZeroError, match="An evaluation prompt"):
        one_picture(turns(Image.new("RGB", (2, 2))))


def test_images_are_known_by_their_pixels():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    assert image_sha256(image) == hashlib.sha256(b"RGB 2x1\n" + bytes([1, 2, 3, 1, 2, 3])).hexdigest()
    assert image_sha256(image) != image_sha256(image.transpose(Image.Transpose.ROTATE_90))


def test_prompts_are_known_by_roles_and_texts():
    expected = hashlib.sha256(b'[["system","solve"],["user","how"]]').hexdigest()
    assert prompt_sha256((Message("system", "solve"), Message("user", "how"))) == expected
