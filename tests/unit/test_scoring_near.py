"""Answers that nearly say what is right: other numbers in the same digits, other words in the same letters,
other units, and answers that somebody else gives."""

from __future__ import annotations

import pytest

from harness.scoring import LETTERS, Item, judge, read


def free(kind: str, gold: str, unit: str | None = None, question: str = "What is it?") -> Item:
    return Item("f", question, (), (), (gold,), kind, 2 if kind == "float" else None, unit)


def choice(kind: str, *gold: str) -> Item:
    return Item("c", "Which one is it?", ("30", "40", "1/2", "big"), LETTERS[:4], gold, kind)


COUNT, MINUS, HALF, LONG = (
    free("integer", "30"),
    free("integer", "-4"),
    free("float", "0.5"),
    free("text", "tab"),
)
METRES, PERCENT = free("float", "2.5", "m"), free("float", "0.5", question="By how many percent?")
SECOND, BOTH = choice("choice", "B"), choice("multi", "A", "C")

WRONG = [
    *[(COUNT, f"\\boxed{{{one}}}") for one in ("30_8", "30 40", "30x", "30:1", "30^2", "\\pm 30")],
    *[(COUNT, f"\\boxed{{{one}}}") for one in ("[30, 40]", "\\{30\\}", "30 \\text{ thousand}", "30e2")],
    *[(COUNT, f"The answer is {one}.") for one in ("at least 30", "more than 30", "40, not 30")],
    *[(COUNT, f"The answer is {one}.") for one in ("30 or 40", "30 squared", "30 over 7")],
    (COUNT, "Some people would say that the answer is 30."),
    (COUNT, "It is not the case that the answer is 30."),
    (COUNT, "I wonder whether the answer is 30."),
    (COUNT, "If the box is full, the answer is 30."),
    (free("integer", "2309415687"), "\\boxed{2309415689}"),
    (free("float", "5"), ".5"),
    (MINUS, "4"),
    (MINUS, "\\boxed{|-4|}"),
    (HALF, "\\boxed{50}"),
    (HALF, "\\boxed{0.5\\%}"),
    (METRES, "\\boxed{2.5\\text{ cm}}"),
    (METRES, "It is 2.5 km long."),
    (METRES, "\\boxed{2.5\\text{ min}}"),
    (LONG, "bat"),
    (LONG, "\\boxed{\\text{bat}}"),
    (free("text", "3x^2"), "\\boxed{3x}"),
    (free("text", "[1,2)"), "\\boxed{[1,2]}"),
    (free("text", "\\sin x"), "\\cos x"),
    *[(SECOND, one) for one in ("B is wrong", "B? Not sure", "It cannot be B.")],
    *[(SECOND, one) for one in ("Not B", "\\boxed{40x}", "It is a mistake to think the answer is B.")],
    (free("list", "[1, 2]"), "The answer is not [1, 2]."),
    (free("list", "[1, 2]"), "I cannot determine whether it is [1, 2]."),
    (SECOND, "The answer is (A), whereas (B) is too large."),
    *[(BOTH, one) for one in ("A or C", "A and C are wrong", "A, but not C")],
]  # fmt: skip
RIGHT = [
    (COUNT, "\\boxed{30.0}"),
    (free("integer", "2309415687"), "2,309,415,687"),
    (free("integer", "1200"), "1 200"),
    (HALF, "\\boxed{.5}"),
    (HALF, "\\boxed{50\\%}"),
    (PERCENT, "\\boxed{0.5\\%}"),
    (MINUS, "minus 4"),
    (MINUS, "The answer is negative 4."),
    (METRES, "\\boxed{250\\text{ cm}}"),
    (METRES, "\\boxed{2.5\\text{ metres}}"),
    (free("float", "0.5"), "\\boxed{\\sin 30^\\circ}"),
    (free("float", "1.0"), "\\boxed{2\\cos 60°}"),
    (free("text", "y = 3sin(x) + 1"), "\\boxed{y=1+3\\sin x}"),
    (free("text", "The graph is rising on (0,3)"), "The answer is: the graph is rising on $(0, 3)$."),
    (free("text", "top: 3 and left: 4"), "top: 3 and left: 4"),
    (SECOND, "40"),
    (SECOND, "B. 40"),
    (BOTH, "AC"),
    (BOTH, "\\boxed{AC}"),
    (
        free("integer", "7", question="If x = 3 and y = 4, what is x + y?"),
        "If x = 3 and y = 4, the answer is 7.",
    ),
]


@pytest.mark.parametrize(("item", "response"), WRONG)
def test_a_near_answer_gets_no_credit(item: Item, response: str) -> None:
    assert not judge(item, read(item, response)).verified, read(item, response)


@pytest.mark.parametrize(("item", "response"), RIGHT)
def test_another_way_of_writing_is_right(item: Item, response: str) -> None:
    assert judge(item, read(item, response)).verified, read(item, response)
