"""Accuracies from stored answers, against numbers worked by hand and against enumeration."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evals import metrics


def answer(letter: str | None, finish: str = "stop") -> dict:
    return {"text": "", "answer": letter, "finish_reason": finish, "tokens": 3}


def row(
    gold: str, greedy: str | None, sampled: list[str | None], suite: str = "s", family: str = "f"
) -> dict:
    return {
        "suite": suite,
        "item_id": "1",
        "family": family,
        "gold": gold,
        "greedy": answer(greedy),
        "sampled": [answer(letter) for letter in sampled],
    }


def test_one_item_by_hand():
    one = row("B", "A", ["A", "B", "B", None, "C"])
    assert not metrics.greedy_correct(one)
    assert metrics.right_samples(one) == 2
    assert metrics.sampled_accuracy(one) == pytest.approx(0.4)
    assert metrics.majority_correct(one)
    # C(3, 2) / C(5, 2) = 3 / 10 of the pairs hold no right answer.
    assert metrics.pass_at(one, 2) == pytest.approx(0.7)
    assert metrics.pass_at(one, 1) == pytest.approx(0.4)
    assert metrics.pass_at(one, 4) == metrics.pass_at(one, 5) == 1.0


@pytest.mark.parametrize(
    ("sampled", "right"),
    [
        (["A", "B", "B", "A"], False),  # a tie goes to the answer seen first
        (["B", "A", "A", "B"], True),
        ([None, None, None, "B"], True),  # unparsed answers do not vote
        ([None, None], False),  # nothing parsed is wrong, not an abstention
    ],
)
def test_majority(sampled, right):
    assert metrics.majority_correct(row("B", None, sampled)) is right


@given(st.lists(st.sampled_from(["A", "B", None]), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(sampled, data):
    k = data.draw(st.integers(1, len(sampled)))
    subsets = list(combinations(sampled, k))
    expected = sum("A" in subset for subset in subsets) / len(subsets)
    assert metrics.pass_at(row("A", None, sampled), k) == pytest.approx(expected)


@given(st.lists(st.sampled_from(["A", "B", None]), min_size=2, max_size=10))
def test_pass_at_k_rises_from_the_mean_to_any(sampled):
    one = row("A", None, sampled)
    values = [metrics.pass_at(one, k) for k in range(1, len(sampled) + 1)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(metrics.sampled_accuracy(one))
    assert values[-1] == float("A" in sampled)


@pytest.mark.parametrize("k", [0, 3, -1])
def test_pass_at_k_needs_k_of_n(k):
    with pytest.raises(ValueError):
        metrics.pass_at(row("A", None, ["A", "B"]), k)


def rows_of_two_suites() -> list[dict]:
    return [
        row("A", "A", ["A", "A"], "math", "count"),
        row("A", "B", ["B", "A"], "math", "count"),
        row("A", None, [None, "B"], "math", "size"),
        row("A", "A", ["B", "A"], "logic", "count"),
    ]


def test_score_by_hand():
    scores = metrics.score(rows_of_two_suites(), expected=5)
    assert (scores.scored, scores.expected, scores.samples) == (4, 5, 2)
    assert scores.greedy == 0.5
    assert scores.sampled == pytest.approx((1 + 0.5 + 0 + 0.5) / 4)
    assert scores.majority == 0.25  # A A | B first | B | B first
    assert scores.headroom == -0.25
    assert scores.pass_at == {1: pytest.approx(0.5), 2: 0.75}
    assert (scores.unparsed_greedy, scores.unparsed_sampled) == (1, 1)


def test_cut_off_answers_are_counted_apart_from_unparsed_ones():
    rows = rows_of_two_suites()
    rows[0]["greedy"] = answer("A", "length")  # cut off after its box: cut off, yet parsed and right
    rows[1]["sampled"] = [answer(None, "length"), answer("A", "length")]
    scores = metrics.score(rows)
    assert (scores.truncated_greedy, scores.truncated_sampled) == (1, 2)
    assert (scores.unparsed_greedy, scores.unparsed_sampled) == (1, 2)
    assert scores.greedy == 0.5


def test_scores_by_suite():
    suites = metrics.by_suite(rows_of_two_suites(), {"math": 3, "logic": 9})
    assert [(name, scores.scored, scores.expected) for name, scores in suites.items()] == [
        ("math", 3, 3),
        ("logic", 1, 9),
    ]
    assert {name: scores.greedy for name, scores in suites.items()} == {
        "math": pytest.approx(1 / 3),
        "logic": 1,
    }


@pytest.mark.parametrize("rows", [[], [row("A", "A", [])], [row("A", "A", ["A"]), row("A", "A", ["A", "A"])]])
def test_rows_that_cannot_be_scored_together(rows):
    with pytest.raises(ValueError):
        metrics.score(rows)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ABCD"),
            st.sampled_from(["A", "B", None]),
            st.lists(st.sampled_from(["A", "B", None]), min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_shares_stay_in_bounds_and_in_order(drawn):
    scores = metrics.score([row(*one) for one in drawn])
    assert 0 <= scores.sampled <= scores.pass_at[2] <= scores.pass_at[3] <= 1
    assert scores.majority <= scores.pass_at[3]
    assert scores.greedy == pytest.approx(fmean(gold == greedy for gold, greedy, _ in drawn))
