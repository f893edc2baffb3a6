"""Ways in which models write their answers, each read by hand: chain of thought, markup, LaTeX, Chinese,
hesitation."""

# ruff: noqa: RUF001  (full-width punctuation is what these answers hold)
from __future__ import annotations

import pytest

from harness.scoring import LETTERS, Item, read

FIGURE = Item(
    "figure",
    "What choice (A, B, C, or D) should be in place of the question mark?",
    (),
    LETTERS,
    ("C",),
    "multi",
)
TRUTH = Item(
    "truth",
    "The watch shows noon. Select from A, B and C.",
    ("True", "False", "Insufficient Information"),
    LETTERS,
    ("B",),
    "multi",
)
PRICES = ("€25.00", "€25.20", "€12.68", "€12.90", "€12.86")
PRICE = Item("price", "The price rose by 40%. What was it a month ago?", PRICES, LETTERS, ("E",), "multi")
ANGLE = Item(
    "angle",
    "In the figure, what is x?",
    ("30°", "45°", "60°", "\\frac{\\sqrt{3}}{2}"),
    LETTERS[:4],
    ("C",),
    "choice",
)
CITIES = ("Paris, France", "London", "New York", "none of the above")
CITY = Item("city", "Which city is larger?", CITIES, LETTERS[:4], ("C",), "choice")
YEARS = Item(
    "years",
    "What is the age gap between the two people? (Unit: years)",
    (),
    (),
    ("7",),
    "integer",
)

