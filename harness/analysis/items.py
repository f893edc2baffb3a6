"""What each held-out item came to under each model: everything paired is computed from these outcomes. They
are small enough to travel inside results.json, where they outlive the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from harness.analysis.measures import Columns, SuiteItems
from harness.evals import metrics
from harness.runs.sealed import Row
from harness.stats import Pairs

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


ModelItems = Mapping[str, Outcome]  # item id -> outcome
Values = Mapping[str, tuple[str, float]]  # item id -> (image, value in [0, 1])
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
    return {item: (one.image, one.value(metric, samples)) for item, one in items.items()}


def mean_values(runs: Sequence[Values]) -> Values:
    """Each item's mean value over the runs that answered it."""
    items = {item: image for run in runs for item, (image, _) in run.items()}
    return {
        item: (image, fmean(run[item][1] for run in runs if item in run)) for item, image in items.items()
    }


def pair(base: Values, other: Values) -> Pairs | None:
    """The items that both answered, in the order of `base`'s; None where there are none."""
    common = [item for item in base if item in other]
    if not common:
        return None
    return Pairs(
        [base[item][1] for item in common],
        [other[item][1] for item in common],
        [base[item][0] for item in common],
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


def decode(items: Mapping[str, SuiteItems]) -> Outcomes:
    """What `encode` wrote, as items again.

    Raises:
        ValueError: columns of different lengths.
    """
    return {
        suite: {model: _items(suite, block, columns) for model, columns in block.outcomes.items()}
        for suite, block in items.items()
    }


def _items(suite: str, block: SuiteItems, columns: Columns) -> dict[str, Outcome]:
    ids = block.ids.split("\n")
    images = block.images.split() if block.images else ids
    rows = zip(ids, images, columns.greedy, columns.majority, columns.right.split(), strict=True)
    return {
        item: Outcome(f"{suite}/{image}", greedy == "1", majority == "1", int(right))
        for item, image, greedy, majority, right in rows
        if greedy != ABSENT
    }
