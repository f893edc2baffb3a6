"""What the stored answers to one item say: pure functions of a row of samples.jsonl. Answers that cannot be
read are wrong everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vzero.voting import tally

Row = Mapping[str, Any]


def is_right(row: Row, answer: Row) -> bool:
    """Whether one of the row's answers is right: by the verified verdict stored with it (benchmarks), else if
    it is the gold one."""
    return bool(answer["verified"]) if "verified" in answer else answer["answer"] == row["gold"]


def greedy_correct(row: Row) -> bool:
    """Whether the greedy answer is right."""
    return is_right(row, row["greedy"])


def right_samples(row: Row) -> int:
    """How many of the sampled answers are right."""
    return sum(is_right(row, one) for one in row["sampled"])


def majority_correct(row: Row) -> bool:
    """Whether the most frequent parsed answer is right: ties go to the answer seen first, no parsed answer is
    wrong."""
    names = [one["answer"] for one in row["sampled"]]
    chosen = tally(names).answer
    return chosen is not None and is_right(row, row["sampled"][names.index(chosen)])


def pass_at(right: int, n: int, k: int) -> float:
    """Probability that at least one of k samples is right, without bias from the n >= k drawn, of which
    `right` are.

    1 - C(n - c, k) / C(n, k) with c right of n: Chen et al. 2021 (arXiv 2107.03374), equation 1. For k = n it
    is 1 or 0: any right.

    Raises:
        ValueError: k is not in 1..n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs 1 <= k <= {n}, the number of samples")
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)
