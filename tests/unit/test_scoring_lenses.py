"""Both verdicts and the sums, against cases worked by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scoring import DIGITS, LETTERS, Item, Reading, by_group, judge, totals
from harness.scoring.lenses import normalise, published

CHOICE = Item(
    "c",
    "?",
    ("yes", "no", "perhaps"),
    tuple("ABC"),
    ("B",),
    "choice",
    rule="mathvista",
    group=(("skill", "x"), ("skill", "y")),
)
TWICE = Item(
    "w", "?", ("18", "9", "18"), tuple("ABC"), ("A", "C"), "choice", rule="mathvista", group=(("skill", "x"),)
)
INTEGER = Item("i", "?", (), (), ("14",), "integer", rule="mathvista")
FLOAT = Item("f", "?", (), (), ("1.2",), "float", 1, rule="mathvista")
LIST = Item("l", "?", (), (), ("[1, 2]",), "list", rule="mathvista")
TWO = Item("t", "?", (), LETTERS + DIGITS, ("A", "C"), "multi")
NINE = Item("n", "?", (), LETTERS + DIGITS, ("I",), "multi")
DIGIT = Item("d", "?", (), LETTERS + DIGITS, ("3",), "multi")
NOGOLD = Item("g", "?", (), LETTERS, (), "multi", group=(("skill", "x"),))


def labels(*names: str) -> Reading:
    return Reading(names, "test")


def value(text: str) -> Reading:
    return Reading((text,), "test")


def verified(item: Item, found: Reading) -> bool:
    return judge(item, found).verified


@pytest.mark.parametrize(
    ("item", "found", "by_official", "by_verified"),
    [
        (CHOICE, labels("B"), True, True),
        (CHOICE, labels("A"), False, False),
        (CHOICE, Reading(), None, False),  # the published pipeline asks a model what it says
        (INTEGER, value("14"), True, True),
        (INTEGER, value("14.0"), False, True),
        (INTEGER, value("14.6"), False, False),
        (INTEGER, Reading(), None, False),
        (FLOAT, value("1.24"), True, True),
        (FLOAT, value("1.3"), False, False),
        (FLOAT, value("-1.2"), False, False),
        (LIST, value("[1, 2]"), True, True),
        (LIST, value("[1,2]"), False, True),
        (TWO, labels("A", "C"), None, True),
        (TWO, labels("A"), None, False),
        (TWO, labels("A", "C", "D"), None, False),
        (TWO, Reading(), None, False),
        (NINE, labels("I"), None, True),
        (DIGIT, labels("3"), None, True),
        (NOGOLD, labels("A"), None, False),
        (NOGOLD, Reading(), None, False),
    ],
)
def test_both_lenses(item: Item, found: Reading, by_official: bool | None, by_verified: bool) -> None:
    verdict = judge(item, found)
    assert (verdict.official, verdict.verified) == (by_official, by_verified)


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
    assert judge(TWICE, labels("A")).official and judge(TWICE, labels("C")).official
    assert published(TWICE, "18") and not published(TWICE, "9")
    assert not published(TWICE, None)


def test_verified_accepts_either_of_two_equal_options() -> None:
    assert verified(TWICE, labels("A")) and verified(TWICE, labels("C")) and not verified(TWICE, labels("B"))


@given(st.text(max_size=40), st.sampled_from([CHOICE, INTEGER, FLOAT, LIST]))
def test_any_extraction_gets_a_verdict(text: str, item: Item) -> None:
    assert published(item, text) in (True, False)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6, places=3))
def test_a_float_is_compared_after_rounding(number: Decimal) -> None:
    assert verified(FLOAT, value(str(number))) == (round(float(number), 1) == 1.2)


def test_totals_and_groups() -> None:
    verdicts = [
        judge(CHOICE, labels("B")),
        judge(CHOICE, Reading()),
        judge(TWICE, labels("B")),
        judge(NOGOLD, labels("A")),
    ]
    found = totals(verdicts)
    assert (found.n, found.without_gold) == (3, 1)
    assert (found.official, found.verified, found.parsed) == (None, 1 / 3, 2 / 3)
    assert (found.official_given_parsed, found.verified_given_parsed) == (1 / 2, 1 / 2)
    groups = by_group(verdicts)["skill"]
    assert {name: (one.n, one.without_gold, one.verified) for name, one in groups.items()} == {
        "x": (3, 1, 1 / 3),
        "y": (2, 0, 1 / 2),
    }


def test_nothing_to_divide_by() -> None:
    found = totals([judge(NOGOLD, Reading())])
    assert (found.n, found.official, found.verified, found.parsed, found.verified_given_parsed) == (
        0,
        None,
        None,
        None,
        None,
    )
