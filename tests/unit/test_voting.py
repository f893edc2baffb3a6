"""Votes -> majority, confidence, keep: worked tables, and exact fractions as the oracle."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzero.voting import Tally, keep, tally

VOTES = st.lists(st.sampled_from(["A", "B", "C", "D", None]), max_size=30)


@pytest.mark.parametrize(
    ("votes", "answer", "confidence", "counts"),
    [
        (list("BBBBBBBAAA"), "B", 0.7, {"B": 7, "A": 3}),
        (list("AB"), "A", 0.5, {"A": 1, "B": 1}),
        (list("BA"), "B", 0.5, {"B": 1, "A": 1}),  # a tie goes to the answer seen first
        (list("CBBCA"), "C", 0.4, {"C": 2, "B": 2, "A": 1}),  # first seen, not first to reach two
        ([None, "D", None, None], "D", 0.25, {"D": 1}),  # unparsed votes count in n, never as an answer
        ([None] * 10, None, 0.0, {}),
        ([], None, 0.0, {}),
        (["A"], "A", 1.0, {"A": 1}),
    ],
)
def test_tally_by_hand(votes, answer, confidence, counts):
    assert tally(votes) == Tally(answer, confidence, counts, len(votes))
    assert list(tally(votes).counts) == list(counts)
    assert tally(tuple(votes)) == tally(votes)


def test_ten_votes_are_kept_from_three_to_eight():
    kept = [top for top in range(1, 11) if keep(tally(["A"] * top + [None] * (10 - top)))]
    assert kept == [3, 4, 5, 6, 7, 8]


@given(st.integers(1, 60), st.data())
def test_both_ends_are_kept_exactly(n, data):
    top = data.draw(st.integers(1, n))
    assert keep(tally(["C"] * top + [None] * (n - top))) == (
        Fraction(3, 10) <= Fraction(top, n) <= Fraction(8, 10)
    )


def test_thresholds_may_be_given_and_may_carry_rounding():
    three, eight = tally(["A"] * 3 + [None] * 7), tally(["A"] * 8 + [None] * 2)
    assert 0.1 + 0.2 != 0.3
    assert keep(three, low=0.1 + 0.2) and keep(eight, high=0.7 + 0.1)
    assert keep(tally(["A"]), high=1.0) and not keep(tally(["A"]), high=0.99)
    assert keep(tally(list("ABCD")), low=0.25) and not keep(tally(list("ABCD")), low=0.26)
    assert not keep(three, 0.4, 0.8)


@pytest.mark.parametrize("answer", [None, "", "E", "a", "AB", "None"])
def test_only_a_real_option_is_kept(answer):
    assert not keep(Tally(answer, 0.5, {}, 10))
    assert not keep(tally([answer] * 5 + [None] * 5))


def test_a_confidence_that_is_no_number_is_dropped():
    assert not keep(Tally("A", float("nan"), {"A": 1}, 1))


@given(VOTES)
def test_counts_are_exact(votes):
    counted = tally(votes)
    assert dict(counted.counts) == {letter: votes.count(letter) for letter in set(votes) - {None}}
    assert counted.n == len(votes)
    best = max(counted.counts.values(), default=0)
    assert counted.confidence == (float(Fraction(best, len(votes))) if votes else 0.0)
    assert counted.answer == next((vote for vote in votes if vote and votes.count(vote) == best), None)


@given(VOTES, st.randoms(use_true_random=False))
def test_order_matters_for_ties_alone(votes, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    one, other = tally(votes), tally(shuffled)
    assert one.confidence == other.confidence and one.counts == other.counts
    if list(one.counts.values()).count(max(one.counts.values(), default=0)) == 1:
        assert one.answer == other.answer
        assert keep(one) == keep(other)
