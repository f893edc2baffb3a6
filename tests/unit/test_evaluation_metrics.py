"""Accuracies from stored answers, against numbers worked by hand and against enumeration."""

from __future__ import annotations

from itertools import combinations

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
    assert metrics.majority_correct(one)
    # C(3, 2) / C(5, 2) = 3 / 10 of the pairs hold no right answer.
    assert metrics.pass_at(2, 5, 2) == pytest.approx(0.7)
    assert metrics.pass_at(2, 5, 1) == pytest.approx(0.4)
    assert metrics.pass_at(2, 5, 4) == metrics.pass_at(2, 5, 5) == 1.0


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


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(sampled, data):
    k = data.draw(st.integers(1, len(sampled)))
    subsets = list(combinations(sampled, k))
    expected = sum(map(any, subsets)) / len(subsets)
    assert metrics.pass_at(sum(sampled), len(sampled), k) == pytest.approx(expected)


@given(st.integers(2, 10), st.data())
def test_pass_at_k_rises_from_the_mean_to_any(n, data):
    right = data.draw(st.integers(0, n))
    values = [metrics.pass_at(right, n, k) for k in range(1, n + 1)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(right / n)
    assert values[-1] == float(right > 0)


@pytest.mark.parametrize("k", [0, 3, -1])
def test_pass_at_k_needs_k_of_n(k):
    with pytest.raises(ValueError):
        metrics.pass_at(1, 2, k)
