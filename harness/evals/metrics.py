"""What the stored answers say: pure functions of the rows of samples.jsonl.

Unparsed answers are wrong everywhere and counted beside. Averages over suites and over families are macro
averages: each suite (each family) weighs the same, whatever its number of items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from vzero.voting import tally

Row = Mapping[str, Any]


def is_right(row: Row, answer: Row) -> bool:
    """Whether one of the row's answers is right: by the verdict stored with it (benchmarks), else if it is
    the gold one."""
    return bool(answer["right"]) if "right" in answer else answer["answer"] == row["gold"]


def greedy_correct(row: Row) -> bool:
    """Whether the greedy answer is right."""
    return is_right(row, row["greedy"])


def right_samples(row: Row) -> int:
    """How many of the sampled answers are right."""
    return sum(is_right(row, one) for one in row["sampled"])


def sampled_accuracy(row: Row) -> float:
    """Share of the sampled answers that are right, in [0, 1]."""
    return right_samples(row) / len(row["sampled"])


def majority_correct(row: Row) -> bool:
    """Whether the most frequent parsed answer is right: ties go to the answer seen first, no parsed answer is
    wrong."""
    return majority_right(row, row["sampled"])


def majority_right(row: Row, answers: Sequence[Row]) -> bool:
    """The same of some of the row's answers."""
    names = [one["answer"] for one in answers]
    chosen = tally(names).answer
    return chosen is not None and is_right(row, answers[names.index(chosen)])


def pass_at(row: Row, k: int) -> float:
    """Probability that at least one of k samples is right, without bias from the n >= k drawn.

    1 - C(n - c, k) / C(n, k) with c right of n: Chen et al. 2021 (arXiv 2107.03374), equation 1. For k = n it
    is 1 or 0: any right.

    Raises:
        ValueError: k is not in 1..n.
    """
    n = len(row["sampled"])
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 <= k <= {n}, the number of samples")
    return 1.0 - math.comb(n - right_samples(row), k) / math.comb(n, k)


@dataclass(frozen=True)
class Scores:
    """Accuracies of one set of items; all shares in [0, 1].

    Attributes:
        scored: items with all their answers.
        expected: items there should be; where it exceeds `scored`, the set is incomplete and no verdict may
            rest on it.
        samples: sampled answers an item, n.
        greedy: accuracy of the greedy answers.
        sampled: mean accuracy of the sampled answers.
        majority: accuracy of their majorities (maj@n).
        pass_at: k -> pass@k, for k = 1, 2, 5 and n as far as k <= n.
        unparsed_greedy: greedy answers without a letter; of `scored`.
        unparsed_sampled: sampled answers without a letter; of `scored * samples`.
        truncated_greedy: greedy answers that ran into the token limit; of `scored`.
        truncated_sampled: sampled ones; of `scored * samples`.
    """

    scored: int
    expected: int
    samples: int
    greedy: float
    sampled: float
    majority: float
    pass_at: dict[int, float]
    unparsed_greedy: int
    unparsed_sampled: int
    truncated_greedy: int
    truncated_sampled: int

    @property
    def headroom(self) -> float:
        """Majority minus greedy: what a Solver gains by learning to say at once what its own votes agree
        on."""
        return self.majority - self.greedy


def score(rows: Sequence[Row], expected: int | None = None) -> Scores:
    """All numbers of one set of items. `expected` defaults to the number of rows.

    Raises:
        ValueError: no rows, or rows with different numbers of samples.
    """
    sizes = {len(row["sampled"]) for row in rows}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"cannot score {len(rows)} rows with {sorted(sizes)} samples each")
    n = sizes.pop()
    greedy = [row["greedy"] for row in rows]
    sampled = [one for row in rows for one in row["sampled"]]
    return Scores(
        scored=len(rows),
        expected=len(rows) if expected is None else expected,
        samples=n,
        greedy=fmean(map(greedy_correct, rows)),
        sampled=fmean(map(sampled_accuracy, rows)),
        majority=fmean(map(majority_correct, rows)),
        pass_at={k: fmean(pass_at(row, k) for row in rows) for k in sorted({1, 2, 5, n}) if k <= n},
        unparsed_greedy=_unparsed(greedy),
        unparsed_sampled=_unparsed(sampled),
        truncated_greedy=_cut_off(greedy),
        truncated_sampled=_cut_off(sampled),
    )


def _unparsed(answers: Sequence[Row]) -> int:
    return sum(one["answer"] is None for one in answers)


def _cut_off(answers: Sequence[Row]) -> int:
    return sum(one["finish_reason"] == "length" for one in answers)


def by_suite(rows: Sequence[Row], expected: Mapping[str, int] | None = None) -> dict[str, Scores]:
    """Scores of each suite, in order of first appearance; `expected` is items by suite."""
    return {
        suite: score(group, (expected or {}).get(suite))
        for suite, group in _groups(rows, lambda row: row["suite"]).items()
    }


def _groups(rows: Sequence[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
