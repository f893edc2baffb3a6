"""What a phrase is worth and when two are equal; how a kind of question reads its box, its thinking, its
sentence. Each value was worked by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from harness.scoring import LETTERS, Item, judge, read
from harness.scoring.files import read_answers, read_items
from harness.scoring.values import same, value
from vzero.errors import InputError
from vzero.prompts import parse_answer

COUNT = Item("c", "How many green coins remain?", (), (), ("30",), "integer")
LENGTH = Item("l", "How long is the rod?", (), (), ("2.5",), "float", 2)
FORMULA = Item("t", "?", (), (), ("$(x+1)^2$",), "text")
SQUARES = Item(
    "s", "Which tile fits the gap?", ("the second tile", "the third tile"), LETTERS[:2], ("A",), "choice"
)
FOUR = Item("f", "Which?", ("7", "8", "9", "10"), LETTERS[:4], ("B",), "choice")


@pytest.mark.parametrize(
    ("phrase", "number"),
    [
        ("30", 30),
        ("3,000", 3000),
        ("3\\,000", 3000),
        ("3{,}000.5", 3000.5),
        ("2.5e2", 250),
        ("2.5 \\times 10^{2}", 250),
        ("-\\frac{7}{2}", -3.5),
        ("\\frac72", 3.5),
        ("3\\frac{1}{2}", 3.5),
        ("7/2", 3.5),
        ("2\\sqrt{2}", 2 * math.sqrt(2)),
        ("\\frac{3\\pi}{4}", 3 * math.pi / 4),
        ("6-2\\pi", 6 - 2 * math.pi),
        ("x = 30", 30),
        ("$30 = n$", 30),
        ("20 + 10 = 30", 30),
        ("30\\text{ mm}^3", 30),
        ("30 square metres", 30),
        ("30 coins", 30),
        ("30^\\circ", 30),
        ("30\\%", 30),
        ("€30", 30),
        ("about 30", 30),
        ("thirty", 30),
    ],
)
def test_a_phrase_is_one_number(phrase: str, number: float) -> None:
    found = value(phrase)
    assert found is not None and float(found) == pytest.approx(number, rel=1e-9)


@pytest.mark.parametrize(
    "phrase",
    [
        "30n", "30m", "30 + y", "30:2", "\\pm 30", "\\{30, 31\\}", "(30, 31)", "30 or 31", "x > 30",
        "30 \\text{ or } 31", "thirty or so", "\\text{none}", "\\frac{1}{0}",
        "9^{9^{9}}", "30!", "2e", "\\infty", "",
    ],
)  # fmt: skip
def test_a_phrase_is_no_number(phrase: str) -> None:
    assert value(phrase) is None


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("x^2+2x+1", "$(x+1)^2$", True),
        ("y^2+x^2=49", "x^2 + y^2 = 49", True),
        ("(2, -1)", "(2,-1)", True),
        ("(2, -1)", "(-1, 2)", False),
        ("2:3", "2 : 3", True),
        ("2:3", "2", False),
        ("Even.", "even", True),
        ("\\frac{\\sqrt{7}-1}{2}", "\\frac{-1+\\sqrt{7}}{2}", True),
        ("30x", "30", False),
    ],
)
def test_two_phrases_are_equal(one: str, other: str, equal: bool) -> None:
    assert same(one, other) is equal


@pytest.mark.parametrize(
    ("item", "response", "found"),
    [
        (COUNT, "30 of the 45 coins are green.", ("30",)),
        (COUNT, "There are 45 coins, of which 15 are red, so 30 are green.", ("30",)),
        (COUNT, "Look for the greenest one.", ()),
        (COUNT, "\\boxed{30k}", ()),
        (COUNT, "\\boxed{30\\pi}", ()),
        (COUNT, "2n = 61, so n is not whole.\n\\boxed{\\text{impossible}}", ()),
        (COUNT, "The answer is 30n.", ()),
        (COUNT, "The answer is 30 or 45.", ()),
        (COUNT, "If the coin is green, the answer is 30.", ()),
        (LENGTH, "\\boxed{2\\frac12}", ("2.5",)),
        (LENGTH, "So the rod is 250% of a metre.", ("250%",)),
        (FORMULA, "\\boxed{x^2+2x+1}", ("x^2+2x+1",)),
        (SQUARES, "The second tile fits the gap, whereas the third tile is too wide.", ("A",)),
        (SQUARES, "The third tile is too wide. The second tile fits the gap.", ("A",)),
        (SQUARES, "The second tile fits the gap. The third tile does not.", ("A",)),
        (SQUARES, "If the gap is wide, the second tile fits the gap; if not, the third tile.", ()),
        (SQUARES, "Both the second tile and the third tile could be meant.", ()),
        (SQUARES, "Which tile fits the gap?", ()),
        (SQUARES, "I cannot see which tile fits the gap.", ()),
        (SQUARES, "The answer is B. Wait, the second tile fits the gap.", ("A",)),
        (SQUARES, "The answer is not A.", ()),
        (SQUARES, "<answer>Answer: B</answer>", ("B",)),
    ],
)
def test_the_stated_answer_alone_is_read(item: Item, response: str, found: tuple[str, ...]) -> None:
    assert read(item, response).found == found


@pytest.mark.parametrize(
    ("response", "finish_reason", "found"),
    [
        ("Perhaps A. \\boxed{A}</think> It is (B).", "stop", ("B",)),  # the opening tag stood in the prompt
        ("<think>\\boxed{A}", None, ()),
        ("<think>\\boxed{A} or", "length", ()),
        ("First \\boxed{A}, but", "length", ()),
        ("<think>A?</think>\\boxed{B}\nand so", "length", ("B",)),
        ("<think>I forgot to close. \\boxed{B}", "stop", ("B",)),
    ],
)
def test_thinking_is_no_answer(response: str, finish_reason: str | None, found: tuple[str, ...]) -> None:
    assert read(FOUR, response, finish_reason).found == found


@pytest.mark.parametrize(
    "inside", ["b", "(B)", "\\text{B}", "B) 8", "B. 8", "C) 9", "AB", "E", "", "A) 7, B) 8"]
)
def test_a_box_is_read_as_the_votes_read_it(inside: str) -> None:
    letter = parse_answer(f"\\boxed{{{inside}}}")
    assert read(FOUR, f"\\boxed{{{inside}}}").found == (() if letter is None else (letter,))


@pytest.mark.parametrize(
    ("response", "right"), [("2.5009", True), ("2.5011", False), ("2.499", True), ("\\frac{5}{2}", True)]
)
def test_a_difference_within_the_tolerance_is_right(response: str, right: bool) -> None:
    item = Item("d", "?", (), (), ("2.5",), "float", 3, tolerance=0.001)
    assert judge(item, read(item, f"\\boxed{{{response}}}")).verified is right


def test_several_golds_are_alternatives() -> None:
    item = Item("a", "?", (), (), ("1/3", "0.33"), "text")
    assert all(judge(item, read(item, text)).verified for text in ("\\boxed{\\frac{1}{3}}", "\\boxed{0.33}"))


def test_items_of_ones_own(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "kind": "choice", "options": ["pear", "plum"], "answer": "plum"},
        {"id": "2", "kind": "multi", "labels": ["A", "B", "C"], "answer": "A, C"},
        {"id": "3", "kind": "list", "answer": [2007, 2008]},
        {"id": "4", "kind": "float", "answer": 2.5, "precision": 1},
        {"id": "5", "kind": "choice", "options": ["pear", "plum"], "answer": "(C)"},
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("\ufeff" + "\n".join(map(json.dumps, rows)))
    items = read_items(path)
    assert [one.gold for one in items] == [("B",), ("A", "C"), ("[2007, 2008]",), ("2.5",), ()]
    replies = ["\\boxed{plum}", "A and C", "[2007, 2008]", "It is 2.46 m.", "C"]
    given = tmp_path / "answers.jsonl"
    given.write_text("\n".join(json.dumps({"id": n, "response": text}) for n, text in enumerate(replies, 1)))
    answers = read_answers(given, items)
    right = [judge(one, read(one, answers[one.id].response)).verified for one in items]
    assert right == [True, True, True, True, False]


@pytest.mark.parametrize("row", [{"id": 1, "kind": "choice"}, {"id": 1, "kind": "riddle"}, {"id": 1}])
def test_a_row_that_is_no_item_is_refused(tmp_path: Path, row: dict[str, object]) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(InputError, match=r"Line 1 of .* is no item"):
        read_items(path)