WRITTEN = [
    (FIGURE, "The figure that comes next is option B, since the dot moves.", "B"),
    (FIGURE, "Based on the pattern, the correct answer is D. The square moves 2 steps.", "D"),
    (FIGURE, "It seems the square rotates. Therefore, the missing figure is **C**.", "C"),
    (FIGURE, "**Answer: C**", "C"),
    (FIGURE, "So B it is.", "B"),
    (FIGURE, "The odd one out is figure C.", "C"),
    (FIGURE, "Thus, (D).", "D"),
    (FIGURE, "The answer would be A, since the dot stays.", "A"),
    (FIGURE, "C is the correct answer.", "C"),
    (FIGURE, "Option C", "C"),
    (FIGURE, "Choice A completes the pattern. Choice B does not.", "A"),
    (FIGURE, "The correct choice should be C. Choices A, B and D do not follow the pattern.", "C"),
    (FIGURE, "Among the options A, B, C, and D, the one that fits is C.", "C"),
    (
        FIGURE,
        "Looking at A: no dot. Looking at B: two dots. "
        "Looking at C: one dot, correct. Looking at D: none.\n\nFinal Answer: C",
        "C",
    ),
    (FIGURE, "The final answer is $\\boxed{\\text{C}}$.", "C"),
    (FIGURE, "The final answer is: $\\boxed{C}$", "C"),
    (FIGURE, "I'm sorry, I can't assist with that.", ""),
    (
        FIGURE,
        "Without the image I can't determine the answer. However, if I had to guess, "
        "I would select option B.",
        "B",
    ),
    (FIGURE, "A", "A"),
    (FIGURE, " A ", "A"),
    (FIGURE, "(A)", "A"),
    (FIGURE, "A.", "A"),
    (FIGURE, "a)", "A"),
    (FIGURE, "Answer is option: A", "A"),
    (FIGURE, "The answer is a.", "A"),
    (FIGURE, "The answer is a triangle.", ""),
    (FIGURE, "The correct option is (a).", "A"),
    (TRUTH, "The statement is False, so the answer is (B).", "B"),
    (TRUTH, "False", "B"),
    (TRUTH, "(B)False", "B"),
    (TRUTH, "True.", "A"),
    (TRUTH, "The correct answer is (C) Insufficient Information.", "C"),
    (TRUTH, "Insufficient information", "C"),
    (TRUTH, "The statement is true because the watch shows it.", "A"),
    (PRICE, "The share price a month ago was €12.86, so the answer is (E).", "E"),
    (PRICE, "€12.86", "E"),
    (PRICE, "12.86 euros", "E"),
    (PRICE, "x = 18 / 1.4 = 12.86\n\nThe answer is E.", "E"),
    (ANGLE, "x = 60", "C"),
    (ANGLE, "x=60°", "C"),
    (ANGLE, "Therefore, x = 60 degrees, which corresponds to option C.", "C"),
    (ANGLE, "The value of x is $60^\\circ$.", "C"),
    (ANGLE, "\\boxed{60^{\\circ}}", "C"),
    (ANGLE, "\\boxed{\\frac{\\sqrt{3}}{2}}", "D"),
    (ANGLE, "sin x = √3/2, so the answer is D", "D"),
    (ANGLE, "Step 1: 180 - 120 = 60.\nStep 2: So x = 60°.\n\n**C. 60°**", "C"),
    (ANGLE, "Correct answer: C. 60°", "C"),
    (ANGLE, "The correct answer is option (C): 60°", "C"),
    (ANGLE, "The answer is $\\text{(C)}$", "C"),
    (ANGLE, "\\( \\boxed{C} \\)", "C"),
    (ANGLE, "Answer: \\boxed{C. 60°}", "C"),
    (ANGLE, "<answer>\\boxed{C}</answer>", "C"),
    (ANGLE, "# Solution\n...\n## Answer\n**C**", "C"),
    (ANGLE, "The answer is:\n\n$$\\boxed{\\textbf{C}}$$", "C"),
    (ANGLE, "答案：C", "C"),
    (ANGLE, "因此，答案是 C。", "C"),
    (ANGLE, "故选：C．", "C"),
    (ANGLE, "所以选C", "C"),
    (ANGLE, "正确答案是（C）60°", "C"),
    (ANGLE, "综上所述，x的度数是60°，选项C是正确的。", "C"),
    (CITY, "New York is the larger city.", "C"),
    (CITY, "The larger city is New York, not London.", "C"),
    (CITY, "London is smaller than New York. Hence the answer is New York.", "C"),
    (CITY, "none of the above", "D"),
    (CITY, "It's Paris.", "A"),
    (CITY, "The answer is Paris", "A"),
    (YEARS, "The age gap is 7 years.", "7"),
    (YEARS, "One is 45 and the other 38, so the gap is 45 - 38 = 7 years.", "7"),
    (YEARS, "$45-38=\\boxed{7}$", "7"),
    (YEARS, "\\boxed{7\\text{ years}}", "7"),
    (YEARS, "Approximately 7", "7"),
    (
        YEARS,
        "The person on the left was born in 1920 and the other in 1927. Therefore, the age gap is 7 years.",
        "7",
    ),
    (YEARS, "**7**", "7"),
    (YEARS, "Answer: 7", "7"),
    (YEARS, "The answer is seven.", "7"),
    (YEARS, "Final Answer: The final answer is $\\boxed{7}$", "7"),
    (YEARS, "I cannot identify people, so I cannot give an age gap.", ""),
    (YEARS, "7 years (1927 - 1920)", "7"),
    (YEARS, "The age gap is about 7 years, since one looks 50 and the other looks 43.", "7"),
]


@pytest.mark.parametrize(
    ("item", "response", "answer"),
    WRITTEN,
    ids=lambda value: value[:40] if isinstance(value, str) else value.id,
)
def test_it_is_read_as_a_person_reads_it(item: Item, response: str, answer: str) -> None:
    found = read(item, response)
    assert "".join(found.found) == answer, found


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    ["Answer: ", "(A) ", "\\boxed{", "<think>", "1/", "the answer is not (A). ", "A ", "\ud800\x00", "9"],
)
@pytest.mark.parametrize("item", [FIGURE, CITY, YEARS], ids=lambda item: item.id)
def test_long_hostile_text_ends(item: Item, piece: str) -> None:
    read(item, piece * (60_000 // len(piece)))
