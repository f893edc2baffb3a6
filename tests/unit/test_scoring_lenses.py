"""The verified verdict and the sums, against cases worked by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scoring import DIGITS, LETTERS, Item, Reading, by_group, judge, totals

CHOICE = Item(
    "c",
    "?",
    ("yes", "no", "perhaps"),
    tuple("ABC"),
    ("B",),
    "choice",
    group=(("skill", "x"), ("skill", "y")),
)
TWICE = Item("w", "?", ("18", "9", "18"), tuple("ABC"), ("A", "C"), "choice", group=(("skill", "x"),))
INTEGER = Item("i", "?", (), (), ("14",), "integer")
FLOAT = Item("f", "?", (), (), ("1.2",), "float", 1)
LIST = Item("l", "?", (), (), ("[1, 2]",), "list")
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
    ("item", "found", "right"),
    [
        (CHOICE, labels("B"), True),
        (CHOICE, labels("A"), False),
        (CHOICE, Reading(), False),
        (INTEGER, value("14"), True),
        (INTEGER, value("14.0"), True),
        (INTEGER, value("14.6"), False),
        (INTEGER, Reading(), False),
        (FLOAT, value("1.24"), True),
        (FLOAT, value("1.3"), False),
        (FLOAT, value("-1.2"), False),
        (LIST, value("[1, 2]"), True),
        (LIST, value("[1,2]"), True),
        (TWO, labels("A", "C"), True),
        (TWO, labels("A"), False),
        (TWO, labels("A", "C", "D"), False),
        (TWO, Reading(), False),
        (NINE, labels("I"), True),
        (DIGIT, labels("3"), True),
        (NOGOLD, labels("A"), False),
        (NOGOLD, Reading(), False),
    ],
)
def test_verdicts(item: Item, found: Reading, right: bool) -> None:
    verdict = judge(item, found)
    assert (verdict.official, verdict.verified) == (None, right)


def test_verified_accepts_either_of_two_equal_options() -> None:
    assert verified(TWICE, labels("A")) and verified(TWICE, labels("C")) and not verified(TWICE, labels("B"))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6, places=3))
def test_a_float_is_compared_after_rounding(number: Decimal) -> None:
    assert verified(FLOAT, value(str(number))) == (round(float(number), 1) == 1.2)


def test_totals_and_groups() -> None:
    verdicts = [
        replace(judge(CHOICE, labels("B")), official=False),
        replace(judge(CHOICE, Reading()), official=True),
        judge(TWICE, labels("B")),
        judge(NOGOLD, labels("A")),
    ]
    found = totals(verdicts)
    assert (found.n, found.without_gold) == (3, 1)
    assert (found.official, found.verified, found.parsed) == (
        1 / 2,
        1 / 3,
        2 / 3,
    )  # official: of those with a verdict
    assert (found.official_given_parsed, found.verified_given_parsed) == (0.0, 1 / 2)
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
