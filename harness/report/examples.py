"""Answers that changed sides, to look at. Chosen by a hash of their ids: the same each time, and not by how
they look."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.accuracies import model_name
from harness.evals.metrics import greedy_correct
from harness.report.pictures import Picture, picture
from harness.runs.sealed import Row, Run

if TYPE_CHECKING:  # the pocket world is loaded only where its suites were asked
    from vzero.pocket.suites import PocketItem

ANSWERS = 12


@dataclass(frozen=True)
class ChangedAnswer:
    """A held-out question whose greedy answer changed sides: (letter, text) `before` from the base, `after`
    from the last Solver. Question and picture are None where the suite keeps them elsewhere."""

    suite: str
    item_id: str
    family: str
    gold: str
    gained: bool
    before: tuple[str | None, str]
    after: tuple[str | None, str]
    question: str | None
    picture: Picture | None


def changed_answers(run: Run, count: int = ANSWERS) -> tuple[ChangedAnswer, ...]:
    """Of the last model against the base: as many lost as gained, where there are enough of both."""
    rows = {model_name(one): one.rows("samples.jsonl") for one in run.of_kind("evaluate")}
    trained = [model for model in rows if model != "base"]
    if "base" not in rows or not trained:
        return ()
    after = {(row["suite"], row["item_id"]): row for row in rows[trained[-1]]}
    pairs = [(row, after[key]) for row in rows["base"] if (key := (row["suite"], row["item_id"])) in after]
    pairs.sort(key=lambda pair: hashlib.sha256(pair[0]["item_id"].encode("utf-8", "replace")).hexdigest())
    lost = [(one, two) for one, two in pairs if greedy_correct(one) and not greedy_correct(two)]
    gained = [(one, two) for one, two in pairs if greedy_correct(two) and not greedy_correct(one)]
    half = count // 2
    chosen = [*lost[: max(half, count - len(gained))], *gained[: max(half, count - len(lost))]][:count]
    shown = _drawn(run, {one["suite"] for one, _ in chosen})
    return tuple(_changed(one, two, shown.get((one["suite"], one["item_id"]))) for one, two in chosen)


def _drawn(run: Run, suites: set[str]) -> dict[tuple[str, str], PocketItem]:
    """Every item of the pocket suites among `suites`."""
    from vzero.pocket.suites import SUITES, items

    config = run.preset.evaluation
    return {
        (suite, item.item_id): item
        for suite in sorted(suites)
        if suite in SUITES
        for item in items(suite, config.split, config.items_per_family)
    }


def _changed(before: Row, after: Row, shown: PocketItem | None) -> ChangedAnswer:
    answers = [(one["greedy"]["answer"], one["greedy"]["text"]) for one in (before, after)]
    return ChangedAnswer(
        suite=before["suite"],
        item_id=before["item_id"],
        family=before["family"],
        gold=before["gold"],
        gained=greedy_correct(after),
        before=answers[0],
        after=answers[1],
        question=shown.question if shown else None,
        picture=picture(shown.image) if shown else None,
    )
