"""Rewards: tables worked by hand from the formulas, bounds and symmetries as properties."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzero.rewards import dual_track, pseudo_label, uncertainty

LETTERS = st.sampled_from("ABCD")
VOTES = st.lists(st.sampled_from(["A", "B", "C", "D", None]), min_size=1, max_size=30)


def ten(top):
    """Ten votes, `top` of them for A and the rest unreadable, so that A is the majority with c = top / 10."""
    return ["A"] * top + [None] * (10 - top)


@pytest.mark.parametrize(
    ("top", "agree", "disagree"),
    [
        (1, 0.1, 0.05),
        (2, 0.2, 0.10),
        (3, 0.3, 0.15),
        (4, 0.4, 0.20),
        (5, 0.5, 0.25),
        (6, 0.4, 0.30),
        (7, 0.3, 0.35),
        (8, 0.2, 0.40),
        (9, 0.1, 0.45),
        (10, 0.0, 0.50),
    ],
)
def test_ten_votes(top, agree, disagree):
    assert (
        dual_track(ten(top), "A") == agree
    )  # equal to the last bit: rewards equal on paper must not spread a group
    assert dual_track(ten(top), "B") == pytest.approx(disagree, abs=1e-15)
    assert uncertainty(ten(top)) == agree


@pytest.mark.parametrize(
    ("votes", "intuitive", "reward"),
    [
        (list("AABBBBBBBB"), "B", 0.2),
        (list("AABBBBBBBB"), "A", 0.4),
        (list("ABABABABAB"), "A", 0.5),  # a tie: A was seen first, so A is the reasoned answer
        (list("BABABABABA"), "A", 0.25),
        ([None] * 5 + list("CCCDD"), "C", 0.3),  # unreadable votes stay in the denominator
        ([None] * 10, "A", 0.0),
        ([], "A", 0.0),
        (list("AAAAAAAAAA"), None, -1.0),
        ([None] * 10, None, -1.0),  # an invalid question is invalid before it is unanswerable
        ([], None, -1.0),
        (list("AAA"), "B", 0.5),  # m is the number of votes, whatever it is
        (list("AAB"), "A", 1 / 3),
    ],
)
def test_dual_track_by_hand(votes, intuitive, reward):
    assert dual_track(votes, intuitive) == pytest.approx(reward, abs=1e-15)


@pytest.mark.parametrize(
    ("votes", "reward"),
    [([], 0.0), ([None, None], 0.0), (list("AB"), 0.5), (list("AAAB"), 0.25), (["A", None], 0.5)],
)
def test_uncertainty_by_hand(votes, reward):
    assert uncertainty(votes) == reward


@pytest.mark.parametrize(
    ("answer", "label", "reward"),
    [
        ("A", "A", 1.0),
        ("A", "B", 0.0),
        (None, "A", 0.0),
        ("A", None, 0.0),
        (None, None, 0.0),
    ],
)
def test_pseudo_label(answer, label, reward):
    assert pseudo_label(answer, label) == reward
    assert isinstance(pseudo_label(answer, label), float)


@given(VOTES, LETTERS)
def test_against_exact_fractions(votes, intuitive):
    best = max((votes.count(letter) for letter in "ABCD"), default=0)
    slow = next((vote for vote in votes if vote and votes.count(vote) == best), None)
    c = Fraction(best, len(votes))
    expected = Fraction(0) if slow is None else min(c, 1 - c) if slow == intuitive else c / 2
    assert dual_track(votes, intuitive) == pytest.approx(float(expected), abs=1e-15)
    assert 0.0 <= dual_track(votes, intuitive) <= 0.5
    assert dual_track(votes, None) == -1.0


@given(VOTES, LETTERS, st.randoms(use_true_random=False))
def test_order_matters_for_ties_alone(votes, intuitive, random):
    shuffled = list(votes)
    random.shuffle(shuffled)
    assert uncertainty(votes) == uncertainty(shuffled)
    tops = [votes.count(letter) for letter in "ABCD"]
    if tops.count(max(tops)) == 1:
        assert dual_track(votes, intuitive) == dual_track(shuffled, intuitive)


@given(VOTES, LETTERS, st.permutations("ABCD"))
def test_options_are_only_names(votes, intuitive, names):
    renamed = dict(zip("ABCD", names, strict=True))
    assert dual_track([renamed.get(vote) for vote in votes], renamed[intuitive]) == dual_track(
        votes, intuitive
    )


@given(VOTES)
def test_uncertainty_is_the_agreeing_branch(votes):
    agreeing = [dual_track(votes, letter) for letter in "ABCD"]
    assert uncertainty(votes) in agreeing
    assert 0.0 <= uncertainty(votes) <= 0.5
