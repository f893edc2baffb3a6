"""Both verdicts and the sums, against cases worked by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scoring.items import DIGITS, LETTERS, Extraction, Item
from harness.scoring.lenses import normalise, official, published, strict
from harness.scoring.total import by_group, judge, total

CHOICE = Item(
    "c",
    "?",
    ("yes", "no", "perhaps"),
    tuple("ABC"),
    ("B",),
    "choice",
    rule="nearest",
    group=(("skill", "x"), ("skill", "y")),
)
TWICE = Item(
    "w", "?", ("18", "9", "18"), tuple("ABC"), ("A", "C"), "choice", rule="nearest", group=(("skill", "x"),)
)
INTEGER = Item("i", "?", (), (), ("14",), "integer", rule="nearest")
FLOAT = Item("f", "?", (), (), ("1.2",), "float", 1, rule="nearest")
LIST = Item("l", "?", (), (), ("[1, 2]",), "list", rule="nearest")
TWO = Item("t", "?", (), LETTERS + DIGITS, ("A", "C"), "multi-choice")
NINE = Item("n", "?", (), LETTERS + DIGITS, ("I",), "multi-choice")
DIGIT = Item("d", "?", (), LETTERS + DIGITS, ("3",), "multi-choice")
NOGOLD = Item("g", "?", (), LETTERS, (), "multi-choice", group=(("skill", "x"),))


def labels(*names: str) -> Extraction:
    return Extraction(names, parsed=True, how="test")


def value(text: str) -> Extraction:
    return Extraction(value=text, parsed=True, how="test")


@pytest.mark.parametrize(
    ("item", "found", "by_official", "by_strict"),
    [
        (CHOICE, labels("B"), True, True),
        (CHOICE, labels("A"), False, False),
        (CHOICE, Extraction(), True, False),  # "" is nearest to the shortest option, "no": the gift
        (CHOICE, Extraction(text="yeah"), False, False),
        (CHOICE, Extraction(text="N/A"), False, False),  # 3 edits to "yes" as to "no": the first
        (INTEGER, value("14"), True, True),
        (INTEGER, value("14.0"), False, True),
        (INTEGER, value("14.6"), False, False),
        (INTEGER, Extraction(), False, False),
        (FLOAT, value("1.24"), True, True),
        (FLOAT, value("1.3"), False, False),
        (FLOAT, value("-1.2"), False, False),
        (LIST, value("[1, 2]"), True, True),
        (LIST, value("[1,2]"), False, True),
        (TWO, labels("A", "C"), True, True),
        (TWO, labels("A"), False, False),
        (TWO, labels("A", "C", "D"), False, False),
        (TWO, Extraction(), False, False),
        (NINE, labels("I"), True, True),
        (DIGIT, labels("3"), True, True),
        (NOGOLD, labels("A"), False, False),
        (NOGOLD, Extraction(), False, False),
    ],
)
def test_both_lenses(item: Item, found: Extraction, by_official: bool, by_strict: bool) -> None:
    assert (official(item, found), strict(item, found)) == (by_official, by_strict)


@pytest.mark.parametrize(
    ("item", "extraction", "prediction"),
    [
        (CHOICE, "B", "no"),
        (CHOICE, " B ", "no"),
        (CHOICE, "(c) whatever", "perhaps"),
        (CHOICE, "yes", "yes"),
        (CHOICE, "", "no"),
        (CHOICE, "Perhaps!", "perhaps"),
        (CHOICE, "E", "no"),
        (INTEGER, "14", "14"),
        (INTEGER, " 14\n", "14"),
        (INTEGER, "14.6", None),
        (INTEGER, "14 cm", None),
        (INTEGER, "", None),
        (FLOAT, "1.25", "1.2"),
        (FLOAT, "1", "1.0"),
        (FLOAT, "nan", "nan"),
        (FLOAT, "1e400", "inf"),
        (FLOAT, "x", None),
        (LIST, "[1, 2]", "[1, 2]"),
    ],
)
def test_published_normalisation(item: Item, extraction: str, prediction: str | None) -> None:
    assert normalise(item, extraction) == prediction


def test_equal_options_are_both_right() -> None:
    assert official(TWICE, labels("A")) and official(TWICE, labels("C"))
    assert published(TWICE, "18") and not published(TWICE, "9")
    assert not published(TWICE, None)


def test_strict_accepts_either_of_two_equal_options() -> None:
    assert strict(TWICE, labels("A")) and strict(TWICE, labels("C")) and not strict(TWICE, labels("B"))


@given(st.text(max_size=40), st.sampled_from([CHOICE, INTEGER, FLOAT, LIST]))
def test_any_extraction_gets_a_verdict(text: str, item: Item) -> None:
    assert published(item, text) in (True, False)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6, places=3))
def test_a_float_is_compared_after_rounding(number: Decimal) -> None:
    assert strict(FLOAT, value(str(number))) == (round(float(number), 1) == 1.2)


def test_totals_and_groups() -> None:
    verdicts = [
        judge(CHOICE, labels("B")),
        judge(CHOICE, Extraction()),
        judge(TWICE, labels("B")),
        judge(NOGOLD, labels("A")),
    ]
    found = total(verdicts)
    assert (found.n, found.without_gold) == (3, 1)
    assert (found.official, found.strict, found.parsed) == (2 / 3, 1 / 3, 2 / 3)
    assert (found.official_given_parsed, found.strict_given_parsed) == (1 / 2, 1 / 2)
    groups = by_group(verdicts)["skill"]
    assert {name: (one.n, one.without_gold, one.official) for name, one in groups.items()} == {
        "x": (3, 1, 2 / 3),
        "y": (2, 0, 1.0),
    }


def test_nothing_to_divide_by() -> None:
    found = total([judge(NOGOLD, Extraction())])
    assert (found.n, found.official, found.strict, found.parsed, found.strict_given_parsed) == (
        0,
        None,
        None,
        None,
        None,
    )
