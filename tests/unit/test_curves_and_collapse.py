"""Accuracy by number of samples against enumeration, changed answers by hand, and every rule of the collapse
alarm."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis import alarms, curves
from harness.analysis.items import Outcome
from harness.analysis.measures import Flips, GroundTruth, Rate
from harness.evals.metrics import majority_correct


def row(answers: str, gold: str = "A", item: str = "i") -> dict[str, Any]:
    return {
        "item_id": item,
        "gold": gold,
        "sampled": [{"answer": None if one == "-" else one} for one in answers],
        "greedy": {"answer": answers[0]},
    }


def test_majority_at_k_by_hand() -> None:
    # windows of three of A B A B (cyclic): ABA -> A, BAB -> B, ABA -> A, BAB -> B
    found = curves.majority_at([row("ABAB"), row("----")])
    assert found[0, 2] == 0.5
    assert found[0, 0] == 0.5
    assert found[0, 3] == 1.0 == majority_correct(row("ABAB")), "ties go to the answer seen first"
    assert found[1, 1] == 0


def share_of_windows(one: dict[str, Any], k: int) -> float:
    """maj@k by its words: of every window, count what each answer has, and look the chosen one up."""
    answers, won = one["sampled"], []
    for start in range(len(answers) if k < len(answers) else 1):
        window = [answers[(start + i) % len(answers)] for i in range(k)]
        read = [each["answer"] for each in window if each["answer"] is not None]
        chosen = max(dict.fromkeys(read), key=read.count, default=None)
        first = next((each for each in window if each["answer"] == chosen), None)
        won.append(bool(read) and bool(first.get("verified", chosen == one["gold"])))
    return sum(won) / len(won)


@given(st.integers(1, 8), st.booleans(), st.data())
def test_majority_at_k_is_the_share_of_windows(n: int, verified: bool, data: st.DataObject) -> None:
    answers = st.sampled_from(["A", "B", "7.5", None])
    sampled = st.lists(st.tuples(answers, st.booleans()), min_size=n, max_size=n)
    rows = [
        {
            "gold": "A",
            "greedy": {"answer": "A"},
            # Verdicts on what is read alike may differ: the one seen first counts.
            "sampled": [{"answer": name, **({"verified": right} if verified else {})} for name, right in of],
        }
        for of in data.draw(st.lists(sampled, min_size=1, max_size=3))
    ]
    assert curves.majority_at(rows).tolist() == [
        [share_of_windows(one, k) for k in range(1, n + 1)] for one in rows
    ]


@pytest.mark.slow
def test_majority_at_three_is_unbiased() -> None:
    rng = np.random.default_rng(4)
    rows = [row("".join(rng.choice(list("AB"), 9, p=[0.7, 0.3]))) for _ in range(4000)]
    expected = 0.7**3 + 3 * 0.7**2 * 0.3
    assert np.mean(curves.majority_at(rows)[:, 2]) == pytest.approx(expected, abs=0.01)


def test_passed_is_the_share_of_subsets_with_a_right_answer() -> None:
    found = curves.by_k({"s": [row("ABBA")], "t": [row("BBBB")]}, 4)
    expected = [
        np.mean([0 in chosen or 3 in chosen for chosen in combinations(range(4), k)]) / 2
        for k in (1, 2, 3, 4)
    ]
    assert found.passed == pytest.approx(expected) and found.greedy == 0.5
    assert curves.by_k({"s": [row("A")], "t": []}, 1) is None


def test_flips_by_hand() -> None:
    def items(**right: bool) -> dict[str, Outcome]:
        return {name: Outcome(name, greedy, greedy, 0) for name, greedy in right.items()}

    base = items(kept=True, lost=True, gained=False, never=False, gone=True)
    other = items(kept=True, lost=False, gained=True, never=False)
    assert curves.flips(base, other) == Flips(items=4, gained=["gained"], lost=["lost"])


def measures(**changes: Any) -> GroundTruth:
    even = {"A": 25, "B": 25, "C": 25, "D": 25}
    rate = Rate(value=1.0, n=100)
    rates = {"duplicates": 0.1, "kept": 0.5, "mean_dual_track": 0.2, "intuitive_accuracy": 0.7}
    healthy = GroundTruth(
        written=100,
        valid=rate,
        truncated=rate,
        distinct=rate,
        letters_intuitive=even,
        letter_entropy_intuitive=None,
        letters_majority=even,
        effective_families=10.0,
        **{name: Rate(value=value, n=100) for name, value in rates.items()},
    )
    return healthy.model_copy(update=changes)


def rate(value: float | None, n: int = 100) -> Rate:
    return Rate(value=value, n=n)


@pytest.mark.parametrize(
    ("rule", "now"),
    [
        ("one-letter-intuition", {"letters_intuitive": {"A": 5, "B": 3, "C": 0, "D": 92}}),
        ("one-letter-labels", {"letters_majority": {"A": 61, "B": 13, "C": 13, "D": 13}}),
        ("duplicates", {"duplicates": rate(0.51)}),
        ("few-families", {"effective_families": 2.4}),
        ("families-halved", {"effective_families": 4.9}),
        ("starved-filter", {"kept": rate(0.09)}),
        ("yield-halved", {"kept": rate(0.24)}),
        ("reward-without-yield", {"mean_dual_track": rate(0.3), "kept": rate(0.39)}),
        ("intuition-below-chance", {"intuitive_accuracy": rate(0.2)}),
    ],
)
def test_each_rule_fires_where_it_should(rule: str, now: dict[str, Any]) -> None:
    assert alarms.alarms({1: measures(), 2: measures()}) == []
    assert rule in {one.rule for one in alarms.alarms({1: measures(), 2: measures(**now)})}
    assert {one.name for one in alarms.RULES} >= {rule}


def test_no_rule_speaks_of_what_was_not_measured_or_of_a_handful() -> None:
    unknown = {
        "duplicates": rate(None),
        "kept": None,
        "mean_dual_track": None,
        "intuitive_accuracy": None,
        "effective_families": None,
    }
    assert alarms.alarms({1: measures(), 2: measures(**unknown)}) == []
    assert alarms.alarms({1: measures(valid=rate(1.0, 19), effective_families=1.0)}) == []
