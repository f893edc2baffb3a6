"""What each held-out item came to under each model: everything paired is computed from these outcomes. They
are small enough to travel inside results.json, where they outlive the run's folder."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.measures import Columns, SuiteItems
from harness.evals import metrics
from harness.runs.sealed import Row
from harness.stats import Pairs, Sample

ABSENT = "-"


class Outcome(NamedTuple):
    """One item under one model: which picture it is about, whether the greedy answer and the majority are
    right, how many of the samples are."""

    image: str
    greedy: bool
    majority: bool
    right: int

    def value(self, metric: str, samples: int) -> float:
        """In [0, 1], by the metric's name."""
        if metric == "sampled":
            return self.right / samples
        if metric.startswith("pass@"):
            return float(self.right > 0)
        return float(self.majority if metric.startswith("maj@") else self.greedy)


@dataclass(frozen=True)
class Values(Sample):
    """The value of each item by one metric, in [0, 1], in the order they were asked; `items` are ids."""

    items: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model made of each item it answered, as columns of one length."""

    items: tuple[str, ...]
    images: tuple[str, ...]
    greedy: NDArray[np.bool_]
    majority: NDArray[np.bool_]
    right: NDArray[np.int64]

    def __eq__(self, other: object) -> bool:
        """Whether both made the same of the same items."""
        return self is other or (
            isinstance(other, Answers)
            and (self.items, self.images) == (other.items, other.images)
            and np.array_equal(self.right, other.right)
            and np.array_equal(self.greedy, other.greedy)
            and np.array_equal(self.majority, other.majority)
        )

    def values(self, metric: str, samples: int) -> Values:
        """By the metric's name."""
        if metric == "sampled":
            return Values(self.right / samples, self.images, self.items)
        voted = self.majority if metric.startswith("maj@") else self.greedy
        found = self.right > 0 if metric.startswith("pass@") else voted
        return Values(found.astype(np.float64), self.images, self.items)


ModelItems = Mapping[str, Outcome]  # item id -> outcome
Outcomes = dict[str, dict[str, dict[str, Outcome]]]  # suite -> model -> item id -> outcome
ModelRows = dict[str, dict[str, list[Row]]]  # model -> suite -> rows of samples.jsonl


def metric_names(samples: int) -> list[str]:
    """Greedy accuracy, mean accuracy of the samples, accuracy of their majority, share of items with any
    right sample."""
    return ["greedy", "sampled", f"maj@{samples}", f"pass@{samples}"]


def outcomes_of(rows: ModelRows) -> Outcomes:
    """Outcomes of stored answers; those that cannot be read are wrong."""
    found: Outcomes = {}
    for model, suites in rows.items():
        for suite, its_rows in suites.items():
            if its_rows:
                found.setdefault(suite, {})[model] = {row["item_id"]: _outcome(row) for row in its_rows}
    return found


def _outcome(row: Row) -> Outcome:
    right = metrics.right_samples(row)
    return Outcome(row["image_sha256"], metrics.greedy_correct(row), metrics.majority_correct(row), right)


def values_of(items: ModelItems, metric: str, samples: int) -> Values:
    """The value of each item by one metric."""
    images = tuple(one.image for one in items.values())
    return Values([one.value(metric, samples) for one in items.values()], images, tuple(items))


def mean_values(runs: Sequence[Values]) -> Values:
    """Each item's mean value over the runs that answered it."""
    found: dict[str, tuple[Hashable, list[float]]] = {}
    for run in runs:
        for item, image, value in zip(run.items, run.images, run.values, strict=True):
            found.setdefault(item, (image, []))[1].append(value)
    means, images = [fmean(values) for _, values in found.values()], [image for image, _ in found.values()]
    return Values(means, tuple(images), tuple(found))


def pair(base: Values, other: Values) -> Pairs | None:
    """The items that both answered, in the order of `base`'s; None where there are none."""
    if base.items == other.items and base.items:
        return Pairs(base.values, other.values, base.images)
    place = {item: i for i, item in enumerate(other.items)}
    common = [(i, place[item]) for i, item in enumerate(base.items) if item in place]
    if not common:
        return None
    return Pairs(
        [base.values[i] for i, _ in common],
        [other.values[j] for _, j in common],
        [base.images[i] for i, _ in common],
    )


def encode(outcomes: Outcomes, suites: Sequence[str]) -> dict[str, SuiteItems]:
    """The block of each suite that some model answered."""
    found = {}
    for suite in suites:
        if by_model := outcomes.get(suite):
            known = {item: one.image for items in by_model.values() for item, one in items.items()}
            pictures = {image: str(index) for index, image in enumerate(dict.fromkeys(known.values()))}
            shared = len(pictures) < len(known)
            found[suite] = SuiteItems(
                ids="\n".join(known),
                images=" ".join(pictures[image] for image in known.values()) if shared else None,
                outcomes={
                    model: _columns([items.get(item) for item in known]) for model, items in by_model.items()
                },
            )
    return found


def _columns(outcomes: Sequence[Outcome | None]) -> Columns:
    return Columns(
        greedy="".join(ABSENT if one is None else str(int(one.greedy)) for one in outcomes),
        majority="".join(ABSENT if one is None else str(int(one.majority)) for one in outcomes),
        right=" ".join(ABSENT if one is None else str(one.right) for one in outcomes),
    )


def decode(items: Mapping[str, SuiteItems]) -> dict[str, dict[str, Answers]]:
    """What `encode` wrote: by suite and model.

    Raises:
        ValueError: columns of different lengths.
    """
    return {
        suite: {
            model: _answers(suite, block.ids, block.images, columns)
            for model, columns in block.outcomes.items()
        }
        for suite, block in items.items()
    }


@lru_cache(maxsize=256)
def _names(suite: str, ids: str, images: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids of items, and names of their images; runs of a grid share them."""
    names = tuple(ids.split("\n"))
    return names, tuple(f"{suite}/{image}" for image in (images.split() if images else names))


@lru_cache(maxsize=256)
def _answers(suite: str, ids: str, numbers: str | None, columns: Columns) -> Answers:
    """Runs of a grid share those of their base."""
    items, images = _names(suite, ids, numbers)
    greedy, majority = (
        np.frombuffer(one.encode("utf-32-le"), np.uint32) for one in (columns.greedy, columns.majority)
    )
    right: Sequence[str] = columns.right.split()
    if {len(images), len(greedy), len(majority), len(right)} != {len(items)}:
        raise ValueError("columns of different lengths")
    answered = greedy != ord(ABSENT)
    if not answered.all():
        greedy, majority = greedy[answered], majority[answered]
        items, images, right = (tuple(compress(one, answered)) for one in (items, images, right))
    wins = np.array([*map(int, right)], np.int64)
    return Answers(items, images, greedy == ord("1"), majority == ord("1"), wins)
