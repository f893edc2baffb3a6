"""Held-out questions whose greedy answer changed sides, with their pictures: what was learnt and what was
lost, to look at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from harness.analysis.accuracies import model_name
from harness.evals.metrics import greedy_correct
from harness.report.pictures import data_uri
from harness.runs.sealed import Run

EXAMPLES = 12  # half of them lost, half gained, where there are enough


@dataclass(frozen=True)
class Flip:
    """One changed answer. `picture` is a data URI, None where the suite's pictures are not at hand; so is
    `question`."""

    suite: str
    item_id: str
    family: str
    gold: str
    gained: bool
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    question: str | None
    picture: str | None
    small: bool


def choose(run: Run, count: int = EXAMPLES) -> tuple[Flip, ...]:
    """Of the last model against the base: as many lost as gained where there are enough, chosen by a hash of
    their ids."""
    rows = {model_name(one): one.rows("samples.jsonl") for one in run.of_kind("evaluate")}
    trained = [model for model in rows if model != "base"]
    if "base" not in rows or not trained:
        return ()
    after = {(row["suite"], row["item_id"]): row for row in rows[trained[-1]]}
    pairs = [(row, after[key]) for row in rows["base"] if (key := (row["suite"], row["item_id"])) in after]
    changed = sorted(
        ((one, two) for one, two in pairs if greedy_correct(one) != greedy_correct(two)), key=_rank
    )
    lost = [pair for pair in changed if greedy_correct(pair[0])]
    gained = [pair for pair in changed if not greedy_correct(pair[0])]
    half = count // 2
    chosen = [*lost[: max(half, count - len(gained))], *gained[: max(half, count - len(lost))]][:count]
    shown = _drawn(run, {row["suite"] for row, _ in chosen})
    return tuple(_flip(one, two, shown.get((one["suite"], one["item_id"]))) for one, two in chosen)


def _rank(pair: tuple[Mapping[str, Any], Mapping[str, Any]]) -> str:
    return hashlib.sha256(pair[0]["item_id"].encode("utf-8", "replace")).hexdigest()


def _drawn(run: Run, suites: Sequence[str] | set[str]) -> dict[tuple[str, str], tuple[str, Image.Image]]:
    """(question, picture) of every item of the pocket suites among `suites`, drawn again; other suites keep
    theirs elsewhere."""
    from vzero.pocket.suites import SUITES, items

    config = run.preset.evaluation
    return {
        (suite, item.item_id): (item.question, item.image)
        for suite in sorted(suites)
        if suite in SUITES
        for item in items(suite, config.split, config.items_per_family)
    }


def _flip(before: Mapping[str, Any], after: Mapping[str, Any], shown: tuple[str, Image.Image] | None) -> Flip:
    picture, small = (None, False) if shown is None else data_uri(shown[1])
    return Flip(
        before["suite"],
        before["item_id"],
        before["family"],
        before["gold"],
        greedy_correct(after),
        before["greedy"],
        after["greedy"],
        None if shown is None else shown[0],
        picture,
        small,
    )
