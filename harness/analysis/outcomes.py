"""What each held-out item came to, small enough to travel inside results.json: paired statistics need it long
after a run's folder is gone.

One block a suite: `ids` (newline-separated), `images` (for each item the index of its picture, None where
every item has its own), and by model the outcomes as text, an item each in the order of `ids`: `greedy` and
`majority` as "1", "0" or "-" (not answered), `right` as the number of right samples, space-separated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.evals import metrics

ABSENT = "-"


class Outcome(NamedTuple):
    """One item under one model: which picture it is about, whether the greedy answer and the majority are
    right, how many samples are."""

    image: str
    greedy: bool
    majority: bool
    right: int


def reader(metric: str, samples: int) -> Callable[[Outcome], float]:
    """Of an outcome its value in [0, 1] by the metric's name ("greedy", "sampled", "maj@n", "pass@n")."""
    if metric == "sampled":
        return lambda outcome: outcome.right / samples
    if metric.startswith("pass@"):
        return lambda outcome: float(outcome.right > 0)
    if metric.startswith("maj@"):
        return lambda outcome: float(outcome.majority)
    return lambda outcome: float(outcome.greedy)


Outcomes = dict[str, dict[str, dict[str, Outcome]]]  # suite -> model -> item id -> outcome


def encode(
    rows: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], suites: Sequence[str]
) -> dict[str, Any]:
    """Rows of samples.jsonl by model and suite -> the block of each suite that some model answered."""
    found = {}
    for suite in suites:
        by_model = {
            model: {row["item_id"]: row for row in by_suite.get(suite, ())}
            for model, by_suite in rows.items()
        }
        known = {item: row["image_sha256"] for items in by_model.values() for item, row in items.items()}
        if known:
            pictures = {image: index for index, image in enumerate(dict.fromkeys(known.values()))}
            shared = len(pictures) < len(known)
            found[suite] = {
                "ids": "\n".join(known),
                "images": " ".join(str(pictures[image]) for image in known.values()) if shared else None,
                "outcomes": {
                    model: _columns([items.get(item) for item in known])
                    for model, items in by_model.items()
                    if items
                },
            }
    return found


def _columns(rows: Sequence[Mapping[str, Any] | None]) -> dict[str, str]:
    return {
        "greedy": "".join(ABSENT if row is None else str(int(metrics.greedy_correct(row))) for row in rows),
        "majority": "".join(
            ABSENT if row is None else str(int(metrics.majority_correct(row))) for row in rows
        ),
        "right": " ".join(ABSENT if row is None else str(metrics.right_samples(row)) for row in rows),
    }


def decode(items: Mapping[str, Any]) -> Outcomes:
    """What `encode` wrote, as items again.

    Raises:
        ValueError: columns of different lengths.
    """
    return {
        suite: {model: _items(suite, block, columns) for model, columns in block["outcomes"].items()}
        for suite, block in items.items()
    }


def _items(suite: str, block: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Outcome]:
    ids = block["ids"].split("\n")
    images = block["images"].split() if block["images"] else ids
    rows = zip(ids, images, columns["greedy"], columns["majority"], columns["right"].split(), strict=True)
    return {
        item: Outcome(f"{suite}/{image}", greedy == "1", majority == "1", int(right))
        for item, image, greedy, majority, right in rows
        if greedy != ABSENT
    }
