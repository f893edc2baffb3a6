"""Answers read out of responses, against answers a person reads; and any text at all, in time that grows with
its length alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scoring import DIGITS, LETTERS, Item, read

FRUITS = Item(
    "f",
    "Which fruit is on the table?",
    ("apple", "banana", "cherry", "a red apple"),
    tuple("ABCD"),
    ("B",),
    "choice",
)
NUMBERS = Item(
    "n",
    "Find $x$.",
    ("12", "1,200", "\\frac{3}{4}", "0.5 cm"),
    tuple("ABCD"),
    ("B",),
    "choice",
)
YES_NO = Item(
    "y",
    "Is the red bar higher than the blue bar?",
    ("Yes", "No"),
    tuple("AB"),
    ("A",),
    "choice",
)
FIGURES = Item("l", "Which figures belong to the green category?", (), LETTERS + DIGITS, ("A", "C"), "multi")
TELL = Item("t", "Which is heavier?", ("A", "B", "Impossible to tell"), LETTERS, ("C",), "multi")
INTEGER = Item("i", "How many of the 7 objects are left?", (), (), ("4",), "integer")
FLOAT = Item("d", "What is the length?", (), (), ("1.25",), "float", 2)
LIST = Item("s", "Between which two years was the peak?", (), (), ("[2007, 2008]",), "list")

LONG = (
    "Let me look. (A) might fit, since its edge is red. "
    "A closer look at option A shows a stem, so (A) is not right. "
    "What about C? C would need a stone. "
    "I first thought the answer is (C). However, on reflection it is yellow.\n" * 60
)

CHOSEN = [
    (FRUITS, "B"),
    (FRUITS, "b"),
    (FRUITS, "(B)"),
    (FRUITS, "B."),
    (FRUITS, "**B**"),
    (FRUITS, "B) banana"),
    (FRUITS, "(b) banana"),
    (FRUITS, "Banana."),
    (FRUITS, "banana"),
    (FRUITS, "\uff08\uff22\uff09"),
    (FRUITS, "\uff22"),
    (FRUITS, "\u24b7"),
    (FRUITS, "答案是B"),
    (FRUITS, "所以\uff0c答案为\uff1aB\u3002"),
    (FRUITS, "因此选项为(B) banana."),
    (FRUITS, "故选B"),
    (FRUITS, "选项B正确"),
    (FRUITS, "\\boxed{B}"),
    (FRUITS, "$\\boxed{\\text{B}}$"),
    (FRUITS, "\\boxed{\\textbf{(B)}\\ banana}"),
    (FRUITS, "\\boxed{banana}"),
    (FRUITS, "\\boxed{(B)}."),
    (FRUITS, "First \\boxed{A}. No wait, I was wrong. \\boxed{B}"),
    (FRUITS, "\\boxed{\\boxed{B}}"),
    (FRUITS, "<think>Surely (A). The answer is A.</think>\\boxed{B}"),
    (FRUITS, "<think>Surely (A).</think>\n\nThe answer is B."),
    (FRUITS, "Reasoning. The answer is A.\n</think>\n\n**Answer:** B"),
    (FRUITS, "<answer>B</answer>"),
    (FRUITS, "<answer> (B) banana </answer>"),
    (FRUITS, "<ANSWER>B</ANSWER>"),
    (FRUITS, "The answer is (B)."),
    (FRUITS, "The correct answer is: **(B) banana**."),
    (FRUITS, "The correct option is B because it is yellow."),
    (FRUITS, "The best choice for the question would be option B."),
    (FRUITS, "Answer: B"),
    (FRUITS, "Answer: b"),
    (FRUITS, "answer : b"),
    (FRUITS, "Final answer:\nB"),
    (FRUITS, "### Final Answer\n\n\\[\n\\boxed{B}\n\\]"),
    (FRUITS, "I would choose B."),
    (FRUITS, "I'd go with option (B), the banana."),
    (FRUITS, "It is yellow. Therefore, the fruit on the table is a banana."),
    (FRUITS, "The fruit on the table is the banana. An orange would be round."),
    (FRUITS, "Looking at the image, (A) is not right. Therefore \\boxed{B}"),
    (FRUITS, "Looking at the image, (A) is not right and (C) is wrong. Therefore (B)."),
    (FRUITS, "The answer is not (A). The answer is (B)."),
    (FRUITS, "Option (B) is correct. Option (C) is incorrect."),
    (FRUITS, "(A) is not correct, since it is yellow. (B) is correct."),
    (FRUITS, LONG + "Therefore, the correct answer is (B)."),
    (FRUITS, LONG + "\\boxed{B}"),
    (FRUITS, "B\n\nExplanation: A banana is long. A cherry is small."),
    (FRUITS, "The answer is (B) banana.\n\nQuestion: What is the capital of France?\nAnswer: (A) Paris"),
    (NUMBERS, "The value of x is 1200."),
    (NUMBERS, "x = 1,200"),
    (NUMBERS, "\\boxed{1200}"),
    (NUMBERS, "Hence the answer is $1{,}200$."),
    (YES_NO, "Yes."),
    (YES_NO, "Yes, the red bar is higher than the blue bar."),
    (YES_NO, "The red bar is higher than the blue bar."),
    (YES_NO, "The blue bar is lower than the red bar."),
    (FIGURES, "A and C"),
    (FIGURES, "A, C"),
    (FIGURES, "C, A"),
    (FIGURES, "(A), (C)"),
    (FIGURES, "The answer is A and C."),
    (FIGURES, "Answer: A & C"),
    (FIGURES, "\\boxed{A, C}"),
    (FIGURES, "\\boxed{A} and \\boxed{C}"),
    (FIGURES, "\\boxed{\\text{A and C}}"),
    (FIGURES, "Figures A and C belong to the green category."),
    (FIGURES, "<think>B?</think><answer>A, C</answer>"),
    (TELL, "It is impossible to determine which is heavier."),
    (TELL, "Answer: C"),
]


@pytest.mark.parametrize(
    ("item", "response"), CHOSEN, ids=lambda value: value[:40] if isinstance(value, str) else value.id
)
def test_the_chosen_labels_are_read(item: Item, response: str) -> None:
    found = read(item, response)
    assert set(found.found) == set(item.gold), found


@pytest.mark.parametrize(
    ("item", "response", "labels"),
    [
        (FRUITS, "\\boxed{\\frac{A}{2}} The answer is C", ("C",)),
        (FRUITS, "The object is a red apple.", ("D",)),
        (FRUITS, "A red apple", ("D",)),
        (NUMBERS, "\\boxed{\\frac{3}{4}}", ("C",)),
        (NUMBERS, "\\boxed{\\dfrac{3}{4}}", ("C",)),
        (NUMBERS, "The length is 0.5 cm.", ("D",)),
        (YES_NO, "No", ("B",)),
        (YES_NO, "The red bar is not higher than the blue bar.", ("B",)),
        (YES_NO, "The blue bar is higher than the red bar.", ("B",)),
        (FIGURES, "I", ("I",)),
        (FIGURES, "H", ("H",)),
        (FIGURES, "3", ("3",)),
        (FIGURES, "The correct answer is 3.", ("3",)),
        (FIGURES, "Answer: I", ("I",)),
        (FIGURES, "A-D", ("A", "B", "C", "D")),
    ],
)
def test_other_labels(item: Item, response: str, labels: tuple[str, ...]) -> None:
    assert read(item, response).found == labels


@pytest.mark.parametrize(
    ("item", "response"),
    [
        (FRUITS, ""),
        (FRUITS, " \n\t\u200b"),
        (FRUITS, "I cannot see the image, sorry."),
        (FRUITS, "As an AI, I am unable to view images. Please provide a description."),
        (FRUITS, "A dog and a cat are in the image."),
        (FRUITS, "a"[:0] + "There is a table in a room. I think I would need a better picture."),
        (FRUITS, "I do not know"),
        (FRUITS, "It could be (A), (B), (C) or (D)."),
        (FRUITS, "(A) apple (B) banana (C) cherry (D) a red apple"),
        (FRUITS, "<think>The answer is (B), I am sure. Or is it"),
        (FRUITS, "<think>Perhaps B</think>"),
        (FRUITS, "E"),
        (FRUITS, "The answer is A. \\boxed{C"),
        (FRUITS, "The answer is (G)."),
        (NUMBERS, "The result is 77."),
        (YES_NO, "There is no picture."),
        (FIGURES, "A cube can be made from the net."),
        (FIGURES, "I think a good picture would help."),
    ],
)
def test_no_answer_is_guessed(item: Item, response: str) -> None:
    found = read(item, response)
    assert found.found == (), found


@pytest.mark.parametrize(
    ("item", "response", "value"),
    [
        (INTEGER, "4", "4"),
        (INTEGER, "4.0", "4"),
        (INTEGER, "There are 4 objects left.", "4"),
        (INTEGER, "There are four objects left.", "4"),
        (INTEGER, "\\boxed{4}", "4"),
        (INTEGER, "Out of 7 objects, 3 are red. 7 - 3 = 4. Therefore, 4 objects are left.", "4"),
        (INTEGER, "7 - 3 = 4", "4"),
        (INTEGER, "<think>maybe 5</think>The answer is 4.", "4"),
        (INTEGER, "There are no objects left.", "0"),
        (INTEGER, "The total is 1,234,567.", "1234567"),
        (INTEGER, "The answer is -12.", "-12"),
        (INTEGER, "Answer: 4 cm", "4"),
        (INTEGER, "The answer is 25%.", "25"),
        (FLOAT, "1.25", "1.25"),
        (FLOAT, "The length is 1.25 m.", "1.25"),
        (FLOAT, "\\boxed{1.25 \\text{ m}}", "1.25"),
        (FLOAT, "\\boxed{\\frac{5}{4}}", "1.25"),
        (FLOAT, "The answer is 5/4.", "1.25"),
        (FLOAT, "\\boxed{2\\sqrt{3}}", "3.464101615138"),
        (FLOAT, "\\boxed{\\frac{\\sqrt{2}}{2}}", "0.707106781187"),
        (FLOAT, "The answer is $5\\pi$.", "15.707963267949"),
        (FLOAT, "x \\approx 1.25", "1.25"),
        (FLOAT, "It costs $1.25", "1.25"),
        (FLOAT, "The length is 1.25 \\times 10^{3} m", "1250"),
        (LIST, "The peak was between 2007 and 2008.", "[2007, 2008]"),
        (LIST, "[2007, 2008]", "[2007, 2008]"),
        (LIST, "\\boxed{[2007, 2008]}", "[2007, 2008]"),
    ],
)
def test_free_answers(item: Item, response: str, value: str) -> None:
    assert read(item, response).found == (value,)


@pytest.mark.parametrize(
    "response",
    [
        "",
        "I cannot tell how many of the 7 objects are left.",
        "Please provide the image.",
        "None of this helps",
    ],
)
def test_no_number_is_guessed(response: str) -> None:
    assert read(INTEGER, response).found == ()


ITEMS = (FRUITS, NUMBERS, YES_NO, FIGURES, TELL, INTEGER, FLOAT, LIST)
_WORDS = (
    "A|b|(C)|\\boxed{|}|{|<think>|</think>|<answer>|</answer>|\\frac{1}{0}|1,2|3/0|-|.|\n| |Answer:"
    "|the answer is |Question:|\ud800|\x00"
)
_MORE_WORDS = (
    "\u200b|答案是|not |than |no |9999999999999999999999999999999999999999999999"
    "|1e999|x10^99|<b>|&|$|\\(|\\|ß|İ"
)
PIECES = st.sampled_from([*_WORDS.split("|"), *_MORE_WORDS.split("|")])


@pytest.mark.slow
@given(st.one_of(st.text(), st.lists(PIECES, max_size=60).map("".join)), st.sampled_from(ITEMS))
def test_any_text_gives_an_extraction(response: str, item: Item) -> None:
    found = read(item, response)
    assert set(found.found) <= set(item.labels) if item.is_choice else len(found.found) <= 1


def test_questions_that_a_model_numbers_itself_are_not_this_one() -> None:
    text = (
        "1. Which fruit is on the table?\n\nThe answer is (B).\n\n"
        "2. Which fruit is the sweetest of all?\n\nThe answer is (C)."
    )
    assert read(FRUITS, text).found == ("B",)


@pytest.mark.slow
def test_an_answer_at_the_end_of_a_very_long_response_is_read() -> None:
    assert read(FRUITS, "Let me look again. " * 20_000 + "\nThe answer is (B).").found == ("B",)
    assert read(INTEGER, "Let me look again. " * 20_000 + "\nThe answer is 4.").found == ("4",)
